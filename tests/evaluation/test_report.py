"""The report: one page, well formed, that reaches for nothing, says what the files say, and takes any name."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation import ReportError, compare_backends, compare_heads, save_embedding_map, write_report
from evaluation.comparison_pictures import MARKS, draw_confusion, draw_curves
from evaluation.embedding_map import by_tsne
from evaluation.page import read_csv
from evaluation.pictures import draw_det_curve
from features import FeatureSet

MadeUp = Callable[..., FeatureSet]
VOID = {"meta", "br", "img"}
SHOWN_MEASURES = {
    "val acc": "val_accuracy", "test acc": "test_accuracy", "from": "test_accuracy_low", "to": "test_accuracy_high",
    "macro-F1": "test_macro_f1", "top-3": "test_top3", "top-5": "test_top5", "ECE": "test_ece",
}  # fmt: skip
HOSTILE = (
    "<script>alert(1)</script>", '" onmouseover="alert(2)', "</svg><img src=x onerror=alert(3)>", "$x^{2$", "&lt;b&gt;",
    "a\x00b\x1b[31m", "\udcff", "]]>", "李雷", "{x} %s", "javascript:alert(4)", "O'Brien\n",
)  # fmt: skip


class Checker(HTMLParser):
    """Follows the elements of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.tables: list[list[list[tuple[str, str | None]]]] = []
        self.titles: dict[str, list[str]] = {}
        self.groups: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append(("", dict(attrs).get("data-value")))
        if tag == "g":
            self.groups.append(dict(attrs).get("id") or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "g":
            self.groups.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "button"):
            shown, value = self.tables[-1][-1][-1]
            self.tables[-1][-1][-1] = (shown + data, value)
        if self.open and self.open[-1] == "title" and self.groups:
            group = next(name for name in reversed(self.groups) if name)
            self.titles.setdefault(group, []).append(data)

    def column(self, header: str, first: str) -> list[tuple[str, str | None]]:
        """Return a column's cells, what is shown and what is sorted by, of the table whose head begins so."""
        own = next(table for table in self.tables if table[0][0][0] == first)
        place = [shown for shown, _ in own[0]].index(header)
        return [row[place] for row in own[1:]]


def check(path: Path) -> Checker:
    """Parse a page, and check what holds for each."""
    page = Checker()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert not page.open
    assert [tag for tag, _ in page.elements].count("script") == 1
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    styles = " ".join(str(attributes.get("style")) for _, attributes in page.elements) + path.read_text(
        encoding="utf-8"
    )
    assert not re.search(r"url\((?!#)|@import|<link|<iframe|<object", styles)
    return page


def save(features: FeatureSet, folder: Path, heads: tuple[str, ...] = ("linear", "lda")) -> Path:
    comparison = compare_heads(features, heads, seeds=2, options={"epochs": 5})
    comparison.save(folder, "corpus", "python script.py --data_dir <&>")
    save_embedding_map(folder / "embedding_map.csv", comparison.classifier, [features])
    return write_report(folder)


