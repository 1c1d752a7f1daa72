"""Lines for the progress bar and the log of a training run."""

import math
from collections.abc import Mapping, Sequence

from files import Record, format_percent


def describe_sums(sums: Mapping[str, float], networks: Sequence[str], n_ranks: int) -> str:
    """Describe an epoch so far: the mean loss and accuracy of each network, and the crops per second of all processes.

    Parameters
    ----------
    sums : mapping
        Sums of a process over the steps so far, as in `State`.
    networks : sequence of str
    n_ranks : int
        Number of processes.

    Examples
    --------
    >>> describe_sums({"crops": 64, "seconds": 0.5, "conv1d loss": 160, "conv1d correct": 16}, ["conv1d"], 1)
    'loss 2.500, accuracy 25.0 %, 128 crops/s'
    """
    crops = sums.get("crops", 0.0)
    if not crops:
        return ""
    parts = ["loss " + " / ".join(f"{sums[f'{name} loss'] / crops:.3f}" for name in networks)]
    shares = [format_percent(sums[f"{name} correct"] / crops) for name in networks if f"{name} correct" in sums]
    parts += [f"accuracy {' / '.join(shares)} %"] if shares else []
    return ", ".join([*parts, f"{n_ranks * crops / sums['seconds']:,.0f} crops/s"])


def describe_epoch(rows: Sequence[Record], is_best: bool) -> str:
    """Describe an epoch from its rows: training loss, validation accuracy or EER, speed, and whether it is the best."""
    train = [row for row in rows if row["part"] == "train"]
    parts = ["training loss " + " / ".join(f"{row['loss']:.3f}" for row in train)]
    for row in [row for row in rows if row["part"] == "validation"][-1:]:  # of several networks, the ensemble
        for name, key in (("accuracy", "accuracy"), ("EER", "eer")):
            if math.isfinite(row[key]):
                parts.append(f"validation {name} {format_percent(row[key])} %")
                break
    parts.append(f"{train[0]['crops_per_second']:,.0f} crops/s")
    return ", ".join(parts) + ("; the best so far" if is_best else "")
