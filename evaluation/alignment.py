"""Several sets of features of the same utterances, one of each encoder."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch

from encoders import spec_digest
from features import FeatureSet
from heads import HeadError

logger = logging.getLogger(__name__)

Identity = tuple[str, str, bytes]


def align(sets: Sequence[FeatureSet]) -> list[FeatureSet]:
    """Cut sets down to the utterances that all have, in the order of the first, with the same numbers of speakers.

    Raises
    ------
    HeadError
        They have no utterance in common; or a row holds NaN.
    """
    for features in sets:
        spoiled = (~torch.isfinite(features.features).flatten(1).all(dim=1)).nonzero().flatten().tolist()
        if spoiled:
            first = features.ids[spoiled[0]]
            raise HeadError(f"{len(spoiled)} rows hold NaN or infinity, the first is that of {first}; remove them.")
    if len(sets) == 1:
        return list(sets)
    if not sets:
        raise HeadError("There are no features to compare heads on; give one set at least.")
    with_audio = all(features.audio is not None for features in sets)
    places = [{key: row for row, key in enumerate(_identities(features, with_audio))} for features in sets]
    common = [key for key in places[0] if all(key in others for others in places[1:])]
    if not common:
        raise HeadError(
            f"The {len(sets)} sets of features have no utterance in common that is of the same speaker and the same "
            "audio in all of them; compare features of one corpus."
        )
    most = max(map(len, sets))
    if len(common) < most:
        logger.warning("%d of %d utterances are compared: the others are not in all sets.", len(common), most)
    speakers = tuple(sorted({speaker for _, speaker, _ in common}))
    numbers = torch.tensor([speakers.index(speaker) for _, speaker, _ in common])
    return [
        replace(features.select([place[key] for key in common]), labels=numbers, speakers=speakers)
        for features, place in zip(sets, places, strict=True)
    ]


def by_encoder(sets: Sequence[FeatureSet]) -> dict[str, FeatureSet]:
    """Name each set after its encoder; of the same name, after what they differ in too.

    Raises
    ------
    HeadError
        Two sets hold the same vectors.
    """
    names = [str(features.encoder.get("name")) for features in sets]
    named: dict[str, FeatureSet] = {}
    for name, features in zip(names, sets, strict=True):
        if any(torch.equal(features.features, other.features) for other in named.values()):
            raise HeadError(f"Two of the sets of features, of the encoder {name!r}, are the same; give each once.")
        label = name
        if names.count(name) > 1:
            alike = [other for other, key in zip(sets, names, strict=True) if key == name]
            marks = (_source, _digest, _crop)
            mark = next((mark for mark in marks if len(set(map(mark, alike))) > 1), _digest)
            label = f"{name} {mark(features)}"
        named[label if label not in named else f"{label} ({len(named) + 1})"] = features
    return named


def _source(features: FeatureSet) -> str:
    return str(features.encoder.get("source") or _digest(features))


def _digest(features: FeatureSet) -> str:
    return spec_digest(features.encoder)[:8]


def _crop(features: FeatureSet) -> str:
    crop = None if features.audio is None else features.audio.crop
    return "of all" if crop is None else f"of {crop:g} s"


def _identities(features: FeatureSet, with_audio: bool) -> list[Identity]:
    digests = features.audio.digest.numpy() if with_audio and features.audio is not None else None
    return [
        (utterance, features.speakers[label], b"" if digests is None else digests[row].tobytes())
        for row, (utterance, label) in enumerate(zip(features.ids, features.labels.tolist(), strict=True))
    ]
