"""Align sets of features of the same utterances, from several encoders."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch

from encoders import spec_digest
from features import FeatureSet
from files import count_of, is_missing, is_reserved, listing, normal_form, reserved_problem
from heads import HeadError

logger = logging.getLogger(__name__)

# Id, speaker and digest of the audio of an utterance.
Identity = tuple[str, str, bytes]


def align(sets: Sequence[FeatureSet]) -> list[FeatureSet]:
    """Select the utterances that all sets have, in the order of the first set, with the same numbers for the speakers.

    Utterances are the same if their id, speaker and, in sets with provenance, audio are.

    Raises
    ------
    HeadError
        There is no set, the sets have no utterance in common, a row holds NaN or infinity, or the name of a speaker is
        missing or reserved.
    """
    for features in sets:
        _check_speakers(features)
        spoiled = (~torch.isfinite(features.features).flatten(1).all(dim=1)).nonzero().flatten().tolist()
        if spoiled:
            first = features.ids[spoiled[0]]
            raise HeadError(
                f"The features hold NaN or infinity in {count_of(len(spoiled), 'row')}, the first is that of {first}; "
                "extract them again."
            )
    if len(sets) == 1:
        return list(sets)
    if not sets:
        raise HeadError("There are no features to compare heads on; give at least one set.")
    with_audio = all(features.audio is not None for features in sets)
    places = [{key: row for row, key in enumerate(_identities(features, with_audio))} for features in sets]
    common = [key for key in places[0] if all(key in others for others in places[1:])]
    if not common:
        raise HeadError(
            f"The {len(sets)} sets of features have no utterance in common (the same id, speaker and audio); compare "
            "features of one corpus."
        )
    largest = max(map(len, sets))
    if len(common) < largest:
        logger.warning("%d of %d utterances are compared: the others are not in all sets.", len(common), largest)
    speakers = tuple(sorted({speaker for _, speaker, _ in common}))
    numbers = torch.tensor([speakers.index(speaker) for _, speaker, _ in common])
    return [
        replace(features.select([place[key] for key in common]), labels=numbers, speakers=speakers)
        for features, place in zip(sets, places, strict=True)
    ]


def _check_speakers(features: FeatureSet) -> None:
    """Refuse speakers whose names stand for an unknown speaker or a missing name, which older files can have."""
    for number in torch.unique(features.labels).tolist():
        name = features.speakers[number]
        if is_missing(name) or is_reserved(name):
            own = [features.ids[row] for row in (features.labels == number).nonzero().flatten().tolist()]
            if is_reserved(name):
                raise HeadError(reserved_problem(name, own))
            raise HeadError(
                f"The speaker {name!r} stands for a missing name; it is the speaker of {listing(own)}. Give these "
                "recordings a speaker, or leave them out."
            )


def by_encoder(sets: Sequence[FeatureSet]) -> dict[str, FeatureSet]:
    """Return the sets by the names of their encoders; sets of encoders of one name also get what distinguishes them.

    Raises
    ------
    HeadError
        Two sets hold the same vectors.
    """
    names = [str(features.encoder.get("name")) for features in sets]
    named: dict[str, FeatureSet] = {}
    for name, features in zip(names, sets, strict=True):
        if any(torch.equal(features.features, other.features) for other in named.values()):
            raise HeadError(f"Two sets of features of the encoder {name!r} are the same; give each once.")
        label = name
        if names.count(name) > 1:
            alike = [other for other, key in zip(sets, names, strict=True) if key == name]
            label = f"{name} {_distinguish(features, alike)}"
        named[label if label not in named else f"{label} ({len(named) + 1})"] = features
    return named


def _distinguish(features: FeatureSet, alike: Sequence[FeatureSet]) -> str:
    """Return what distinguishes a set from others of the same encoder: the weights' source, the spec, or the crop."""
    for describe in (_source, _digest, _crop):
        if len({describe(other) for other in alike}) > 1:
            return describe(features)
    return _digest(features)


def _source(features: FeatureSet) -> str:
    return str(features.encoder.get("source") or _digest(features))


def _digest(features: FeatureSet) -> str:
    return spec_digest(features.encoder)[:8]


def _crop(features: FeatureSet) -> str:
    crop = None if features.audio is None else features.audio.crop
    return "of all" if crop is None else f"of {crop:g} s"


def _identities(features: FeatureSet, with_audio: bool) -> list[Identity]:
    """Return the id, the speaker and the audio's digest of each row; files of earlier versions have other forms."""
    names = [normal_form(name) for name in features.speakers]
    digests = features.audio.digest.numpy() if with_audio and features.audio is not None else None
    return [
        (normal_form(utterance), names[label], b"" if digests is None else digests[row].tobytes())
        for row, (utterance, label) in enumerate(zip(features.ids, features.labels.tolist(), strict=True))
    ]
