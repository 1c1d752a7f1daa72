"""Sections of the report of a comparison of heads."""

from collections import defaultdict
from typing import Any

import numpy as np

from evaluation import (
    HEAD_COLUMNS,
    NOT_SIGNIFICANT,
    SIGNIFICANT,
    TOO_FEW,
    describe_selection,
    mark_unsaved,
    mean_by_layer,
    rank_by_validation,
    shown,
    sort_summary,
    verdict,
)
from files import Record, count_of, format_percent, read_csv
from reports.comparison_pictures import (
    MARKERS,
    MAX_NAMED,
    draw_calibration,
    draw_confusion,
    draw_curves,
    draw_heads,
    draw_layers,
    draw_maps,
    draw_speakers,
    speaker_marker,
)
from reports.drawing import COLOURS
from reports.page import Pictures, columns_table, glossary, heading, listing, paragraph, section, table

# Maximum number of rows of a table, and of files that are named for each speaker.
MAX_ROWS = 20
MAX_FILES = 5


def comparison_sections(pictures: Pictures, metrics: Record) -> list[str]:
    """Make the sections from the results in a folder, and write their pictures to files too."""
    answers, cells, speakers = (
        read_csv(pictures.folder / f"{name}.csv") for name in ("answers", "confusion", "per_speaker")
    )
    sections = [summary_section(metrics), table_section(pictures, metrics), *difference_sections(metrics)]
    if answers and cells and speakers:
        if not len(answers) == sum(int(cell["count"]) for cell in cells) == sum(int(one["n_test"]) for one in speakers):
            raise ValueError("answers.csv, confusion.csv and per_speaker.csv do not count the same test recordings")
        sections += [
            confusion_section(pictures, cells),
            speaker_section(pictures, speakers, answers),
            calibration_section(pictures, answers),
        ]
    if metrics["curves"]:
        caption = (
            "Heads that are trained in epochs, with the first seed. The losses of heads with a margin (cosine) are not "
            "comparable with the others."
        )
        drawn = draw_curves(metrics["curves"])
        sections.append(section("Learning curves", pictures.add("learning_curves", drawn, caption=caption)))
    sections += layer_sections(pictures, metrics)
    points = read_csv(pictures.folder / "embedding_map.csv")
    if points:
        sections.append(map_section(pictures, metrics, points, answers=answers))
    return sections


def summary_section(metrics: Record) -> str:
    """Make the first section: the selected head, its accuracy, and the notes."""
    best = metrics["best"]
    features = "features of an unknown encoder" if best["encoder"] == "unknown" else f"{best['encoder']} features"
    name = f"{_head_name(best['head'])} on {features}"
    notes = listing([note for note in metrics["notes"] if not note.startswith("*")])  # the star is in the table only
    if best["test_accuracy"] is None:
        accuracy = f"There is no test set; the validation accuracy is {format_percent(best['val_accuracy'])} %."
        return heading(f"{best['features']}: {name}") + paragraph(accuracy) + notes
    low, high = format_percent(best["test_accuracy_low"]), format_percent(best["test_accuracy_high"])
    sizes, n_splits, n_speakers = metrics["sizes"][best["split_by"]], len(best["seeds"]), len(metrics["speakers"])
    n_tested = n_speakers - len(metrics["untested"].get(best["split_by"], ()))
    interval = (
        "no errors, so there is no interval" if best["test_accuracy"] == 1 else f"95 % CI over speakers {low} to {high}"
    )
    accuracy = f"{format_percent(best['test_accuracy'])} %"
    splits = f" in each of {n_splits} splits" if n_splits > 1 else ""
    return (
        heading(f"{best['features']}: {name}: {headline(metrics)}")
        + paragraph(
            f"Split by {best['split_by']}: {accuracy} test accuracy ({interval}); {sizes['test']} test "
            f"recordings{splits}, from {n_tested} of {n_speakers} speakers."
        )
        + paragraph(describe_session(metrics), kind="answer")
        + notes
    )


def headline(metrics: Record) -> str:
    """Return the accuracy for the title, that in new sessions first."""
    best, gap = metrics["best"], metrics["session_gap"]
    if gap:
        return f"{format_percent(gap['new'])} % in new sessions, {format_percent(gap['known'])} % in known ones"
    place = "in new sessions" if best["split_by"] == "session" else "test accuracy"
    return f"{format_percent(best['test_accuracy'])} % {place}"


def _head_name(head: str) -> str:
    """Return the name of a head with its abbreviations in capitals."""
    return head.upper().replace("BN_", "BN-") if head in ("lda", "plda", "mlp", "bn_mlp") else head


