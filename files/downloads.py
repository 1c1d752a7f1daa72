"""Where downloaded weights are searched for, and whether a server answers."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

# This folder is searched for weights, in the working folder and in the clone.
PRETRAINED_FOLDER = "pretrained_models"
CLONE = Path(__file__).parents[1]
# Time limit for an answer of a server (seconds). The hub's own client retries for half a minute.
PROBE_SECONDS = 5.0


def probe(url: str, headers: Mapping[str, str] | None = None) -> Callable[[], str | None]:
    """Start to read a URL in the background.

    Returns
    -------
    callable
        Function that waits for the result, a few seconds at most: why the URL cannot be read, or None if it can.
    """
    problem: list[str | None] = [f"no answer within {PROBE_SECONDS:g} s"]

    def read() -> None:
        from urllib.request import Request, urlopen  # here, since the scripts import `files` for --help

        try:
            # Read the first byte: the server may answer while the server that it redirects to does not.
            request = Request(url, headers={**(headers or {}), "Range": "bytes=0-0"})
            with urlopen(request, timeout=PROBE_SECONDS) as response:
                response.read(1)
            problem[0] = None
        except Exception as error:  # after any error, the file cannot be downloaded
            problem[0] = first_line(error)

    # In a thread, because the look-up of a host name has no time-out.
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    started = time.monotonic()

    def wait() -> str | None:
        thread.join(max(started + PROBE_SECONDS + 1 - time.monotonic(), 0))
        return problem[0]

    return wait


def first_line(error: Exception) -> str:
    """Return the first line of the message of another library's error, at most 200 characters."""
    message = getattr(error, "reason", None) or error  # urllib describes errors of the network in `reason`
    return (str(message).strip() or type(error).__name__).splitlines()[0][:200]
