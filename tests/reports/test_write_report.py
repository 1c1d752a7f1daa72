"""`write_report` for a comparison of heads: figures, pictures, names, damaged and older results."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluation import HEAD_COLUMNS, Column, HeadComparison, compare_heads, save_embedding_map
from evaluation.summary import key_of
from features import FeatureSet
from files import Record, TableFormat, read_csv, write_json
from reports import ReportError, format_results, write_report
from reports.comparison_pictures import MARKERS

MadeUp = Callable[..., FeatureSet]
ReadPage = Callable[[Path], Any]
# Headings of the table's columns, with their keys and digits.
COLUMNS = {
    "val acc": ("val_accuracy", 2), "test acc": ("test_accuracy", 2), "from": ("test_accuracy_low", 1),
    "to": ("test_accuracy_high", 1), "macro-F1": ("test_macro_f1", 2), "top-3": ("test_top3", 2),
    "top-5": ("test_top5", 2), "ECE": ("test_ece", 1),
}  # fmt: skip


def read_metrics(folder: Path) -> Record:
    metrics: Record = json.loads((folder / "metrics.json").read_text())
    return metrics


def test_page_is_well_formed_and_loads_nothing(saved: Path, read_page: ReadPage) -> None:
    page = read_page(saved / "report.html")
    assert page.tags().count("svg") == 6
    policy = next(attributes["content"] for tag, attributes in page.elements if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none';")


def test_folder_and_files_may_be_strings(made_up: MadeUp, tmp_path: Path) -> None:
    features, folder = made_up(n_speakers=4), f"{tmp_path}/results"
    comparison = compare_heads(features, "centroid")
    comparison.save(folder, "hard", "a command")
    save_embedding_map(f"{folder}/embedding_map.csv", comparison.classifier, features)
    assert write_report(folder) == Path(folder) / "report.html"
    assert len(read_csv(Path(folder) / "embedding_map.csv")) == len(features)


def test_page_links_its_glossary(saved: Path, read_page: ReadPage) -> None:
    page = read_page(saved / "report.html")
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    [target] = [link for link in links if link.startswith("#")]
    assert [attributes["id"] for tag, attributes in page.elements if f"#{attributes.get('id')}" == target]
    text = (saved / "report.html").read_text(encoding="utf-8")
    for term in ("session", "head", "ECE", "Cllr", "minDCF", "EER", "top-k accuracy", "false accept, FAR"):
        assert f"<dt>{term}</dt>" in text
    assert "val acc accuracy on the validation rows (by session, the mean over the sessions of" in page.text


def test_table_has_the_figures_of_the_summary(saved: Path, read_page: ReadPage) -> None:
    summary = read_metrics(saved)["summary"]
    page = read_page(saved / "report.html")
    assert [shown for shown, _ in page.column("head", "head")] == [record["head"] for record in summary]
    for header, (key, digits) in COLUMNS.items():
        expected = [
            (f"{100 * record[key]:.{digits}f}{deviation(record, key)}", repr(record[key])) for record in summary
        ]
        assert page.column(header, "head") == expected
    assert [value for _, value in page.column("seconds", "head")] == [repr(record["seconds"]) for record in summary]


def deviation(record: Record, key: str) -> str:
    """Return the standard deviation over the seeds, as tables show it after some figures."""
    return f" ±{100 * record[f'{key}_std']:.1f}" if key in ("val_accuracy", "test_accuracy") else ""


def test_page_links_the_files_beside_it(saved: Path, read_page: ReadPage, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    (folder / "answers.csv").rename(folder / "mine.csv")
    (folder / "table.tex").touch()
    page = read_page(write_report(folder, ("png", "svg")))
    links = [str(attributes["href"]) for tag, attributes in page.elements if tag == "a" and "download" in attributes]
    assert set(links) == {
        "metrics.csv", "metrics.json", "table.tex", "per_speaker.csv", "confusion.csv", "embedding_map.csv",
        "head_accuracies.png", "head_accuracies.svg", "learning_curves.png", "learning_curves.svg",
        "embedding_map.png", "embedding_map.svg",
    }  # fmt: skip


def test_summary_has_the_figures_of_the_best_head(saved: Path, read_page: ReadPage) -> None:
    metrics = read_metrics(saved)
    text = read_page(saved / "report.html").text
    best, gap = metrics["best"], metrics["session_gap"]
    name = {"lda": "LDA", "linear": "linear"}[best["head"]]
    assert f"hard: {name} on made up features: {100 * gap['new']:.1f} % in new sessions, " in text
    assert f"Split by utterance: {100 * best['test_accuracy']:.1f} % test accuracy" in text
    assert f"{100 * best['test_accuracy_low']:.1f} to {100 * best['test_accuracy_high']:.1f}" in text
    assert f"{100 * gap['new']:.1f} % in new sessions, {100 * gap['known']:.1f} % in known ones" in text
    assert f"a session gap of {100 * (gap['known'] - gap['new']):.1f} points" in text
    assert "24 test recordings in each of 2 splits, from 12 of 12 speakers" in text
    assert len(metrics["notes"]) > 4
    for note in metrics["notes"][1:]:
        assert " ".join(note.split()) in text
    assert "Confusion matrix" in text
    assert "python script.py --data_dir <&>" in text


def test_pictures_are_saved_and_points_have_titles(saved: Path, read_page: ReadPage) -> None:
    for name in ("confusion", "speakers", "calibration", "learning_curves", "embedding_map"):
        assert (saved / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    page = read_page(saved / "report.html")
    points, answers = (read_csv(saved / f"{name}.csv") for name in ("embedding_map", "answers"))
    of_first_seed = {answer["id"]: answer for answer in answers if answer["seed"] == "0"}
    assert {answer["right"] for answer in of_first_seed.values()} == {"0", "1"}
    speakers = sorted({point["speaker"] for point in points})
    titles, kinds = {}, {}
    for point in points:
        answer = of_first_seed.get(point["id"])
        prediction = f", predicted {answer['named']}" if answer else ""
        titles[point["id"]] = f"{point['id']}: {point['speaker']}{prediction}"
        kinds[point["id"]] = int(answer["right"]) if answer else -1
    for column in range(2):
        for mark in range(len(MARKERS)):
            own = [titles[point["id"]] for point in points if speakers.index(point["speaker"]) // 6 % 4 == mark]
            assert page.titles.get(f"embedding_map-speakers-{column}-{mark}", []) == own
        for kind in (-1, 0, 1):
            own = [titles[point["id"]] for point in points if kinds[point["id"]] == kind]
            assert page.titles[f"embedding_map-answers-{column}-{kind}"] == own


def test_pictures_are_written_in_each_format_and_always_the_same(saved: Path, tmp_path: Path) -> None:
    beginnings = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    contents = []
    for name in ("one", "two"):
        folder = tmp_path / name
        shutil.copytree(saved, folder)
        write_report(folder, ("pdf", "svg"))
        own = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix[1:] in beginnings}
        names = {path.stem for path in saved.glob("*.png")}
        assert {f"{stem}.{form}" for stem in names for form in beginnings} == own.keys()
        for file, content in own.items():
            assert content.startswith(beginnings[file[-3:]])
        contents.append(own)
    assert contents[0] == contents[1]


def test_page_has_date_version_and_citation(saved: Path, read_page: ReadPage, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    metrics = read_metrics(folder)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", metrics["created"])
    metrics["created"] = "2031-01-31T12:00:00Z"
    metrics["versions"] |= {"voxprobe": "9.8.7", "commit": "0123456789ab"}
    write_json(folder / "metrics.json", metrics)
    text = read_page(write_report(folder)).text
    assert "Computed on 2031-01-31 12:00:00 UTC." in text
    reference = (
        "The Voxprobe authors (2031). Voxprobe: speaker recognition on frozen audio encoders, version 9.8.7, commit"
    )
    assert f"To cite the software: {reference} 0123456789ab. Computer software." in text
    for field in ("@software{voxprobe,", "author = {{The Voxprobe authors}},", "version = {9.8.7},", "year = {2031},"):
        assert field in text


def test_page_is_made_from_the_files_alone(saved: Path, read_page: ReadPage, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    (folder / "report.html").unlink()
    assert write_report(folder).read_bytes() == (saved / "report.html").read_bytes()
    for name in ("answers.csv", "embedding_map.csv"):
        (folder / name).unlink()
    text = read_page(write_report(folder)).text
    assert "Learning curves" in text
    assert "Confusion matrix" not in text


def test_results_of_earlier_versions_are_drawn(saved: Path, read_page: ReadPage, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    expected = read_page(write_report(folder)).text
    metrics = read_metrics(folder)
    metrics["session_gap"]["verdict"] = "no more than chance"
    metrics["open_set"]["n_strangers"] = metrics["open_set"].pop("n_unknown")
    metrics["versions"] = {"torch": "2.6.0"}
    del metrics["created"]
    write_json(folder / "metrics.json", metrics)
    text = read_page(write_report(folder)).text
    assert text.partition("Provenance")[0] == expected.partition("Provenance")[0]
    assert "no more than chance" not in text
    for record in [*metrics["rows"], *metrics["summary"], metrics["best"]]:
        record.pop("test_ece")
    metrics.pop("differences")
    write_json(folder / "metrics.json", metrics)
    page = read_page(write_report(folder))
    assert page.column("ECE", "head") == [("-", None)] * len(metrics["summary"])
    assert "Differences" not in page.text


def test_new_column_is_in_both_tables_and_the_glossary(
    made_up: MadeUp, read_page: ReadPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = compare_heads(made_up(n_sessions=1), ["lda", "centroid"])
    column = Column("test_top2", "top-2", "percent", meaning="share of recordings with the speaker in the first two")
    columns = (*HEAD_COLUMNS, column)
    monkeypatch.setattr("evaluation.result_tables.HEAD_COLUMNS", columns)
    monkeypatch.setattr("reports.comparison_sections.HEAD_COLUMNS", columns)
    for number, record in enumerate(comparison.summary):
        record["test_top2"] = 0.5 + number / 8
    header, _, *lines = comparison.table().splitlines()
    assert header.split()[-1] == "top-2"
    assert [line.split()[-1] for line in lines[1:3]] == ["50.00", "62.50"]
    comparison.save(tmp_path, "corpus", "command")
    page = read_page(write_report(tmp_path))
    assert page.column("top-2", "head") == [("50.00", "0.5"), ("62.50", "0.625")]
    assert f"top-2 {column.meaning}" in page.text


def test_any_names_are_shown_as_text(
    made_up: MadeUp,
    hostile: tuple[str, ...],
    save_comparison: Callable[..., Path],
    read_page: ReadPage,
    tmp_path: Path,
) -> None:
    features = made_up(n_speakers=len(hostile))
    ids = tuple(f"{hostile[number % len(hostile)]}/{number}.wav" for number in range(len(features)))
    renamed = replace(features, speakers=hostile, ids=ids, corpus=hostile[0])
    page = read_page(save_comparison(renamed, tmp_path, ("centroid", "linear")))
    assert not {"img", "b"} & set(page.tags())
    assert "<script>alert(1)</script>" in page.text


def test_layers_and_several_encoders_are_shown(made_up: MadeUp, read_page: ReadPage, tmp_path: Path) -> None:
    one = made_up()
    noise = torch.randn(one.features.shape, generator=torch.Generator().manual_seed(0))
    layers = torch.stack([one.features, noise], dim=1)
    layered = replace(one, features=layers, encoder={**one.encoder, "layers": [0, 1]})
    other = replace(made_up(seed=1, encoder="another"), labels=one.labels)
    comparison = compare_heads([layered, other], ["linear", "centroid"], ensemble=True, options={"epochs": 5})
    comparison.save(tmp_path, "corpus", "command")
    save_embedding_map(tmp_path / "embedding_map.csv", comparison.classifier, [layered, other])
    page = read_page(write_report(tmp_path))
    text, differences = page.text, read_metrics(tmp_path)["differences"]
    # The tables of the differences have the same headings; `column` reads the first.
    names = [f"{one['other_head']} on {one['other_encoder']}" for one in differences["heads"]]
    assert [shown for shown, _ in page.column("second", "first")] == names
    for header, key, form in (
        ("difference", "difference", "{:+.1f}"),
        ("from", "low", "{:.1f}"),
        ("to", "high", "{:.1f}"),
    ):
        expected = [(form.format(100 * one[key]), repr(one[key])) for one in differences["heads"]]
        assert page.column(header, "first") == expected
    assert len(differences["encoders"]) == 3
    assert "The encoders against each other, each with its best head by validation." in text
    assert "Layers of made up" in text
    assert "The head linear on each layer of made up; layer 0 is the best by validation." in text
    assert (tmp_path / "layer_curve.png").read_bytes().startswith(b"\x89PNG")
    assert "another" in text
    compare_heads(other, ["centroid"]).save(tmp_path, "corpus", "command")
    assert not [*tmp_path.glob("*.png")]  # those of the earlier comparison are removed


@pytest.mark.parametrize("options", [{"split_by": "session"}, {"fractions": (0.8, 0.2, 0)}], ids=["session", "no test"])
def test_saved_results_have_the_tables_of_the_comparison(
    options: dict[str, Any], made_up: MadeUp, tmp_path: Path
) -> None:
    one = made_up(n_speakers=4)
    layers = torch.stack([one.features, one.features.flip(1)], dim=1)
    layered = replace(one, features=layers, encoder={**one.encoder, "layers": [3, 7]})
    comparison = compare_heads([layered, made_up(n_speakers=4, encoder="other")], ["lda", "centroid"], **options)
    comparison.save(tmp_path, "corpus", "command")
    forms: tuple[TableFormat, ...] = ("plain", "markdown", "latex")
    for form in forms:
        assert format_results(tmp_path, form) == comparison.tables(form)
    layer_table, table = comparison.tables()
    assert (layer_table, table) == (comparison.layer_table("made up"), comparison.table())
    assert f"{comparison.selected_layer('made up')} *" in layer_table
    metrics = read_metrics(tmp_path)
    for sizes in metrics["sizes"].values():  # as in results of an earlier version
        sizes.pop("by_session", None)
    write_json(tmp_path / "metrics.json", metrics)
    assert "train (cross-validated over sessions)" in format_results(tmp_path, "plain")[-1]


def test_many_speakers_are_shown_without_names(
    made_up: MadeUp, save_comparison: Callable[..., Path], read_page: ReadPage, tmp_path: Path
) -> None:
    page = read_page(save_comparison(made_up(n_speakers=80, n_each=10), tmp_path, ("centroid",)))
    assert "over all seeds (80 speakers, sorted by name)" in page.text
    assert (tmp_path / "report.html").stat().st_size < 10e6


@pytest.mark.parametrize("name", ["a\x1bb", "\udcff", "$x^{2$", "_hidden", "<b>"])
def test_encoders_may_have_any_name(name: str, made_up: MadeUp, read_page: ReadPage, tmp_path: Path) -> None:
    one = made_up(n_speakers=4, encoder=name)
    layers = torch.stack([one.features, one.features.flip(1)], dim=1)
    layered = replace(one, features=layers, encoder={**one.encoder, "layers": [0, 1]}, corpus=name)
    other = replace(made_up(n_speakers=4, seed=1), labels=one.labels)
    comparison = compare_heads([layered, other], ["linear"], options={"epochs": 2}, fractions=(0.8, 0.2, 0))
    comparison.save(tmp_path, "corpus", "command")
    assert "There is no test set; the validation accuracy is" in read_page(write_report(tmp_path)).text
    assert (tmp_path / "layer_curve.png").exists()


def test_comparison_without_a_test_set_has_a_report(made_up: MadeUp, read_page: ReadPage, tmp_path: Path) -> None:
    compare_heads(made_up(n_sessions=1), ["lda"], fractions=(0.8, 0.2, 0)).save(tmp_path, "corpus", "command")
    text = read_page(write_report(tmp_path)).text
    assert "There is no test set; the validation accuracy is" in text
    assert "no speaker has a second session" in text


def test_session_gap_is_that_of_speakers_tested_in_both_splits(
    made_up: MadeUp, read_page: ReadPage, tmp_path: Path
) -> None:
    one = made_up(n_speakers=16, shift=4.0)
    has_one_session = one.labels < 8
    shifts = torch.nn.functional.one_hot(one.labels.clamp(max=8), 10) * has_one_session[:, None]
    sessions = torch.where(has_one_session, one.labels * 4, one.sessions)
    # Speakers with one session are easy to classify, and are not tested by the split by session.
    comparison = compare_heads(replace(one, features=one.features + 50.0 * shifts, sessions=sessions), ["lda"], seeds=2)
    comparison.save(tmp_path, "corpus", "command")
    accuracy, accuracy_in_both = accuracies_by_utterance(comparison, first_label=8)
    assert abs(accuracy_in_both - accuracy) > 0.05
    text = read_page(write_report(tmp_path)).text
    assert f"{100 * accuracy_in_both:.1f} % in known ones" in text
    assert "(8 speakers tested in both)" in text


def accuracies_by_utterance(comparison: HeadComparison, first_label: int) -> tuple[float, float]:
    """Return the test accuracy of the split by utterance, on all speakers and on those from a label on."""
    (record,) = [record for record in comparison.summary if record["split_by"] == "utterance"]
    outcomes = comparison.outcomes[key_of(record)]
    labels = np.concatenate([outcome.labels for outcome in outcomes])
    correct = np.concatenate([outcome.labels == outcome.predictions for outcome in outcomes])
    return float(correct.mean()), float(correct[labels >= first_label].mean())


@pytest.mark.parametrize("name", ["answers", "confusion", "per_speaker"])
def test_truncated_tables_are_refused(name: str, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    path = tmp_path / "copy" / f"{name}.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ReportError, match="do not count the same test recordings"):
        write_report(tmp_path / "copy")


def test_interrupted_save_leaves_no_report(
    made_up: MadeUp, save_comparison: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_comparison(made_up(), tmp_path, ("centroid",))
    again = compare_heads(made_up(n_speakers=8), ["centroid"])

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evaluation.head_comparison.write_csv", interrupt)
    with pytest.raises(KeyboardInterrupt):
        again.save(tmp_path, "corpus", "command")
    assert not {path.name for path in tmp_path.iterdir()} & {"report.html", "answers.csv", "confusion.png"}
    with pytest.raises(ReportError, match="no results can be read"):
        write_report(tmp_path)


def test_other_pictures_in_the_folder_are_kept(made_up: MadeUp, tmp_path: Path) -> None:
    own = {"layer_curve_for_a_paper.png", "mine.png", "mine.pdf", "table.txt"}
    of_earlier_run = {"layer_curve_2.png", "confusion.pdf", "head_accuracies.svg", "table.tex", "table.md"}
    for name in own | of_earlier_run:
        (tmp_path / name).touch()
    compare_heads(made_up(), ["centroid"]).save(tmp_path, "corpus", "command")
    left = {path.name for path in tmp_path.iterdir()}
    assert own <= left
    assert not of_earlier_run & left


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no results can be read"),
        ("{", "no results can be read"),
        ("[]", "holds no results"),
        ('{"rows": []}', "holds no results"),
        ('{"rows": [{"features": "x"}]}', "a report cannot be made from the results in this folder"),
        ('{"rows": [{"eer": 1}], "command": null}', "a report cannot be made from the results in this folder"),
        ("[" * 100_000, "no results can be read"),
    ],
)
def test_folder_without_results_is_refused(content: str | None, expected: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(ReportError, match=expected):
        write_report(tmp_path)