def describe_session(metrics: Record) -> str:
    """Describe how the accuracy changes in new sessions, and what to expect of new recordings."""
    best, gap = metrics["best"], metrics["session_gap"]
    if gap:
        consequence = {
            SIGNIFICANT: "significant: expect the first figure for recordings from another day or room.",
            NOT_SIGNIFICANT: "not significant.",
            TOO_FEW: "with too few speakers to test whether it is significant.",
        }[verdict(gap["n_speakers"], gap["low"], gap["high"])]
        return (
            f"{format_percent(gap['new'])} % in new sessions, {format_percent(gap['known'])} % in known ones "
            f"({gap['n_speakers']} speakers tested in both): a session gap of "
            f"{format_percent(gap['known'] - gap['new'])} points (95 % CI {format_percent(gap['low'])} to "
            f"{format_percent(gap['high'])}), {consequence}"
        )
    if best["split_by"] == "session":
        return "The test recordings are from sessions that are not in the training set."
    if best["split_by"] == "given":
        return "The test recordings are those of the test split that the corpus gives."
    return "A split by session is not possible: part of the accuracy may be due to the recording, not the voice."


def table_section(pictures: Pictures, metrics: Record) -> str:
    """Make the section with the means over seeds, and the picture of the test accuracies if there are some."""
    summary = sort_summary(metrics["summary"])
    names = {"head": "head", "encoder": "encoder", "split_by": "split by"}
    if len({record["encoder"] for record in summary}) == 1:
        del names["encoder"]  # it is in the heading of the page
    drawn = []
    if metrics["best"]["test_accuracy"] is not None:
        caption = (
            "Mean test accuracy of each head over the seeds, with its 95 % interval from a bootstrap over speakers. "
            "* selected by validation."
        )
        figure = draw_heads(summary, metrics["best"])
        drawn.append(pictures.add("head_accuracies", figure, caption=caption))
    records = [
        {**record, "head": record["head"] + mark_unsaved(record, metrics.get("unsaved", ()))} for record in summary
    ]
    rule = describe_selection(metrics["sizes"][metrics["best"]["split_by"]])
    return section(
        "All heads",
        columns_table(HEAD_COLUMNS, records, best=summary.index(metrics["best"]), text=names),
        paragraph(
            f"The marked head was {rule}. Selecting by test accuracy would make the test accuracy too optimistic. "
            "Figures are means over the seeds (± standard deviation, if there are several), in percent except for the "
            "seconds.",
            kind="faint",
        ),
        *drawn,
        glossary(shown(HEAD_COLUMNS)),
    )


def difference_sections(metrics: Record) -> list[str]:
    """Make the section with the paired differences of test accuracy, if the results have some."""
    found = metrics.get("differences", {})  # results of earlier versions have none
    parts = []
    for kind, caption in (
        ("heads", "The selected head against each other one."),
        ("encoders", "The encoders against each other, each with its best head by validation."),
    ):
        if found.get(kind):
            parts += [paragraph(caption), _difference_table(found[kind])]
    if not parts:
        return []
    parts.append(
        paragraph(
            "Test accuracy of the first minus that of the second, in points, with 95 % intervals from a paired "
            f"bootstrap over speakers, of the split by {metrics['best']['split_by']}. Each interval is for one "
            "comparison: of 20 comparisons of equally good heads, one is expected to be significant by chance.",
            kind="faint",
        )
    )
    return [section("Differences", *parts)]


def _difference_table(differences: list[Record]) -> str:
    several = len({one[key] for one in differences for key in ("encoder", "other_encoder")}) > 1
    lines: list[list[Any]] = []
    for one in differences:
        pair = (one["head"], one["encoder"]), (one["other_head"], one["other_encoder"])
        names = [f"{head} on {encoder}" if several else head for head, encoder in pair]
        figures = [(f"{100 * one['difference']:+.1f}", one["difference"])]
        figures += [(format_percent(one[bound]), one[bound]) for bound in ("low", "high")]
        lines.append([*names, *figures, one["verdict"]])
    return table(["first", "second", "difference", "from", "to", "verdict"], lines, text=(0, 1, 5))


def confusion_section(pictures: Pictures, cells: list[Record], what: str = "over all seeds") -> str:
    """Make the section with the confusion matrix of `what`."""
    speakers = sorted({cell[key] for cell in cells for key in ("speaker", "predicted")})
    wrong = sorted(
        (cell for cell in cells if cell["speaker"] != cell["predicted"]), key=lambda cell: -int(cell["count"])
    )
    lines = [[cell["speaker"], cell["predicted"], (cell["count"], int(cell["count"]))] for cell in wrong[:MAX_ROWS]]
    order = "" if len(speakers) <= MAX_NAMED else ", sorted by name"
    caption = (
        f"True speakers by row, predicted speakers by column, {what} ({count_of(len(speakers), 'speaker')}{order})."
    )
    parts = [pictures.add("confusion", draw_confusion(cells, speakers), caption=caption)]
    if lines:
        parts.append(table(["speaker", "predicted", "times"], lines, text=(0, 1)))
    if len(wrong) > MAX_ROWS:
        parts.append(paragraph(f"And {count_of(len(wrong) - MAX_ROWS, 'more pair')}.", kind="faint"))
    return section("Confusion matrix", *parts)


