"""`FeatureSet`: its file, its selections, its layers, and the files that it refuses."""

import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from features import FeaturesError, FeatureSet
from files import VERSION, OutputError


def small_set(ids: tuple[str, ...] = ("a.wav", "b.wav", "c.wav")) -> FeatureSet:
    n_rows = len(ids)
    return FeatureSet(
        features=torch.arange(4.0 * n_rows).reshape(n_rows, 4),
        labels=torch.arange(n_rows) % 2,
        speakers=("ann", "bob"),
        sessions=torch.zeros(n_rows, dtype=torch.int64),
        session_names=("day 1",),
        ids=ids,
        durations=torch.full((n_rows,), 1.5),
        encoder={"name": "spectral", "dim": 4, "layers": [], "options": {}},
        corpus="tiny",
        failures=(("bad.wav", "empty"),),
    )


def assert_same(one: FeatureSet, other: FeatureSet) -> None:
    for name in ("features", "labels", "sessions", "durations"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for name in ("speakers", "session_names", "ids", "encoder", "corpus", "failures"):
        assert getattr(one, name) == getattr(other, name), name


def test_saved_set_loads_unchanged(tmp_path: Path) -> None:
    saved = small_set()
    saved.save(tmp_path / "x.pt")
    assert_same(FeatureSet.load(tmp_path / "x.pt"), saved)


def test_provenance_is_stored(features: FeatureSet, tmp_path: Path) -> None:
    features.save(tmp_path / "x.pt")
    loaded = FeatureSet.load(tmp_path / "x.pt")
    assert features.audio is not None
    assert loaded.audio is not None
    assert torch.equal(loaded.audio.digest, features.audio.digest)
    assert loaded.audio.digest.shape == (len(features), 32)
    assert (loaded.audio.rate, loaded.audio.crop) == (16_000, 10.0)


def test_file_has_the_documented_keys(features_path: Path) -> None:
    content = torch.load(features_path, weights_only=True)
    assert set(content) == {
        "format", "corpus", "features", "labels", "speakers", "sessions", "session_names", "ids", "durations",
        "encoder", "audio", "failures", "created_with",
    }  # fmt: skip
    assert content["format"] == 1
    assert isinstance(content["ids"], str)
    assert len(content["ids"].split("\n")) == len(content["features"]) == 40
    assert content["audio"]["digest"].dtype == torch.uint8
    assert content["labels"].dtype == content["sessions"].dtype == torch.int64
    assert {"voxprobe", "commit", "python", "torch", "libsndfile"} <= content["created_with"].keys()


def test_file_names_the_version_that_created_it(tmp_path: Path) -> None:
    content = torch.load(small_set().save(tmp_path / "x.pt"), weights_only=True)
    assert content["created_with"]["voxprobe"] == VERSION
    assert content["created_with"]["voxprobe"] == (Path(__file__).parents[2] / "VERSION").read_text().strip()


@settings(max_examples=50, deadline=None)
@given(
    ids=st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
        min_size=1,
        max_size=5,
        unique=True,
    )
)
def test_any_file_name_is_kept(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    path = tmp_path_factory.mktemp("names") / "x.pt"
    small_set(tuple(ids)).save(path)
    assert FeatureSet.load(path).ids == tuple(ids)


@pytest.mark.skipif(os.name != "posix", reason="file names are text on this system")
def test_file_name_that_is_not_valid_text_is_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    small_set((name,)).save(tmp_path / "x.pt")
    assert FeatureSet.load(tmp_path / "x.pt").ids == (name,)


def test_select_accepts_indices_and_masks(features: FeatureSet) -> None:
    selected = features.select([3, 1])
    assert selected.ids == (features.ids[3], features.ids[1])
    assert torch.equal(selected.features, features.features[[3, 1]])
    assert selected.audio is not None
    assert features.audio is not None
    assert torch.equal(selected.audio.digest, features.audio.digest[[3, 1]])
    mask = np.zeros(len(features), dtype=bool)
    mask[[1, 3]] = True
    assert features.select(mask).ids == (features.ids[1], features.ids[3])
    assert len(features.select([])) == 0


def test_selection_is_saved_without_the_other_rows(tmp_path: Path) -> None:
    large = small_set(tuple(f"{number}.wav" for number in range(10_000)))
    large.select([0, 1, 2]).save(tmp_path / "small.pt")
    assert (tmp_path / "small.pt").stat().st_size < 10_000


def test_to_casts_only_the_features(features: FeatureSet) -> None:
    half = features.to(torch.float16)
    assert half.features.dtype == torch.float16
    assert half.labels is features.labels
    assert features.features.dtype == torch.float32


def test_plain_file_of_another_project_loads(tmp_path: Path) -> None:
    torch.save({"features": torch.randn(4, 3), "labels": torch.tensor([174, 84, 174, 1988])}, tmp_path / "plain.pt")
    loaded = FeatureSet.load(tmp_path / "plain.pt")
    assert loaded.speakers == ("84", "174", "1988")  # sorted as numbers
    assert loaded.labels.tolist() == [1, 0, 1, 2]
    assert loaded.encoder["name"] == "unknown"
    assert loaded.corpus == "plain"
    assert loaded.audio is None


def test_plain_file_may_have_names_as_labels(tmp_path: Path) -> None:
    torch.save({"features": torch.randn(3, 3), "labels": ["bob", "ann", "bob"]}, tmp_path / "plain.pt")
    loaded = FeatureSet.load(tmp_path / "plain.pt")
    assert (loaded.speakers, loaded.labels.tolist()) == (("ann", "bob"), [1, 0, 1])


def invalid_plain_contents() -> dict[str, dict[str, Any]]:
    return {
        "no labels": {"features": torch.randn(4, 3)},
        "too few labels": {"features": torch.randn(4, 3), "labels": torch.arange(3)},
        "one dimension": {"features": torch.randn(4), "labels": torch.arange(4)},
        "integers": {"features": torch.ones(4, 3, dtype=torch.int64), "labels": torch.arange(4)},
        "no rows": {"features": torch.randn(0, 3), "labels": torch.arange(0)},
        "words": {"features": "words", "labels": "more words"},
        "missing label": {"features": torch.randn(2, 3), "labels": ["ann", "nan"]},
        "reserved label": {"features": torch.randn(2, 3), "labels": ["UNKNOWN", "ann"]},
    }


@pytest.mark.parametrize("case", invalid_plain_contents())
def test_dict_that_is_not_a_features_file_is_refused(case: str, tmp_path: Path) -> None:
    torch.save(invalid_plain_contents()[case], tmp_path / "x.pt")
    with pytest.raises(FeaturesError, match=r"x\.pt"):
        FeatureSet.load(tmp_path / "x.pt")


@pytest.mark.parametrize("key", ["labels", "ids", "encoder", "audio", "durations", "speakers"])
def test_file_without_a_key_is_refused(key: str, features_path: Path, tmp_path: Path) -> None:
    content = torch.load(features_path, weights_only=True)
    del content[key]
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(FeaturesError, match=rf"x.pt.*{key}"):
        FeatureSet.load(tmp_path / "x.pt")


def test_labels_without_a_speaker_are_refused(features_path: Path, tmp_path: Path) -> None:
    content = torch.load(features_path, weights_only=True)
    content["labels"][0] = 99
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(FeaturesError, match=r"labels range from . to 99"):
        FeatureSet.load(tmp_path / "x.pt")


@pytest.mark.parametrize("name", ["../escaped", "a/b", "a\\b", "", ".hidden", 5, "a\0b"])
def test_corpus_name_cannot_point_outside_a_folder(name: object, features_path: Path, tmp_path: Path) -> None:
    content = torch.load(features_path, weights_only=True)
    torch.save({**content, "corpus": name}, tmp_path / "x.pt")
    with pytest.raises(FeaturesError, match="cannot be used in a file name"):
        FeatureSet.load(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("encoder", None),
        ("encoder", ["spectral"]),
        ("features", torch.randn(40, 0)),
        ("features", torch.randn(40, 3).to_sparse()),
        ("features", "words"),
        ("format", torch.ones(2)),
        ("audio", {"digest": torch.zeros(40, 31, dtype=torch.uint8)}),
        ("audio", 5),
        ("failures", [1, 2]),
        ("ids", 5),
    ],
)
def test_keys_with_wrong_values_are_refused(key: str, value: object, features_path: Path, tmp_path: Path) -> None:
    content = torch.load(features_path, weights_only=True)
    torch.save({**content, key: value}, tmp_path / "x.pt")
    with pytest.raises(FeaturesError, match=r"x\.pt"):
        FeatureSet.load(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("labels", torch.zeros(40), r"labels are torch\.float32 of shape \(40,\)"),
        ("labels", torch.zeros(40, 1, dtype=torch.int64), r"labels are torch\.int64 of shape \(40, 1\)"),
        ("labels", torch.zeros(39, dtype=torch.int64), r"labels are torch\.int64 of shape \(39,\)"),
        ("labels", torch.zeros(40, dtype=torch.bool), r"labels are torch\.bool of shape \(40,\)"),
        ("labels", ["ann"] * 40, "labels are a list"),
        ("sessions", torch.zeros(40), r"sessions are torch\.float32 of shape \(40,\)"),
        ("sessions", torch.zeros(41, dtype=torch.int64), r"sessions are torch\.int64 of shape \(41,\)"),
        ("sessions", None, "sessions are a NoneType"),
        ("durations", torch.ones(40, 1), r"durations are torch\.float32 of shape \(40, 1\)"),
        ("durations", torch.ones(40, dtype=torch.int64), r"durations are torch\.int64 of shape \(40,\)"),
        ("durations", torch.ones(39), r"durations are torch\.float32 of shape \(39,\)"),
        ("durations", [1.0] * 40, "durations are a list"),
    ],
)
def test_column_of_another_type_or_shape_is_refused(
    key: str, value: object, found: str, features_path: Path, tmp_path: Path
) -> None:
    content = torch.load(features_path, weights_only=True)
    torch.save({**content, key: value}, tmp_path / "x.pt")
    expected = "float32" if key == "durations" else "int64"
    message = rf"x\.pt: .*its {found}; expected torch\.{expected}, \(40,\)\)\. Extract the features again"
    with pytest.raises(FeaturesError, match=message):
        FeatureSet.load(tmp_path / "x.pt")


