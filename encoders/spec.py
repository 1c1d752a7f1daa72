"""The spec of an encoder: a dict of plain values with everything that changes its output."""

import hashlib
import json
import logging
import math
from typing import Any

logger = logging.getLogger(__name__)

Spec = dict[str, Any]

# Keys that are recorded but not compared: another precision gives nearly the same vectors, another source can give the
# same weights, what the weights were trained on does not change the output, and the class of an encoder may be renamed.
RECORDED_ONLY = frozenset({"precision", "source", "trained_on", "trained_speakers", "pretrained_on", "class"})


def windows_of(spec: Spec) -> tuple[int, int] | None:
    """Return the length and the hop of an encoder's windows (samples), or None if it does not use windows."""
    options = spec["options"]
    if options.get("window") is None:
        return None
    return round(options["window"] * spec["sample_rate"]), max(round(options["hop"] * spec["sample_rate"]), 1)


def pieces_of(spec: Spec, n_samples: int) -> tuple[int, int] | None:
    """Return the length and the hop of the pieces (samples) whose vectors are averaged for a recording.

    These are the encoder's windows. An encoder without windows may cut recordings above ``whole_seconds`` into adjacent
    pieces of ``piece_seconds``; it embeds other recordings whole, and the result is None.
    """
    windows = windows_of(spec)
    if windows is None and n_samples > spec.get("whole_seconds", math.inf) * spec["sample_rate"]:
        size = round(spec["piece_seconds"] * spec["sample_rate"])
        return size, size
    return windows


def spec_differences(found: Spec, wanted: Spec) -> list[str]:
    """List, as phrases, the differences that make vectors of one spec unusable as vectors of another."""
    found, wanted = _flat(found), _flat(wanted)
    return [
        f"{key} is {_short(found.get(key))} there, {_short(wanted.get(key))} here"
        for key in sorted(found.keys() | wanted.keys())
        if key not in RECORDED_ONLY and found.get(key) != wanted.get(key)
    ]


def with_detection_of(spec: Spec, other: Spec) -> Spec:
    """Return a spec with the speech detection of another, or without one if the other has none."""
    own = {key: value for key, value in spec.items() if key != "speech_detection"}
    return own | {key: value for key, value in other.items() if key == "speech_detection"}


def warn_of_detection(what: str, found: Spec, wanted: Spec) -> None:
    """Warn if pauses are left out of recordings in another way than before; the vectors can be used.

    Parameters
    ----------
    what : str
        Subject of the warning, in the plural, such as ``The recordings that the verifier was trained on``.
    found, wanted : dict
        Spec of the earlier vectors, and of the encoder in use.
    """
    if found.get("speech_detection") != wanted.get("speech_detection"):
        before, now = (describe_detection(spec) for spec in (found, wanted))
        logger.warning(
            "%s were embedded %s, these are embedded %s. They can be compared; it is better to embed both alike.",
            what, before, now,
        )  # fmt: skip


def describe_detection(spec: Spec) -> str:
    """Describe how recordings are embedded with respect to their pauses."""
    detection = spec.get("speech_detection")
    if detection is None:
        return "with their pauses"
    settings = ", ".join(f"{key} {value:g}" for key, value in detection.items() if isinstance(value, float))
    return f"without pauses ({settings})"


def _short(value: Any) -> str:
    """Format a value; digests are cut to 8 digits."""
    if isinstance(value, dict):
        return f"({', '.join(f'{key} {_short(each)}' for key, each in value.items())})"
    return repr(value[:8] if isinstance(value, str) and len(value) == 64 else value)


def _flat(spec: Spec) -> Spec:
    """Return a spec with its options at the top level."""
    return {**{key: value for key, value in spec.items() if key != "options"}, **spec.get("options", {})}


def spec_digest(spec: Spec) -> str:
    """Return the digest of a spec (64 hex digits); specs without differences have the same digest."""
    content = {key: value for key, value in spec.items() if key not in RECORDED_ONLY}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def warn_of_precision(what: str, found: Spec, wanted: Spec, *, advice: str = "") -> None:
    """Warn if vectors were computed in another precision: they differ slightly, but can be used.

    Parameters
    ----------
    what : str
        Subject of the warning, in the plural, such as ``The features``.
    found, wanted : dict
        Spec of the vectors, and of the encoder in use.
    advice : str
        Sentence that is added to the warning, after a space.
    """
    if found.get("precision") != wanted.get("precision"):
        logger.warning(
            "%s were computed in %s, now it is %s; the vectors differ slightly.%s",
            what, found.get("precision"), wanted.get("precision"), advice,
        )  # fmt: skip