@pytest.fixture(scope="module")
def saved(made_up: MadeUp, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a comparison with its report."""
    folder = tmp_path_factory.mktemp("report")
    save(made_up(), folder)
    return folder


def test_the_page_is_well_formed_and_reaches_for_nothing(saved: Path) -> None:
    page = check(saved / "report.html")
    assert [tag for tag, _ in page.elements].count("svg") == 5
    policy = next(attributes["content"] for tag, attributes in page.elements if "http-equiv" in attributes)
    assert str(policy).startswith("default-src 'none';")


def test_the_page_holds_the_numbers_of_the_file(saved: Path) -> None:
    metrics = json.loads((saved / "metrics.json").read_text())
    page = check(saved / "report.html")
    summary = metrics["summary"]
    assert [shown for shown, _ in page.column("head", "head")] == [row["head"] for row in summary]
    for header, name in SHOWN_MEASURES.items():
        cells = page.column(header, "head")
        assert [value for _, value in cells] == [repr(row[name]) for row in summary]
        assert [shown for shown, _ in cells] == [f"{100 * row[name]:.1f}" for row in summary]
    assert [value for _, value in page.column("s", "head")] == [repr(row["seconds"]) for row in summary]
    text = " ".join(" ".join(page.text).split())
    best = metrics["best"]
    assert f"{best['head']} on vectors of made up names {100 * best['test_accuracy']:.1f} % of the rec" in text
    assert f"{100 * best['test_accuracy_low']:.1f} to {100 * best['test_accuracy_high']:.1f}" in text
    gap = metrics["session_gap"]
    assert f"Within known sessions {100 * gap['known']:.1f} %, in new ones {100 * gap['new']:.1f} %" in text
    assert f"a gap of {100 * (gap['known'] - gap['new']):.1f} points" in text
    assert "in each of 2 splits, by utterance, of 12 of 12 speakers" in text
    for note in metrics["notes"][1:]:
        assert " ".join(note.split()) in text
    assert "python script.py --data_dir <&>" in text


def test_pictures_lie_beside_it_and_points_tell_their_file(saved: Path) -> None:
    for name in ("confusion", "speakers", "calibration", "learning_curves", "embedding_map"):
        assert (saved / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    page = check(saved / "report.html")
    points, answers = (read_csv(saved / f"{name}.csv") for name in ("embedding_map", "answers"))
    named = {answer["id"]: answer for answer in answers if answer["seed"] == "0"}
    assert {answer["right"] for answer in named.values()} == {"0", "1"}
    everyone = sorted({point["speaker"] for point in points})
    told = {
        point["id"]: f"{point['id']}: {point['speaker']}"
        + (f", named {named[point['id']]['named']}" if point["id"] in named else "")
        for point in points
    }
    for column in range(2):
        for mark in range(len(MARKS)):
            own = [told[point["id"]] for point in points if everyone.index(point["speaker"]) // 6 % 4 == mark]
            assert page.titles.get(f"embedding_map-speakers-{column}-{mark}", []) == own
        for kind in (-1, 0, 1):
            own = [
                told[point["id"]] for point in points
                if (int(named[point["id"]]["right"]) if point["id"] in named else -1) == kind
            ]  # fmt: skip
            assert page.titles[f"embedding_map-answers-{column}-{kind}"] == own


def test_it_is_made_again_from_the_files_alone(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    (tmp_path / "copy" / "report.html").unlink()
    assert write_report(tmp_path / "copy").read_bytes() == (saved / "report.html").read_bytes()
    for name in ("answers.csv", "embedding_map.csv"):
        (tmp_path / "copy" / name).unlink()
    assert "Learning" in check(write_report(tmp_path / "copy")).text


def test_nothing_acts_by_its_name(made_up: MadeUp, tmp_path: Path) -> None:
    features = made_up(n_speakers=len(HOSTILE))
    ids = tuple(f"{HOSTILE[number % len(HOSTILE)]}/{number}.wav" for number in range(len(features)))
    hostile = replace(features, speakers=HOSTILE, ids=ids, corpus=HOSTILE[0])
    page = check(save(hostile, tmp_path, ("centroid", "linear")))
    assert not {"img", "b"} & {tag for tag, _ in page.elements}
    assert "<script>alert(1)</script>" in " ".join(page.text)


def test_layers_and_several_encoders_are_shown(made_up: MadeUp, tmp_path: Path) -> None:
    one = made_up()
    noise = torch.randn(one.features.shape, generator=torch.Generator().manual_seed(0))
    layers = torch.stack([one.features, noise], dim=1)
    layered = replace(one, features=layers, encoder={**one.encoder, "layers": [0, 1]})
    other = replace(made_up(seed=1, encoder="another"), labels=one.labels)
    comparison = compare_heads([layered, other], ["linear", "centroid"], ensemble=True, options={"epochs": 5})
    comparison.save(tmp_path, "corpus", "command")
    save_embedding_map(tmp_path / "embedding_map.csv", comparison.classifier, [layered, other])
    text = " ".join(check(write_report(tmp_path)).text)
    assert "Layers of made up" in text
    assert "encoders" not in text
    assert "Head linear on each layer of made up; layer 0 is the best by validation." in text
    assert (tmp_path / "layer_curve.png").read_bytes().startswith(b"\x89PNG")
    assert "another" in text
    compare_heads(other, ["centroid"]).save(tmp_path, "corpus", "command")
    assert not [*tmp_path.glob("*.png")]  # of the comparison before


def test_many_speakers_are_a_crowd(made_up: MadeUp, tmp_path: Path) -> None:
    page = check(save(made_up(n_speakers=80, n_each=10), tmp_path, ("centroid",)))
    assert "80 speakers by row" in " ".join(page.text)
    assert (tmp_path / "report.html").stat().st_size < 10e6


@pytest.mark.parametrize("name", ["a\x1bb", "\udcff", "$x^{2$", "_hidden", "<b>"])
def test_encoders_may_have_any_name(name: str, made_up: MadeUp, tmp_path: Path) -> None:
    one = made_up(n_speakers=4, encoder=name)
    layers = torch.stack([one.features, one.features.flip(1)], dim=1)
    layered = replace(one, features=layers, encoder={**one.encoder, "layers": [0, 1]}, corpus=name)
    other = replace(made_up(n_speakers=4, seed=1), labels=one.labels)
    comparison = compare_heads([layered, other], ["linear"], options={"epochs": 2}, fractions=(0.8, 0.2, 0))
    comparison.save(tmp_path, "corpus", "command")
    assert "Nothing was tested; of the validation it names" in " ".join(check(write_report(tmp_path)).text)
    assert (tmp_path / "layer_curve.png").exists()


def test_vectors_that_are_all_the_same_have_a_place() -> None:
    assert not by_tsne(np.ones((50, 8))).any()
    assert by_tsne(np.random.default_rng(0).normal(size=(2, 8))).shape == (2, 2)


def test_nothing_was_tested(made_up: MadeUp, tmp_path: Path) -> None:
    comparison = compare_heads(made_up(n_sessions=1), ["lda"], fractions=(0.8, 0.2, 0))
    comparison.save(tmp_path, "corpus", "command")
    text = " ".join(check(write_report(tmp_path)).text)
    assert "Nothing was tested; of the validation it names" in text
    assert "no speaker has a second session" in text


def test_trials_have_a_report_too(made_up: MadeUp, tmp_path: Path) -> None:
    found = compare_backends(made_up(), ["cosine", "plda"])
    found.save(tmp_path, "python speaker_verification.py evaluate")
    page = check(write_report(tmp_path))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    rows = metrics["rows"]
    for header, name, shown in (
        ("EER (%)", "eer", "{:.2f}"), ("from", "eer_low", "{:.2f}"), ("to", "eer_high", "{:.2f}"),
        ("targets", "n_target", "{}"), ("nontargets", "n_nontarget", "{}"), ("Cllr", "cllr", "{:.3f}"),
        ("minDCF 0.01", "min_dcf_0.01", "{:.3f}"), ("minDCF 0.05", "min_dcf_0.05", "{:.3f}"),
    ):  # fmt: skip
        scale = 100 if header in ("EER (%)", "from", "to") else 1
        expected = [(shown.format(scale * row[name]), repr(row[name])) for row in rows]
        assert page.column(header, "backend") == expected
    best = min((row for row in metrics["rows"] if row["trials"] == "all"), key=lambda row: row["eer"])
    text = " ".join(" ".join(page.text).split())
    across = next(
        row for row in metrics["rows"] if (row["backend"], row["trials"]) == (best["backend"], "cross-session")
    )
    said = f"{100 * across['eer']:.2f} % between sessions, {100 * best['eer']:.2f} % of all trials"
    assert f"hard: {best['backend']} has an equal error rate of {said}" in text
    lines = found.table().splitlines()
    assert [line.split()[:3] for line in lines if " * " in line] == [[best["backend"], "*", "all"]]
    for point in metrics["operating_points"]:
        if point["where"] == "equal errors":
            row = next(row for row in metrics["rows"] if row["backend"] == point["backend"] and row["trials"] == "all")
            assert point["false_accept"] == pytest.approx(row["eer"], abs=0.01)
            assert point["miss"] == pytest.approx(row["eer"], abs=0.01)
    for name in ("det_curve", "score_histogram"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "report.html").read_bytes()
    assert write_report(tmp_path).read_bytes() == before


def test_trials_of_any_names_have_a_report(made_up: MadeUp, tmp_path: Path) -> None:
    features = made_up(n_speakers=len(HOSTILE))
    ids = tuple(f"{HOSTILE[number % len(HOSTILE)]}/{number}.wav" for number in range(len(features)))
    encoder = {**features.encoder, "name": HOSTILE[0]}
    hostile = replace(features, speakers=HOSTILE, ids=ids, corpus=HOSTILE[2], encoder=encoder)
    compare_backends(hostile, ["cosine", "lda"]).save(tmp_path, HOSTILE[1])
    page = check(write_report(tmp_path))
    assert not {"img", "b"} & {tag for tag, _ in page.elements}
    assert "<script>alert(1)</script>" in " ".join(page.text)


@pytest.mark.parametrize("name", ["answers", "confusion", "per_speaker"])
def test_a_table_that_was_cut_off_is_not_shown(name: str, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    path = tmp_path / "copy" / f"{name}.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ReportError, match="do not count the same answers"):
        write_report(tmp_path / "copy")


def test_an_interrupted_save_leaves_no_report_of_two_runs(
    made_up: MadeUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(made_up(), tmp_path, ("centroid",))
    found = compare_backends(made_up(), ["cosine"])
    found.save(tmp_path / "trials", "command")
    write_report(tmp_path / "trials")
    again = compare_heads(made_up(n_speakers=8), ["centroid"])

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evaluation.comparison.write_csv", stop)
    monkeypatch.setattr("evaluation.verification.write_csv", stop)
    with pytest.raises(KeyboardInterrupt):
        again.save(tmp_path, "corpus", "command")
    with pytest.raises(KeyboardInterrupt):
        found.save(tmp_path / "trials", "command")
    for folder in (tmp_path, tmp_path / "trials"):
        assert not {path.name for path in folder.glob("*")} & {"report.html", "answers.csv", "det_curve.csv"}
        with pytest.raises(ReportError, match="no results can be read"):
            write_report(folder)


def test_a_curve_of_another_backend_is_refused(made_up: MadeUp, tmp_path: Path) -> None:
    compare_backends(made_up(), ["cosine"]).save(tmp_path, "command")
    path = tmp_path / "det_curve.csv"
    path.write_text(path.read_text().replace("cosine", "plda"))
    with pytest.raises(ReportError, match="cannot be made of the results here"):
        write_report(tmp_path)


def test_pictures_of_others_in_the_folder_stay(made_up: MadeUp, tmp_path: Path) -> None:
    for name in ("layer_curve_for_a_paper.png", "mine.png", "layer_curve_2.png"):
        (tmp_path / name).touch()
    compare_heads(made_up(), ["centroid"]).save(tmp_path, "corpus", "command")
    assert {path.name for path in tmp_path.glob("*.png")} == {"layer_curve_for_a_paper.png", "mine.png"}


def test_the_gap_is_that_of_speakers_who_are_tested_in_both(made_up: MadeUp, tmp_path: Path) -> None:
    one = made_up(n_speakers=16, shift=4.0)
    alone = one.labels < 8
    easy = one.features + 50.0 * torch.nn.functional.one_hot(one.labels.clamp(max=8), 10) * alone[:, None]
    halved = replace(one, features=easy, sessions=torch.where(alone, one.labels * 4, one.sessions))
    comparison = compare_heads(halved, ["lda"], seeds=2)
    comparison.save(tmp_path, "corpus", "command")
    text = " ".join(" ".join(check(write_report(tmp_path)).text).split())
    known = [outcome for key, outcomes in comparison.outcomes.items() if "utterance" in key for outcome in outcomes]
    labels, right = (
        np.concatenate(parts)
        for parts in zip(*((each.labels, each.labels == each.predictions) for each in known), strict=True)
    )
    both = right[labels >= 8].mean()
    assert abs(both - right.mean()) > 0.05
    assert f"Within known sessions {100 * both:.1f} %" in text
    assert "(8 speakers who are tested in both)" in text
    assert f"lda: {100 * both:.1f} in known sessions" in text


def test_nothing_on_the_terminal_acts_and_all_fits(made_up: MadeUp) -> None:
    names = ("\x1b]0;PWN\x07\x1b[31m0", *(f"speaker {number}" for number in range(1, 12)))
    one = replace(made_up(n_sessions=1, encoder="a" * 60), speakers=names)
    other = replace(made_up(n_sessions=1, seed=1, encoder="b" * 70), labels=one.labels, speakers=names)
    found = compare_heads([one, other], ["lda"], ensemble=True)
    printed = replace(found, untested={"session": names}).table()
    assert "not tested by session: 12 speakers (" in printed
    assert all(line.isprintable() and len(line) <= 100 for line in printed.splitlines())
    assert "train, 24 validation, 24 test utterances]" in printed


def test_a_picture_shows_the_answers_that_there_are() -> None:
    cells = [{"speaker": f"{n:02d}", "predicted": f"{(n + 1) % 80:02d}", "count": "1"} for n in range(80)]
    (axes,) = draw_confusion(cells, [f"{n:02d}" for n in range(80)]).axes
    right, wrong = axes.collections
    assert (np.shape(right.get_offsets()), np.shape(wrong.get_offsets())) == ((0, 2), (80, 2))
    assert not axes.lines


def test_a_curve_without_errors_is_seen() -> None:
    points = [{"backend": "x", "false_accept": str(a), "miss": str(m)} for a, m in ((1, 0), (0, 0), (0, 1))]
    (axes,) = draw_det_curve(points, [{"backend": "x", "trials": "all", "eer": 0.0}]).axes
    curve = axes.lines[0].get_xydata()
    assert np.isfinite(np.asarray(curve)).all()
    (low, high), _ = axes.get_xlim(), axes.get_ylim()
    assert np.asarray(curve).min() == pytest.approx(low)
    assert np.asarray(curve).max() == pytest.approx(high)


def test_many_legends_fit() -> None:
    curves = {
        f"{head} of {name}": [{"train_loss": 1.0, "val_accuracy": 0.5}] * 3
        for head in ("linear", "mlp", "bn_mlp", "cosine", "weighted")
        for name in ("wav2vec2-base-960h", "audiosep-hive-clap")
    }
    figure = draw_curves(curves)
    figure.canvas.draw()
    (legend,) = figure.legends
    assert legend.get_window_extent().width <= figure.bbox.width


def test_notes_take_a_line_each(made_up: MadeUp) -> None:
    found = compare_heads(made_up(shift=4.0), ["linear", "lda"], seeds=2, ensemble=True, options={"epochs": 5})
    printed = found.table().splitlines()
    assert len([line for line in printed if line in found.notes]) == len(found.notes) >= 6
    assert max(map(len, printed)) <= 100
    long = replace(found, leaks=[f"3 recordings: {'a/long/path.wav, ' * 20}"])
    assert max(map(len, long.table().splitlines())) <= 100
    assert long.table().splitlines()[-1].startswith("3 recordings: a/long/path.wav")
    assert any("a small test: each of its 24 utterances is 4.2 points" in line for line in printed)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no results can be read"),
        ("{", "no results can be read"),
        ("[]", "holds no results"),
        ('{"rows": []}', "holds no results"),
        ('{"rows": [{"features": "x"}]}', "a report cannot be made of the results here"),
        ('{"rows": [{"eer": 1}], "command": null}', "a report cannot be made of the results here"),
        ("[" * 100_000, "no results can be read"),
    ],
)
def test_what_holds_no_results_is_refused(content: str | None, told: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(ReportError, match=told):
        write_report(tmp_path)