@pytest.mark.parametrize("options", [None, ["n_mfcc"], "n_mfcc=20", 5])
def test_options_that_are_not_a_dict_are_refused(options: object, features_path: Path, tmp_path: Path) -> None:
    content = torch.load(features_path, weights_only=True)
    torch.save({**content, "encoder": {**content["encoder"], "options": options}}, tmp_path / "x.pt")
    with pytest.raises(FeaturesError, match=r"x\.pt: the options of its encoder are .*; expected a dict\. Extract"):
        FeatureSet.load(tmp_path / "x.pt")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_smaller_integers_are_read_as_int64(dtype: torch.dtype, features_path: Path, tmp_path: Path) -> None:
    content = torch.load(features_path, weights_only=True)
    smaller = {key: content[key].to(dtype) for key in ("labels", "sessions")}
    torch.save({**content, **smaller}, tmp_path / "x.pt")
    loaded = FeatureSet.load(tmp_path / "x.pt")
    assert loaded.labels.dtype == loaded.sessions.dtype == torch.int64
    assert_same(loaded, FeatureSet.load(features_path))


def test_features_with_gradients_are_accepted(tmp_path: Path) -> None:
    rows = torch.randn(4, 3, requires_grad=True)
    torch.save({"features": rows, "labels": torch.tensor([0, 0, 1, 1])}, tmp_path / "x.pt")
    assert not FeatureSet.load(tmp_path / "x.pt").features.requires_grad


