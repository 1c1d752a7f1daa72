"""How far a training run is."""

from dataclasses import dataclass, field
from typing import Any

from files import Record


@dataclass
class State:
    """How far a run is.

    Attributes
    ----------
    epoch, step : int
        The next step, and the epoch that it belongs to.
    rows : list of dict
        Figures of the epochs that are complete.
    sums : dict
        For each network the sums of this epoch: crops, losses, correct answers, seconds.
    best : dict
        Epoch, score and weights of the best epoch by validation.
    """

    epoch: int = 0
    step: int = 0
    rows: list[Record] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """Add to a sum of this epoch."""
        self.sums[name] = self.sums.get(name, 0.0) + value

    def start_next_epoch(self) -> None:
        """Go to the first step of the next epoch."""
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}
