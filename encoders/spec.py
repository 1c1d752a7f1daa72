"""An encoder's spec: the plain dict of everything that changes its output."""

import hashlib
import json
from typing import Any

Spec = dict[str, Any]

# Another precision gives nearly the same vectors, and the same weights may come from elsewhere: these are recorded, and
# do not divide files.
RECORDED_ONLY = frozenset({"precision", "source"})


def windows_of(spec: Spec) -> tuple[int, int] | None:
    """Return the length of an encoder's windows and the hop between them (samples), or None if it takes clips whole."""
    options = spec["options"]
    if options.get("window") is None:
        return None
    return round(options["window"] * spec["sample_rate"]), max(round(options["hop"] * spec["sample_rate"]), 1)


def spec_differences(found: Spec, wanted: Spec) -> list[str]:
    """List what keeps vectors of one spec from being used as vectors of another, one phrase for each difference."""
    there, here = _flat(found), _flat(wanted)
    return [
        f"{key} is {_short(there.get(key))} there, {_short(here.get(key))} here"
        for key in sorted(there.keys() | here.keys())
        if key not in RECORDED_ONLY and there.get(key) != here.get(key)
    ]


def _short(value: Any) -> str:
    """Write a value; of a digest 8 digits are enough."""
    return repr(value[:8] if isinstance(value, str) and len(value) == 64 else value)


def _flat(spec: Spec) -> Spec:
    return {**{key: value for key, value in spec.items() if key != "options"}, **spec.get("options", {})}


def spec_digest(spec: Spec) -> str:
    """Digest of a spec, 64 hex digits; specs without differences have the same one."""
    content = {key: value for key, value in spec.items() if key not in RECORDED_ONLY}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