def test_file_of_a_newer_format_is_refused(features_path: Path, tmp_path: Path) -> None:
    content = torch.load(features_path, weights_only=True)
    torch.save({**content, "format": 99}, tmp_path / "x.pt")
    with pytest.raises(FeaturesError, match="format is 99"):
        FeatureSet.load(tmp_path / "x.pt")


def test_file_that_is_not_a_torch_file_is_refused(tmp_path: Path, features_path: Path) -> None:
    whole = features_path.read_bytes()
    for name, content in {"text": b"hello", "empty": b"", "cut": whole[: len(whole) // 2], "list": None}.items():
        path = tmp_path / f"{name}.pt"
        if content is None:
            torch.save([1, 2], path)
        else:
            path.write_bytes(content)
        with pytest.raises(FeaturesError, match=rf"{name}.pt: this is not a features file"):
            FeatureSet.load(path)
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(FeaturesError, match=r"zip.pt"):
        FeatureSet.load(tmp_path / "zip.pt")
    with pytest.raises(FeaturesError, match="no such file"):
        FeatureSet.load(tmp_path / "missing.pt")


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.path),))


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "bare pickle"])
def test_loading_never_runs_code(legacy: bool, tmp_path: Path) -> None:
    content = {"features": torch.randn(4, 3), "labels": torch.arange(4), "encoder": Bomb(str(tmp_path / "exploded"))}
    if legacy:
        (tmp_path / "bomb.pt").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / "bomb.pt")
    with pytest.raises(FeaturesError, match="could run code"):
        FeatureSet.load(tmp_path / "bomb.pt")
    assert not (tmp_path / "exploded").exists()


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_set().save(tmp_path / "x.pt")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OutputError, match="No space left on device"):
        small_set(("other.wav",)).save(tmp_path / "x.pt")
    assert_same(FeatureSet.load(tmp_path / "x.pt"), small_set())
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_layer_equals_extracting_only_this_layer(features: FeatureSet) -> None:
    table = torch.stack([features.features, 2 * features.features], dim=1)
    encoder = {**features.encoder, "layers": [3, 7], "options": {"layers": "3-7", "pooling": "mean"}}
    several = replace(features, features=table, encoder=encoder)
    assert several.layers == (3, 7)
    seventh = several.layer(7)
    assert torch.equal(seventh.features, 2 * features.features)
    assert seventh.encoder["layers"] == [7]
    assert seventh.encoder["options"] == {"layers": "7", "pooling": "mean"}
    assert seventh.layers == ()
    assert seventh.layer(7) is seventh
    with pytest.raises(FeaturesError, match=r"no layer 5; layers: 3, 7\."):
        several.layer(5)
    with pytest.raises(FeaturesError, match=r"no layer 0; layers: none\."):
        features.layer(0)
    # A file of another project does not name its layers.
    foreign = replace(several, encoder={"name": "unknown"})
    assert foreign.layers == (0, 1)
    assert torch.equal(foreign.layer(1).features, table[:, 1])


