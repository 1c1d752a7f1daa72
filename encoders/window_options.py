"""Options of encoders that average windows over a long recording."""

from dataclasses import dataclass
from typing import ClassVar

from encoders.base import EncoderError


@dataclass(frozen=True)
class WindowOptions:
    """Base class of options with ``window`` and ``hop``."""

    max_window: ClassVar[float] = 3600.0  # seconds
    min_window: ClassVar[float] = 0.025

    window: float | None = None
    """Length of the windows whose vectors are averaged over a recording (seconds); None uses no windows."""
    hop: float | None = None
    """Time from the start of one window to the start of the next (seconds); by default half a window."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", _as_seconds("window", self.window))
        object.__setattr__(self, "hop", _as_seconds("hop", self.hop))
        if self.window is None:
            if self.hop is not None:
                raise EncoderError(f"hop is {self.hop:g} s, but window is not set; set window too.")
            return
        if not self.min_window <= self.window <= self.max_window:
            raise EncoderError(
                f"window is {self.window:g} s; expected {self.min_window:g} to {self.max_window:g} s for this encoder."
            )
        if not self.min_window / 2 <= (self.resolved_hop() or 0.0) <= self.window:
            raise EncoderError(
                f"hop is {self.hop:g} s; expected at least {self.min_window / 2:g} s and at most the window, "
                f"{self.window:g} s."
            )

    def resolved_hop(self) -> float | None:
        """Return the hop (seconds): the option, or half a window by default."""
        return self.window / 2 if self.window and self.hop is None else self.hop


def _as_seconds(name: str, value: float | None) -> float | None:
    """Return an option as a float, so that 4 and 4.0 give one spec."""
    if value is None:
        return None
    if not isinstance(value, int | float):
        raise EncoderError(f"{name} is {value!r}; expected a number of seconds.")
    return float(value)
