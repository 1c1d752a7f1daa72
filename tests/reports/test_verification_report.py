"""`write_report` for a comparison of backends."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation import compare_backends
from features import FeatureSet
from reports import ReportError, write_report

MadeUp = Callable[..., FeatureSet]
ReadPage = Callable[[Path], Any]


def test_page_has_the_figures_of_the_rows(made_up: MadeUp, read_page: ReadPage, tmp_path: Path) -> None:
    comparison = compare_backends(made_up(), ["cosine", "plda"])
    comparison.save(tmp_path, "python speaker_verification.py evaluate")
    page = read_page(write_report(tmp_path))
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    for header, name, scale, form in (
        ("EER", "eer", 100, "{:.2f}"), ("from", "eer_low", 100, "{:.1f}"), ("to", "eer_high", 100, "{:.1f}"),
        ("targets", "n_target", 1, "{}"), ("nontargets", "n_nontarget", 1, "{}"), ("Cllr", "cllr", 1, "{:.3f}"),
        ("minDCF 0.01", "min_dcf_0.01", 1, "{:.3f}"), ("minDCF 0.05", "min_dcf_0.05", 1, "{:.3f}"),
    ):  # fmt: skip
        expected = [(form.format(scale * row[name]), repr(row[name])) for row in rows]
        assert page.column(header, "backend") == expected
    best = min((row for row in rows if row["trials"] == "all"), key=lambda row: row["eer"])
    across = next(row for row in rows if (row["backend"], row["trials"]) == (best["backend"], "cross-session"))
    rates = f"{100 * across['eer']:.2f} % across sessions, {100 * best['eer']:.2f} % on all trials"
    assert f"hard: {best['backend']} on made up features: equal error rate {rates}" in page.text
    lines = comparison.table().splitlines()
    assert [line.split()[:3] for line in lines if " * " in line] == [[best["backend"], "*", "all"]]


def test_operating_point_of_equal_errors_is_the_eer(made_up: MadeUp, tmp_path: Path) -> None:
    compare_backends(made_up(), ["cosine", "plda"]).save(tmp_path, "command")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    eers = {row["backend"]: row["eer"] for row in metrics["rows"] if row["trials"] == "all"}
    points = [point for point in metrics["operating_points"] if point["where"] == "equal errors"]
    assert [point["backend"] for point in points] == ["cosine", "plda"]
    for point in points:
        assert point["false_accept"] == pytest.approx(eers[point["backend"]], abs=0.01)
        assert point["miss"] == pytest.approx(eers[point["backend"]], abs=0.01)


def test_page_is_the_same_if_written_again(made_up: MadeUp, tmp_path: Path) -> None:
    compare_backends(made_up(), ["cosine", "plda"]).save(tmp_path, "command")
    before = write_report(tmp_path).read_bytes()
    for name in ("det_curve", "score_histogram"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert write_report(tmp_path).read_bytes() == before


def test_any_names_are_shown_as_text(
    made_up: MadeUp, hostile: tuple[str, ...], read_page: ReadPage, tmp_path: Path
) -> None:
    features = made_up(n_speakers=len(hostile))
    ids = tuple(f"{hostile[number % len(hostile)]}/{number}.wav" for number in range(len(features)))
    encoder = {**features.encoder, "name": hostile[0]}
    renamed = replace(features, speakers=hostile, ids=ids, corpus=hostile[2], encoder=encoder)
    compare_backends(renamed, ["cosine", "lda"]).save(tmp_path, hostile[1])
    page = read_page(write_report(tmp_path))
    assert not {"img", "b"} & set(page.tags())
    assert "<script>alert(1)</script>" in page.text


def test_curve_of_another_backend_is_refused(made_up: MadeUp, tmp_path: Path) -> None:
    compare_backends(made_up(), ["cosine"]).save(tmp_path, "command")
    path = tmp_path / "det_curve.csv"
    path.write_text(path.read_text().replace("cosine", "plda"))
    with pytest.raises(ReportError, match="a report cannot be made from the results"):
        write_report(tmp_path)


def test_interrupted_save_leaves_no_report(made_up: MadeUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = compare_backends(made_up(), ["cosine"])
    comparison.save(tmp_path, "command")
    write_report(tmp_path)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evaluation.backend_comparison.write_csv", interrupt)
    with pytest.raises(KeyboardInterrupt):
        comparison.save(tmp_path, "command")
    assert not {path.name for path in tmp_path.iterdir()} & {"report.html", "det_curve.csv", "det_curve.png"}
    with pytest.raises(ReportError, match="no results can be read"):
        write_report(tmp_path)