@pytest.fixture
def layered(features: FeatureSet) -> FeatureSet:
    """Return a set with the layers 3 and 7."""
    table = torch.stack([features.features, 2 * features.features], dim=1)
    return replace(features, features=table, encoder={**features.encoder, "layers": [3, 7]})


def test_take_layers_selects_the_last_or_a_numbered_layer(layered: FeatureSet) -> None:
    for layers, number in (("last", 7), ("7", 7), ("3", 3)):
        taken = layered.take_layers(layers)
        assert torch.equal(taken.features, layered.layer(number).features)
        assert taken.encoder == layered.layer(number).encoder
        assert taken.encoder["layers"] == [number]
        assert taken.ids == layered.ids


@pytest.mark.parametrize("layers", ["all", None])
def test_take_layers_keeps_all_layers_by_default(layers: str | None, layered: FeatureSet) -> None:
    assert layered.take_layers(layers) is layered


@pytest.mark.parametrize("layers", ["all", None, "last", "3", "nonsense"])
def test_take_layers_keeps_a_set_without_layers(layers: str | None, features: FeatureSet) -> None:
    assert features.take_layers(layers) is features


@pytest.mark.parametrize("layers", ["last", "7"])
def test_take_layers_keeps_a_set_of_that_one_layer(layers: str, layered: FeatureSet) -> None:
    seventh = layered.layer(7)
    assert seventh.take_layers(layers) is seventh


def test_take_layers_refuses_other_values(layered: FeatureSet) -> None:
    with pytest.raises(FeaturesError, match=r"no layer 5; layers: 3, 7\."):
        layered.take_layers("5")
    with pytest.raises(FeaturesError, match=r"no layer 3; layers: 7\."):
        layered.layer(7).take_layers("3")
    for layers in ("3-7", "first", "-1", ""):
        with pytest.raises(FeaturesError, match=rf"layers is '{layers}'.*expected all, last, or the number"):
            layered.take_layers(layers)


def test_several_layers_are_stored(features: FeatureSet, tmp_path: Path) -> None:
    table = torch.stack([features.features, 2 * features.features], dim=1).half()
    encoder = {**features.encoder, "layers": [0, 1]}
    several = replace(features, features=table, encoder=encoder)
    loaded = FeatureSet.load(several.save(tmp_path / "x.pt"))
    assert loaded.features.dtype == torch.float16
    assert torch.equal(loaded.features, table)
    assert loaded.layers == (0, 1)
    for layers in ([0, 1, 2], 5, [0, 0], ["a", "b"]):
        replace(several, encoder={**encoder, "layers": layers}).save(tmp_path / "y.pt")
        with pytest.raises(FeaturesError, match="the layers of its encoder are"):
            FeatureSet.load(tmp_path / "y.pt")
