"""Start positions of the windows over a long recording."""


def window_starts(length: int, size: int, hop: int) -> list[int]:
    """Return the first sample of each window, so that the windows cover the whole recording.

    The windows start at 0, `hop`, 2 `hop`, ...; the last one ends where the recording ends. A recording that is not
    longer than a window has one window.

    Parameters
    ----------
    length : int
        Length of the recording (samples).
    size : int
        Length of a window (samples).
    hop : int
        Distance between the starts of two windows (samples), above 0.

    Examples
    --------
    >>> window_starts(27, size=10, hop=5)
    [0, 5, 10, 15, 17]
    >>> window_starts(8, size=10, hop=5)
    [0]
    """
    return [*range(0, length - size, hop), max(length - size, 0)]
