"""Find narrow-band audio: speakers of a training corpus, and recordings that differ from what was learned."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpora import Indices
from embedding import Row
from encoders import MIN_BANDWIDTH
from features.feature_set import FeatureSet
from files import count_of

logger = logging.getLogger(__name__)

# The learned bandwidth is the one that all but this share of the recordings reach.
LOW_QUANTILE = 0.05
# Audio is narrower than other audio if its bandwidth is below this share of the other's.
NARROW_SHARE = 0.75
# Values of max_bandwidth that are suggested are multiples of this (Hz).
STEP = 500
# Number of speakers or files that are named.
N_NAMED = 3


def learned_bandwidth(features: FeatureSet, rows: Indices | None = None) -> float | None:
    """Return the bandwidth (Hz) that 95 % of the recordings reach.

    Parameters
    ----------
    features : FeatureSet
    rows : ndarray, optional
        Rows that something was learned from; by default all.

    Returns
    -------
    float or None
        None if the bandwidth of no recording is known.
    """
    if features.audio is None:
        return None
    widths = features.audio.bandwidth.numpy()
    known = _known(widths if rows is None else widths[rows])
    return float(np.quantile(known, LOW_QUANTILE)) if len(known) else None


def find_narrow_speakers(features: FeatureSet) -> list[str]:
    """Describe the speakers whose recordings have a narrower bandwidth than those of others, in a sentence.

    Such a difference is a shortcut: a head can tell these speakers apart by their recording channel.
    """
    if features.audio is None:
        return []
    order = np.argsort(features.labels.numpy(), kind="stable")
    labels, begins = np.unique(features.labels.numpy()[order], return_index=True)
    groups = map(_known, np.split(features.audio.bandwidth.numpy()[order], begins[1:]))
    medians = {label: float(np.median(own)) for label, own in zip(labels.tolist(), groups, strict=True) if len(own)}
    widest = max(medians.values(), default=math.nan)
    narrow = {label: median for label, median in medians.items() if median < NARROW_SHARE * widest}
    if not narrow:
        return []
    listing = _listing([f"{features.speakers[label]}: {_in_khz(median)}" for label, median in narrow.items()])
    return [
        f"the bandwidth differs by speaker, up to {_in_khz(widest)} but less for {len(narrow)} of "
        f"{count_of(len(medians), 'speaker')} ({listing}): heads may learn it instead of the voice; "
        f"give --max_bandwidth {_limit_for(narrow.values())}"
    ]


def warn_of_narrow_rows(rows: Iterable[Row], learned: float | None) -> Iterator[Row]:
    """Yield rows as they are; at the end, warn of files whose bandwidth is narrower than what was learned.

    Parameters
    ----------
    rows : iterable of Row
        A file with several rows has the bandwidth of the widest.
    learned : float or None
        Bandwidth that was learned (Hz; `learned_bandwidth`); None does not warn.
    """
    widths: dict[Path, float] = {}
    for row in rows:
        if row.vector is not None:
            path = row.utterance.path
            widths[path] = float(np.fmax(row.bandwidth, widths.get(path, math.nan)))  # NaN only if both are
        yield row
    warn_of_narrow_recordings({str(path): width for path, width in widths.items()}, learned)


def warn_of_narrow_recordings(widths: Mapping[str, float], learned: float | None) -> None:
    """Warn of recordings whose bandwidth is narrower than what was learned.

    Parameters
    ----------
    widths : mapping
        Bandwidth of each recording (Hz), by its path or id; NaN if it is not known.
    learned : float or None
        Bandwidth that was learned (Hz; `learned_bandwidth`); None does not warn.
    """
    narrow = {name: width for name, width in widths.items() if width < NARROW_SHARE * (learned or 0.0)}
    if narrow:
        logger.warning(
            "The bandwidth of %d of %s is narrower than that of the training recordings, %s (%s), so that results can "
            "be wrong although their probabilities are high. Give recordings of the full bandwidth, or train on "
            "features extracted with --max_bandwidth %d.",
            len(narrow),
            count_of(len(widths), "recording"),
            _in_khz(learned or 0.0),
            _listing([f"{name}: {_in_khz(width)}" for name, width in narrow.items()]),
            _limit_for(narrow.values()),
        )


def _known(widths: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the bandwidths without those that are not known."""
    known: NDArray[np.float32] = widths[~np.isnan(widths)]
    return known


def _limit_for(widths: Iterable[float]) -> int:
    """Return the value of ``max_bandwidth`` (Hz) that limits all recordings to the narrowest."""
    return max(STEP * math.ceil(min(widths) / STEP), MIN_BANDWIDTH)


def _in_khz(hertz: float) -> str:
    return f"{hertz / 1000:.1f} kHz"


def _listing(names: list[str]) -> str:
    return ", ".join(names[:N_NAMED]) + (", ..." if len(names) > N_NAMED else "")
