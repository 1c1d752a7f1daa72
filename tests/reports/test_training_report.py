"""The page of a training run: drawn from the folder's files alone, with the figures of the terminal."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corpora import Corpus, load_corpus
from files import write_csv
from reports import ReportError, format_results, write_report
from training import train_encoder

SHORT: dict[str, Any] = {"epochs": 3, "n_frames": 30, "num_workers": 0, "device": "cpu", "progress": False}
ReadPage = Callable[[Path], Any]


@pytest.fixture(scope="module")
def trained(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an ensemble of classifiers, with the test part after each epoch."""
    folder = tmp_path_factory.mktemp("trained")
    train_encoder(
        corpus,
        ["conv1d", "conv2d"],
        output_dir=folder,
        test_every_epoch=True,
        command="python train_encoder.py <&> --epochs 3",
        **SHORT,
    )
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of that folder, which a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_page_has_the_figures_of_the_terminal(trained: Path, read_page: ReadPage) -> None:
    page = read_page(write_report(trained))
    (text,) = format_results(trained, "plain")
    accuracy = [shown for shown, _ in page.column("accuracy", "part")]
    rows = [line.split() for line in text.splitlines() if line.startswith(("train ", "validation ", "test "))]
    assert [part for part, _ in page.column("part", "part")] == [row[0] for row in rows]
    place = text.splitlines()[0].split().index("accuracy") - len(text.splitlines()[0].split())
    assert accuracy == [row[place] for row in rows]
    assert len(accuracy) == 8  # two networks of train, and these with the ensemble of the other parts
    notes = [line for line in text.splitlines() if line.startswith(("* ", "train: ", "the test part"))]
    assert len(notes) == 3
    assert all(note.removeprefix("* ") in page.text for note in notes)
    metrics = json.loads((trained / "metrics.json").read_text())
    assert f"test accuracy {100 * metrics['rows'][-1]['accuracy']:.1f} %" in page.text
    for expected in ("it never selects", "python train_encoder.py <&> --epochs 3", "confusion.csv", "batch_size"):
        assert expected in page.text


def test_page_is_drawn_again_byte_for_byte(folder: Path) -> None:
    first = write_report(folder).read_bytes()
    pictures = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    assert set(pictures) == {
        f"{name}.png"
        for name in ("confusion", "training_audio", "training_counts", "training_curves", "training_speakers")
    }
    for path in [*folder.glob("*.png"), *folder.glob("*.pt"), folder / "training.ckpt"]:
        path.unlink()
    assert write_report(folder).read_bytes() == first
    assert {path.name: path.read_bytes() for path in folder.glob("*.png")} == pictures


def test_pairs_of_other_speakers_have_a_det_curve(corpus: Corpus, tmp_path: Path, read_page: ReadPage) -> None:
    train_encoder(
        corpus,
        "query_transformer",
        "triplet",
        split_by="speaker",
        fractions=(0.5, 0.0, 0.5),
        output_dir=tmp_path,
        **SHORT,
    )
    page = read_page(write_report(tmp_path))
    assert "DET curve" in page.text
    assert "the utterances of test are of other speakers" in page.text
    assert "there is no validation part" in page.text
    assert "Confusion matrix" not in page.text
    assert "accuracy" not in format_results(tmp_path, "plain")[0]


def test_page_of_a_run_that_is_not_finished_shows_its_epochs(folder: Path, read_page: ReadPage) -> None:
    rows = json.loads((folder / "metrics.json").read_text())["rows"]
    edit(folder, rows=[row for row in rows if row["epoch"] == 1], selected_epoch=1, finished=False)
    page = read_page(write_report(folder))
    assert "training is not finished: 1 of 3 epochs" in page.text
    assert "Confusion matrix" not in page.text


def test_a_run_that_stopped_early_names_the_reason(folder: Path, read_page: ReadPage) -> None:
    settings = json.loads((folder / "metrics.json").read_text())["settings"]
    edit(folder, settings={**settings, "epochs": 50, "patience": 2})
    expected = "stopped after epoch 3 of 50: no better validation in 2 epochs"
    assert expected in read_page(write_report(folder)).text
    assert expected in format_results(folder, "plain")[0]


def test_a_run_without_other_parts_has_its_training_figures(
    corpus: Corpus, tmp_path: Path, read_page: ReadPage
) -> None:
    train_encoder(corpus, "conv1d", fractions=(1.0, 0.0, 0.0), output_dir=tmp_path, **SHORT)
    page = read_page(write_report(tmp_path))
    assert "train accuracy" in page.text
    assert "there is no validation part" in page.text
    assert "Confusion matrix" not in page.text


def test_files_that_could_not_be_read_are_counted_and_named(folder: Path, read_page: ReadPage) -> None:
    edit(folder, failures=[{"id": f"a/{number}.flac", "reason": "empty"} for number in range(7)])
    assert "7 files could not be read: a/0.flac, a/1.flac," in read_page(write_report(folder)).text


def test_names_cannot_break_the_page(
    corpus_root: Path, tmp_path: Path, hostile: tuple[str, ...], read_page: ReadPage
) -> None:
    files = [utterance.path for utterance in load_corpus(corpus_root)]
    names = [name for name in hostile if name.isprintable()]
    records = [
        {"path": str(path), "speaker": names[number // 4]} for number, path in enumerate(files[: 4 * len(names)])
    ]
    manifest = tmp_path / "list.csv"
    write_csv(manifest, records)
    train_encoder(load_corpus(manifest), "conv1d", output_dir=tmp_path / "run", command="<script>", **SHORT)
    page = read_page(write_report(tmp_path / "run"))
    assert page.tags().count("script") == 1


def test_page_of_a_thousand_speakers_stays_small(folder: Path, read_page: ReadPage) -> None:
    names = [f"speaker {number:04d}" for number in range(1250)]
    speakers = [
        {"speaker": name, "train": 10 + number % 90, "validation": 3, "test": 9} for number, name in enumerate(names)
    ]
    write_csv(folder / "training_speakers.csv", speakers)
    cells = [
        {"speaker": name, "predicted": names[(number + step * step) % 1250], "count": 1}
        for number, name in enumerate(names)
        for step in range(9)
    ]
    write_csv(folder / "confusion.csv", cells)
    path = write_report(folder)
    assert path.stat().st_size < 3e6
    text = read_page(path).text
    assert "1250 speakers" in text
    assert "And 9980 more pairs." in text


def test_damaged_results_are_refused(folder: Path) -> None:
    (folder / "confusion.csv").write_text("speaker,predicted,count\n101,102,many\n")
    with pytest.raises(ReportError, match="a report cannot be made"):
        write_report(folder)
