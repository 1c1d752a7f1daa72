"""Features files in numpy's format, ``.npz``."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from corpora import Corpus
from encoders import Encoder
from features import FeaturesError, FeatureSet, extract

COLUMNS = ("features", "labels", "sessions", "durations")
VALUES = ("speakers", "session_names", "ids", "encoder", "corpus", "failures")


def assert_same(one: FeatureSet, other: FeatureSet) -> None:
    for name in COLUMNS:
        assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert getattr(one, name).dtype == getattr(other, name).dtype
    for name in VALUES:
        assert getattr(one, name) == getattr(other, name), name
    assert one.audio is not None
    assert other.audio is not None
    for name, values in one.audio.columns().items():
        assert torch.equal(values.nan_to_num(-1), other.audio.columns()[name].nan_to_num(-1)), name
    assert (one.audio.rate, one.audio.crop) == (other.audio.rate, other.audio.crop)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_saved_set_loads_unchanged(dtype: torch.dtype, features: FeatureSet, tmp_path: Path) -> None:
    saved = features.to(dtype)
    path = saved.save(tmp_path / "x.npz")
    assert_same(FeatureSet.load(path), saved)
    assert_same(FeatureSet.load(FeatureSet.load(path).save(tmp_path / "x.pt")), saved)


def test_numpy_reads_the_documented_arrays(features: FeatureSet, tmp_path: Path) -> None:
    with np.load(features.save(tmp_path / "x.npz"), allow_pickle=False) as file:
        assert {"features", "labels", "speakers", "sessions", "session_names", "ids", "durations", "about"} < set(file)
        np.testing.assert_array_equal(file["features"], features.features)
        assert file["speakers"][file["labels"]].tolist() == features.to_arrays()[1].tolist()
        assert file["ids"].tolist() == list(features.ids)


def test_extraction_into_an_npz_file_is_continued(
    corpus: Corpus, spectral: Encoder, features: FeatureSet, tmp_path: Path
) -> None:
    part = Corpus(corpus.utterances[:7], corpus.root, corpus.name)
    path = tmp_path / "x.npz"
    extract(part, spectral, path, progress=False)
    made = extract(corpus, spectral, path, progress=False)
    torch.testing.assert_close(made.features, features.features)
    assert made.ids == features.ids
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".lock"] == ["x.npz"]
    before = path.stat().st_mtime_ns
    extract(corpus, spectral, path, progress=False)
    assert path.stat().st_mtime_ns == before


def test_arrays_of_another_program_are_read(tmp_path: Path) -> None:
    vectors = np.arange(8.0).reshape(4, 2)
    np.savez(
        tmp_path / "calls.npz", features=vectors, labels=np.array(["ben", "ann", "ben", "ann"]),
        sessions=np.array([3, 3, 20, 20]), ids=np.array([b"a", b"b", b"c", b"d"]), durations=np.ones(4),
    )  # fmt: skip
    loaded = FeatureSet.load(tmp_path / "calls.npz")
    np.testing.assert_array_equal(loaded.features, vectors)
    assert (loaded.speakers, loaded.labels.tolist()) == (("ann", "ben"), [1, 0, 1, 0])
    assert (loaded.session_names, loaded.sessions.tolist()) == (("3", "20"), [0, 0, 1, 1])
    assert (loaded.ids, loaded.durations.tolist(), loaded.corpus) == (("a", "b", "c", "d"), [1.0] * 4, "calls")


@pytest.mark.parametrize("sessions", [["x", "y"], ("x", "y")])
def test_sessions_of_a_plain_pt_file_are_read(sessions: Any, tmp_path: Path) -> None:
    torch.save({"features": torch.randn(2, 3), "labels": ["a", "a"], "sessions": sessions}, tmp_path / "x.pt")
    assert FeatureSet.load(tmp_path / "x.pt").session_names == ("x", "y")


@pytest.mark.parametrize("column", [{"sessions": "x"}, {"sessions": 3}, {"durations": 1.5}, {"ids": 7}])
def test_other_columns_of_a_plain_pt_file_are_refused(column: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"features": torch.randn(2, 3), "labels": ["a", "a"], **column}, tmp_path / "x.pt")
    with pytest.raises(FeaturesError, match=r"x\.pt: .*give one for each"):
        FeatureSet.load(tmp_path / "x.pt")


def test_text_ids_of_a_plain_pt_file_are_ignored(tmp_path: Path) -> None:
    torch.save({"features": torch.randn(2, 3), "labels": ["a", "a"], "ids": "1.wav\n2.wav"}, tmp_path / "x.pt")
    assert FeatureSet.load(tmp_path / "x.pt").ids == ("0", "1")


@pytest.mark.skipif(os.name != "posix", reason="file names are text on this system")
def test_any_id_is_kept(tmp_path: Path) -> None:
    ids = (os.fsdecode(b"caf\xe9.wav"), "a\\nb\n", "\N{CJK UNIFIED IDEOGRAPH-674E}", "")
    made = FeatureSet.from_arrays(np.zeros((4, 2)), ["a"] * 4, ids=ids)
    assert FeatureSet.load(made.save(tmp_path / "x.npz")).ids == ids


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.path),))


def write_objects(path: Path) -> None:
    np.savez(path, features=np.zeros((2, 3)), labels=np.array([Bomb(path.with_name("exploded"))] * 2))


BAD: dict[str, Callable[[Path], object]] = {
    "objects": write_objects,
    "text": lambda path: path.write_text("hello"),
    "empty": lambda path: path.write_bytes(b""),
    "one array": lambda path: np.save(path.open("wb"), np.zeros(3)),
    "no labels": lambda path: np.savez(path, features=np.zeros((2, 3))),
    "too few labels": lambda path: np.savez(path, features=np.zeros((2, 3)), labels=np.zeros(1)),
    "complex": lambda path: np.savez(path, features=np.zeros((2, 3), complex), labels=np.zeros(2)),
    "dates": lambda path: np.savez(path, features=np.zeros((2, 3)), labels=np.zeros(2, "datetime64[s]")),
    "about is a list": lambda path: np.savez(path, features=np.zeros((2, 3)), labels=np.zeros(2), about="[1]"),
    "about is no JSON": lambda path: np.savez(path, features=np.zeros((2, 3)), labels=np.zeros(2), about="{"),
    "newer": lambda path: np.savez(path, features=np.zeros((2, 3)), labels=np.zeros(2), about='{"format": 9}'),
    "incomplete": lambda path: np.savez(path, features=np.zeros((2, 3)), labels=np.zeros(2), about='{"format": 1}'),
}


REASONS = {
    "objects": "Python objects, which are never loaded",
    "text": "not a features file .* cut off",
    "one array": "not a features file .* cut off",
    "no labels": "its keys: features",
    "too few labels": "2 vectors, but 1 speaker",
    "newer": "format is 9",
}


@pytest.mark.parametrize("case", BAD)
def test_other_content_is_refused_in_a_sentence(case: str, tmp_path: Path) -> None:
    BAD[case](tmp_path / "x.npz")
    with pytest.raises(FeaturesError, match=rf"x\.npz: .*{REASONS.get(case, '')}.*\.$"):
        FeatureSet.load(tmp_path / "x.npz")
    assert not (tmp_path / "exploded").exists()


def test_cut_off_and_missing_files_are_refused(features: FeatureSet, tmp_path: Path) -> None:
    whole = features.save(tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FeaturesError, match=r"x\.npz: this is not a features file .*, or it is cut off"):
        FeatureSet.load(tmp_path / "x.npz")
    with pytest.raises(FeaturesError, match="no such file"):
        FeatureSet.load(tmp_path / "none.npz")
    with pytest.raises(FeaturesError, match="this is a folder"):
        FeatureSet.load(tmp_path.rename(tmp_path.with_name("folder.npz")))
