"""The options of encoders that average windows over a long recording."""

from dataclasses import dataclass
from typing import ClassVar

from encoders.base import EncoderError


@dataclass(frozen=True)
class WindowOptions:
    """Options of which ``window`` and ``hop`` are two."""

    longest: ClassVar[float] = 3600.0  # seconds of a window
    shortest: ClassVar[float] = 0.025

    window: float | None = None
    """Seconds of the windows whose vectors are averaged over the whole recording; None takes clips whole."""
    hop: float | None = None
    """Seconds between the beginnings of two windows; by default half a window."""

    def __post_init__(self) -> None:
        for name in ("window", "hop"):
            value = getattr(self, name)
            if isinstance(value, int | float):
                object.__setattr__(self, name, float(value))  # 4 and 4.0 are one spec
            elif value is not None:
                raise EncoderError(f"{name} is {value!r}; expected a number of seconds.")
        if self.window is None and self.hop is None:
            return
        if self.window is None or not self.shortest <= self.window <= self.longest:
            raise EncoderError(
                f"window is {self.window} s; expected {self.shortest:g} to {self.longest:g} s for this encoder."
            )
        if not self.shortest / 2 <= (self.resolved_hop() or 0.0) <= self.window:
            raise EncoderError(
                f"hop is {self.hop} s; expected {self.shortest / 2:g} s to the window, {self.window:g} s."
            )

    def resolved_hop(self) -> float | None:
        """Return the hop, half a window if none was chosen (seconds)."""
        return self.window / 2 if self.window and self.hop is None else self.hop
