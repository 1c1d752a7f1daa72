"""Where the windows over a long recording begin."""


def window_starts(length: int, size: int, hop: int) -> list[int]:
    """Place windows over a recording so that all of it is heard.

    Parameters
    ----------
    length, size, hop : int
        Samples of the recording, of a window, and between the beginnings of two windows (`hop` > 0).

    Returns
    -------
    list of int
        First sample of each window: 0, `hop`, 2 `hop`, ..., and the last one ends where the recording does. A recording
        no longer than a window is one window.
    """
    return [*range(0, length - size, hop), max(length - size, 0)]
