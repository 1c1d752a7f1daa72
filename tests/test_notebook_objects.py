"""What a notebook shows for the objects of the rooms: one short line, or a small table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corpora import Corpus
from embedding import embed_utterances
from encoders import Encoder, lazy_encoder
from evaluation import compare_backends, compare_heads
from features import FeatureSet
from verification import SpeakerStore, SpeakerVerifier


@pytest.fixture(scope="module")
def objects(
    corpus: Corpus, features: FeatureSet, spectral: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    heads = compare_heads(features, ["centroid", "lda"], split_by="session")
    backends = compare_backends(features, ["cosine", "whiten"])
    verifier = SpeakerVerifier.train(features)
    store = SpeakerStore.create(tmp_path_factory.mktemp("store") / "speakers.db", verifier)
    store.enroll_features(features)
    missing = Corpus(corpus.utterances, corpus.root, corpus.name).utterances[0]
    return {
        "corpus": corpus,
        "features": features,
        "one row": features.select([0]),
        "no row": features.select([]),
        "audio": features.audio,
        "row": next(embed_utterances([missing], spectral)),
        "lazy encoder": lazy_encoder("spectral"),
        "heads": heads,
        "outcome": next(iter(heads.outcomes.values()))[0],
        "no test set": compare_heads(features, "centroid", fractions=(0.8, 0.2, 0)),
        "classifier": heads.classifier,
        "fitted head": heads.classifier.members[0],
        "backends": backends,
        "scored trials": backends.scored[0],
        "trials": backends.scored[0].trials,
        "verifier": verifier,
        "ready verifier": SpeakerVerifier.ready(),
        "store": store,
        "nearest": store.nearest_features(features),
    }


# Texts that the line has.
EXPECTED = {
    "corpus": "<Corpus librispeech: 40 utterances of 4 speakers in 8 sessions, in ",
    "features": "<FeatureSet librispeech: 40 utterances of 4 speakers in 8 sessions, float32 (40, 100) of spectral>",
    "one row": "<FeatureSet librispeech: 1 utterance of 1 speaker in 1 session, float32 (1, 100) of spectral>",
    "no row": ": 0 utterances of 0 speakers in 0 sessions, float32 (0, 100) of spectral>",
    "audio": "AudioProvenance(digest=uint8 (40, 32), ",
    "row": "0000.flac: vector (100,) of 0.60 s>",
    "lazy encoder": "<LazyEncoder spectral: 100 dimensions, 16000 Hz>",
    "heads": "<HeadComparison librispeech: 2 heads; best by validation: ",
    "outcome": "Outcome(rows=int64 (",
    "no test set": "split by utterance, validation accuracy ",
    "classifier": " on spectral: 4 speakers (101, 102, 103, ...), ",
    "fitted head": " on spectral, scaler standard: 4 speakers>",
    "backends": "<BackendComparison librispeech: cosine, whiten on 190 trials; lowest EER ",
    "scored trials": "ScoredTrials(backend='cosine', trials=Trials(first=int64 (190,)",
    "trials": "Trials(first=int64 (190,), second=int64 (190,), labels=bool (190,))",
    "verifier": "<SpeakerVerifier cosine on spectral, calibrated for up to 2 enrolled speakers>",
    "ready verifier": "<SpeakerVerifier cosine on campplus, calibrated for up to 100 enrolled speakers>",
    "store": "speakers.db: 4 speakers, cosine on spectral>",
    "nearest": "Nearest(names=[",
}
TABLES = {
    "corpus": ["speaker", "101", "10", "2", "the first 5 of 40 utterances"],
    "features": ["seconds", "101-1010-0000.flac", "1010", "0.60", "the first 5 of 40 rows"],
    "no row": ["seconds"],
    "heads": ["test acc", "centroid", "split by session", "* selected by cross-validated log loss"],
    "backends": ["EER", "whiten", "cross-session", "* lowest equal error rate", "trained on 2 of the speakers"],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_representation_is_one_short_line(name: str, objects: dict[str, Any]) -> None:
    shown = repr(objects[name])
    assert EXPECTED[name] in shown
    assert len(shown) <= 200
    assert "\n" not in shown
    assert "tensor(" not in shown
    assert "array(" not in shown


@pytest.mark.parametrize("name", TABLES)
def test_tables_hold_the_first_rows_and_the_notes(name: str, objects: dict[str, Any]) -> None:
    html = objects[name]._repr_html_()
    for text in TABLES[name]:
        assert text in html
    assert html.count("<table>") == (2 if name == "corpus" else 1)
    assert len(html) < 8_000


def test_a_row_without_a_vector_shows_the_reason(
    spectral: Encoder, write_audio: Callable[..., Path], tmp_path: Path, objects: dict[str, Any]
) -> None:
    utterance = objects["row"].utterance
    broken = type(utterance)(tmp_path / "none.wav", "ann", "ann", root=tmp_path)
    assert repr(next(embed_utterances([broken], spectral))) == "<Row none.wav: no such file>"


def test_a_closed_store_is_shown(objects: dict[str, Any], tmp_path: Path) -> None:
    store = SpeakerStore.create(tmp_path / "speakers.db", objects["verifier"])
    store.close()
    assert "speakers.db: closed, or not readable, cosine on spectral>" in repr(store)


def test_names_in_tables_are_escaped() -> None:
    made = FeatureSet.from_arrays([[0.0], [1.0]], ["<b>ann</b>", "ben"], ids=["<i>", "\udce9"])
    html = made._repr_html_()
    assert "&lt;b&gt;ann" in html
    assert "<i>" not in html
    html.encode()
