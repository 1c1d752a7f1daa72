"""`describe_file`: what a file is and what it is for, from its first bytes, its keys or its columns."""

import gzip
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from files import describe_file, other_kind, write_csv, write_json, write_tensors

TABLE = {"path": "a.wav", "speaker": "anna", "probability": 0.5, "error": ""}
TEXTS = {
    "1 a.wav b.wav\n0 a.wav c.wav\n": "a list of trials, for --trials",
    "a.wav\tb.wav\tnontarget\na.wav\tc.wav\ttarget\n": "a list of trials, for --trials",
    "path,speaker,session\na.wav,anna,monday\n": "a manifest of a corpus, for --data_dir",
    "# settings\nepochs: 50\n": "a YAML file of settings, for --config",
    "SPEAKER meeting 1 0.0 1.5 <NA> <NA> anna <NA> <NA>\n": "an RTTM file",
    "<!DOCTYPE html>\n<title>report</title>": "a web page",
    '{"model_type": "wav2vec2"}': "the settings of a model of the Hugging Face hub",
    '{"format": 3, "backend": {}, "calibration": {}, "open_set": {}}': "the ready verifier as JSON",
    '{"slope": 1.0, "offset": -2.0}': "a calibration of scores",
    '{"rows": [], "notes": [], "command": ""}': "a file of verification results",
    "features,backend,eer\nx,cosine,0.1\n": "a file of verification results",
    "id,speaker,score,llr\na.wav,anna,0.5,1.0\n": "a file of scores",
    "id,speaker,named\na.wav,anna,ben\n": "a file of results",
    "<!DOCTYPE html>\n<html>\n<title>calls: speaker recognition</title>": "a report",
    "| head | test acc |\n|---|--:|\n| lda | 99.0 |\n": "a table of results",
    "% Needs \\usepackage{booktabs}.\n\\begin{table}\n": "a table of results",
}


@pytest.mark.parametrize(("text", "kind"), TEXTS.items())
def test_text_files_are_recognised(text: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    assert str(describe_file(path)).startswith(kind)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())  # with a byte-order mark
    assert str(describe_file(path)).startswith(kind)


def test_outputs_of_the_scripts_are_recognised(tmp_path: Path) -> None:
    written = {
        write_csv(tmp_path / "predictions.csv", [TABLE]): "a file of predictions",
        write_json(tmp_path / "metrics.json", {"rows": [], "summary": []}): "a file of results",
        write_csv(tmp_path / "metrics.csv", [{"features": "x", "encoder": "y", "head": "z"}]): "a file of results",
        write_tensors(tmp_path / "scaler.pt", {"name": "standard", "mean": torch.ones(2), "scale": torch.ones(2)}): (
            "a scaler"
        ),
        write_tensors(tmp_path / "plain.pt", {"features": torch.ones(2, 3), "labels": [0, 1]}): "a features file",
        write_tensors(tmp_path / "weights.pt", {"layer.weight": torch.ones(2, 3)}): "a checkpoint of a network",
    }
    (tmp_path / "predictions.json").write_text('[{"path": "a.wav", "predictions": [], "error": null}]')
    written[tmp_path / "predictions.json"] = "a file of predictions"
    for path, kind in written.items():
        assert str(describe_file(path)).startswith(kind), path


def test_files_of_other_programs_are_recognised(write_audio: Callable[..., Path], tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE one (number INTEGER)")
    connection.close()
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with gzip.open(tmp_path / "archive.gz", "wb") as file:
        file.write(b"content")
    assert describe_file(tmp_path / "other.db") == "an SQLite database of another program"
    assert describe_file(tmp_path / "picture.png") == "a picture"
    assert describe_file(tmp_path / "archive.gz") == "a gzip archive"
    for name in ("a.wav", "a.flac", "a.ogg"):
        assert str(describe_file(write_audio(tmp_path / name))).startswith("an audio file")


def test_checkpoints_are_recognised_with_their_encoder(
    clap_weights: Path,
    resemblyzer_weights: Path,
    scratch_weights: Callable[..., Path],
    speech_model: Callable[..., Path],
) -> None:
    model = speech_model()
    for path, encoder in (
        (clap_weights, "audiosep"),  # its numpy scalars are not loaded
        (resemblyzer_weights, "resemblyzer"),  # its LSTM has the names of scratch
        (scratch_weights(), "scratch"),
        (model / "model.safetensors", "wav2vec2"),
    ):
        assert describe_file(path) == f"a checkpoint of a network, for --encoder {encoder} --encoder_weights"


class Trap:
    """An object whose unpickling would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("is_archive", [True, False])
def test_nothing_in_a_file_is_run(is_archive: bool, tmp_path: Path) -> None:
    path, touched = tmp_path / "trap.pt", tmp_path / "touched"
    torch.save({"features": Trap(touched), "labels": 0}, path, _use_new_zipfile_serialization=is_archive)
    assert describe_file(path) is None
    assert not touched.exists()


def test_damaged_archives_have_no_kind(tmp_path: Path) -> None:
    path = write_tensors(tmp_path / "features.pt", {"features": torch.ones(2, 3), "labels": [0, 1]})
    content = bytearray(path.read_bytes())
    start = content.index(b"data.pkl") + 100
    content[start : start + 8] = bytes(byte ^ 255 for byte in content[start : start + 8])
    path.write_bytes(content)
    assert describe_file(path) is None


def test_a_large_pickle_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tensors(tmp_path / "features.pt", {"features": torch.ones(2, 3), "labels": [0, 1]})
    monkeypatch.setattr("files.file_kinds.PICKLE_BYTES", 10)
    assert describe_file(path) is None


def test_other_archives_are_recognised(tmp_path: Path) -> None:
    np.savez(tmp_path / "features.npz", features=np.ones((2, 3)), labels=np.arange(2))
    np.savez(tmp_path / "other.npz", vectors=np.ones((2, 3)))
    assert str(describe_file(tmp_path / "features.npz")).startswith("an .npz file of features, for --features_path")
    assert describe_file(tmp_path / "other.npz") == "a zip archive"


def test_unknown_and_unreadable_files_have_no_kind(tmp_path: Path) -> None:
    for number, content in enumerate(
        (
            b"",
            b"\x00" * 100,
            b"some text",
            b"{not json",
            b"[" * 200_000,
            b"\x80\x02damaged",
            b"PK\x03\x04",
            b"note: call anna\ndate: monday\n",
            b"1 hello world\n",
            b"1 hello world\n\nThis is a note.\n",
        )
    ):
        path = tmp_path / str(number)
        path.write_bytes(content)
        assert describe_file(path) is None, content
    assert describe_file(tmp_path / "none") is None
    assert describe_file(tmp_path) is None


def test_a_file_of_the_expected_kind_has_no_message(tmp_path: Path) -> None:
    path = tmp_path / "trials.txt"
    path.write_text("1 a.wav b.wav\n0 a.wav c.wav\n")
    assert other_kind(path, "a list of trials") is None
    assert other_kind(path, "a speaker verifier") == (
        f"{path}: this is not a speaker verifier; it is a list of trials, for --trials of speaker_verification.py "
        "evaluate."
    )