def speaker_section(pictures: Pictures, records: list[Record], answers: list[Record]) -> str:
    """Make the section with the accuracy of each speaker, and the misclassified files of the least accurate ones."""
    wrong: dict[str, dict[str, str]] = defaultdict(dict)
    for answer in answers:
        if answer["right"] == "0":
            wrong[answer["speaker"]][answer["id"]] = answer["named"]
    lines = []
    for record in [record for record in records if float(record["accuracy"]) < 1][:MAX_ROWS]:
        of_speaker = wrong[record["speaker"]]
        files = [f"{name} (as {named})" for name, named in list(of_speaker.items())[:MAX_FILES]]
        if len(of_speaker) > len(files):
            files.append(f"and {len(of_speaker) - len(files)} more")
        accuracy = float(record["accuracy"])
        lines.append([
            record["speaker"], (record["n_test"], int(record["n_test"])), (format_percent(accuracy), accuracy),
            record["taken_for"] or "-", ", ".join(files) or "-",
        ])  # fmt: skip
    n_perfect = sum(float(record["accuracy"]) == 1 for record in records)
    caption = (
        "Share of test recordings that are classified correctly, over all seeds. "
        f"{n_perfect} of {len(records)} speakers have no errors."
    )
    parts = [pictures.add("speakers", draw_speakers(records), caption=caption)]
    if lines:
        header = ["speaker", "tested", "accuracy", "most often predicted as", "misclassified files"]
        parts.append(table(header, lines, text=(0, 3, 4), long=4))
    return section("Accuracy by speaker, lowest first", *parts)


def calibration_section(pictures: Pictures, answers: list[Record]) -> str:
    """Make the section with the reliability diagram."""
    confidences = np.array([float(answer["probability"]) for answer in answers])
    right = np.array([answer["right"] == "1" for answer in answers])
    splits = np.array([int(answer["seed"]) for answer in answers])
    caption = (
        "Left: accuracy of the predictions by their probability; calibrated probabilities lie on the grey line. Right: "
        "number of predictions by probability."
    )
    if len(set(splits.tolist())) > 1:
        caption += " Deviations of single splits may cancel in the curve of all; the ECE above is the mean over splits."
    drawn = draw_calibration(confidences, right, splits)
    return section("Calibration of the probabilities", pictures.add("calibration", drawn, caption=caption))


def layer_sections(pictures: Pictures, metrics: Record) -> list[str]:
    """Make a section with the accuracy of each layer, for each encoder that has several."""
    rows, split_by = metrics.get("layers", ()), metrics["best"]["split_by"]
    encoders = dict.fromkeys(row["encoder"] for row in rows)
    sections = []
    for number, encoder in enumerate(encoders, start=1):
        records = mean_by_layer(rows, encoder, split_by)
        best = rank_by_validation(records, split_by)[0]["layer"]
        caption = f"The head {records[0]['head']} on each layer of {encoder}; layer {best} is the best by validation."
        name = f"layer_curve_{number}" if len(encoders) > 1 else "layer_curve"
        drawn = draw_layers(records, best)
        sections.append(section(f"Layers of {encoder}", pictures.add(name, drawn, caption=caption)))
    return sections


def map_section(pictures: Pictures, metrics: Record, points: list[Record], *, answers: list[Record]) -> str:
    """Make the section with the embeddings in two dimensions."""
    first = {(answer["id"], answer["speaker"]): answer for answer in answers if answer["seed"] == answers[0]["seed"]}
    keys = [(point["id"], point["speaker"]) for point in points]
    numbers = {name: number for number, name in enumerate(sorted({point["speaker"] for point in points}))}
    speakers = np.array([numbers[point["speaker"]] for point in points])
    tested = np.array([int(first[key]["right"]) if key in first else -1 for key in keys])
    titles = [f"{key[0]}: {key[1]}" + (f", predicted {first[key]['named']}" if key in first else "") for key in keys]
    places = {
        name: np.array([[float(point[f"{key}_{axis}"]) for axis in "xy"] for point in points])
        for name, key in (("PCA", "pca"), ("t-SNE", "tsne"))
    }
    n_all = max(origin["n_utterances"] for origin in metrics["origins"])
    caption = (
        f"{len(points)} of {n_all} recordings. Above: by speaker ({len(COLOURS)} colours and {len(MARKERS)} markers). "
        "Below: by the predictions of the first seed. Hover over a point for its file. Distances between clusters of "
        "t-SNE are not meaningful."
    )
    hover = {
        f"{group}-{column}-{kind}": [title for title, own in zip(titles, kinds.tolist(), strict=True) if own == kind]
        for group, kinds in (("speakers", speaker_marker(speakers)), ("answers", tested))
        for kind in set(kinds.tolist())
        for column in range(len(places))
    }
    drawn = draw_maps(places, speakers, tested)
    return section("Embeddings", pictures.add("embedding_map", drawn, caption=caption, titles=hover))
