"""What the report of a comparison of heads shows."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from evaluation.comparison_pictures import (
    MARKS,
    draw_calibration,
    draw_confusion,
    draw_curves,
    draw_maps,
    draw_speakers,
    speaker_mark,
)  # fmt: skip
from evaluation.drawing import COLOURS
from evaluation.layer_curve import draw_layers, mean_by_layer
from evaluation.page import heading, listing, paragraph, percent, picture, read_csv, section, table
from evaluation.records import Record, rank_by_validation

# Speakers in the list of the worst, and lost files that are named of each.
WORST = 20
LOST = 5


def comparison_sections(folder: Path, metrics: Record) -> list[str]:
    """Make the sections from ``metrics.json`` and the CSV files beside it, and write the pictures as PNG files too."""
    answers, cells, speakers = (read_csv(folder / f"{name}.csv") for name in ("answers", "confusion", "per_speaker"))
    sections = [answer_section(metrics), table_section(metrics)]
    if answers and cells and speakers:
        if not len(answers) == sum(int(cell["count"]) for cell in cells) == sum(int(one["n_test"]) for one in speakers):
            raise ValueError("answers.csv, confusion.csv and per_speaker.csv do not count the same answers")
        sections += [
            confusion_section(folder, cells),
            speaker_section(folder, speakers, answers),
            calibration_section(folder, answers),
        ]
    if metrics["curves"]:
        caption = "Of the heads that are trained in epochs, on the first split that each was fitted on."
        drawn = draw_curves(metrics["curves"])
        sections.append(section("Learning", picture(folder, "learning_curves", drawn, caption)))
    sections += layer_sections(folder, metrics)
    points = read_csv(folder / "embedding_map.csv")
    if points:
        sections.append(map_section(folder, points, answers))
    return sections


def answer_section(metrics: Record) -> str:
    """Open with the answer, and what it means."""
    best = metrics["best"]
    encoder = "of an unknown encoder" if best["encoder"] == "unknown" else f"of {best['encoder']}"
    name = f"{best['head']} on vectors {encoder}"
    if best["test_accuracy"] is None:
        return heading(f"{best['features']}: {name}") + paragraph("No speaker had a recording to spare for a test.")
    low, high = percent(best["test_accuracy_low"]), percent(best["test_accuracy_high"])
    sizes = metrics["sizes"][best["split_by"]]
    return (
        heading(f"{best['features']}: {name} names {percent(best['test_accuracy'])} % of the recordings right")
        + paragraph(
            f"95 % interval over speakers {low} to {high}; {sizes['test']} test recordings, split by "
            f"{best['split_by']}, {len(metrics['speakers'])} speakers."
        )
        + paragraph(about_the_session(metrics), "answer")
        + listing(metrics["notes"])
    )


def about_the_session(metrics: Record) -> str:
    """Say how much of the accuracy another session takes away, and what that means."""
    best = metrics["best"]
    same = [
        row for row in metrics["summary"]
        if all(row[key] == best[key] for key in ("encoder", "head", "scaler")) and row["test_accuracy"] is not None
    ]  # fmt: skip
    shares = {row["split_by"]: row["test_accuracy"] for row in same}
    if len(shares) < 2 and best["split_by"] == "session":
        return "Its test recordings are of sessions that it was not trained on."
    if len(shares) < 2:
        return (
            "There is no split that keeps sessions apart beside it: how much of this is the recording, not the voice, "
            "is not known."
        )
    gap = shares["utterance"] - shares["session"]
    return (
        f"Within known sessions {percent(shares['utterance'])} %, in new ones {percent(shares['session'])} %: a gap of "
        f"{100 * gap:.1f} points. Of recordings from another day or room expect the second figure; the lines below say "
        "whether the gap is more than chance."
    )


def table_section(metrics: Record) -> str:
    """Show the means over seeds."""
    header = [
        "head",
        "encoder",
        "split by",
        "val acc",
        "test acc",
        "from",
        "to",
        "macro-F1",
        "top-3",
        "top-5",
        "ECE",
        "s",
    ]
    names = ("val_accuracy", "test_accuracy", "test_accuracy_low", "test_accuracy_high", "test_macro_f1", "test_top3",
             "test_top5", "test_ece")  # fmt: skip
    lines = [
        [row["head"], row["encoder"], row["split_by"], *((percent(row[name]), row[name]) for name in names),
         (f"{row['seconds']:.2f}", row["seconds"])]
        for row in metrics["summary"]
    ]  # fmt: skip
    best = metrics["summary"].index(metrics["best"])
    note = "Percent (and seconds), means over the seeds, 95 % intervals over speakers; marked is what validation chose."
    return section("All heads", table(header, lines, best, text=(0, 1, 2)), paragraph(note, "faint"))


def confusion_section(folder: Path, cells: list[Record]) -> str:
    """Show for whom each speaker was taken."""
    speakers = sorted({cell[key] for cell in cells for key in ("speaker", "predicted")})
    wrong = sorted(
        (cell for cell in cells if cell["speaker"] != cell["predicted"]), key=lambda cell: -int(cell["count"])
    )
    lines = [[cell["speaker"], cell["predicted"], (cell["count"], int(cell["count"]))] for cell in wrong[:WORST]]
    caption = f"{len(speakers)} speakers by row, whom they were named by column; all seeds."
    parts = [picture(folder, "confusion", draw_confusion(cells, speakers), caption)]
    if lines:
        parts.append(table(["speaker", "taken for", "times"], lines, text=(0, 1)))
    return section("Who is taken for whom", *parts)


def speaker_section(folder: Path, records: list[Record], answers: list[Record]) -> str:
    """Show the accuracy of each speaker, and the files that the worst ones lost."""
    lost: dict[str, dict[str, str]] = defaultdict(dict)
    for answer in answers:
        if answer["right"] == "0":
            lost[answer["speaker"]][answer["id"]] = answer["named"]
    lines = []
    for record in [record for record in records if float(record["accuracy"]) < 1][:WORST]:
        files = [f"{name} (as {named})" for name, named in list(lost[record["speaker"]].items())[:LOST]]
        more = len(lost[record["speaker"]]) - len(files)
        share = float(record["accuracy"])
        lines.append([
            record["speaker"], (record["n_test"], int(record["n_test"])), (percent(share), share),
            record["taken_for"] or "–", ", ".join(files) + (f" and {more} more" if more else "") or "–",
        ])  # fmt: skip
    n_perfect = sum(float(record["accuracy"]) == 1 for record in records)
    caption = f"Share of the test recordings that are named right, all seeds; {n_perfect} of {len(records)} lost none."
    parts = [picture(folder, "speakers", draw_speakers(records), caption)]
    if lines:
        header = ["speaker", "tested", "accuracy", "most taken for", "lost files"]
        parts.append(table(header, lines, text=(0, 3, 4), long=4))
    return section("Speaker by speaker, the worst first", *parts)


def calibration_section(folder: Path, answers: list[Record]) -> str:
    """Show what the probabilities are worth."""
    confidences = np.array([float(answer["probability"]) for answer in answers])
    right = np.array([answer["right"] == "1" for answer in answers])
    caption = "On the line, answers are right as often as they say."
    return section(
        "What the probabilities are worth",
        picture(folder, "calibration", draw_calibration(confidences, right), caption),
    )


def layer_sections(folder: Path, metrics: Record) -> list[str]:
    """Show how well each layer does, of the encoders that have several."""
    rows, split_by = metrics.get("layers", ()), metrics["best"]["split_by"]
    encoders = dict.fromkeys(row["encoder"] for row in rows)
    sections = []
    for number, encoder in enumerate(encoders, start=1):
        records = mean_by_layer(rows, encoder, split_by)
        best = rank_by_validation(records, split_by)[0]["layer"]
        caption = f"Head {records[0]['head']} on each layer of {encoder}; layer {best} is the best by validation."
        name = f"layer_curve_{number}" if len(encoders) > 1 else "layer_curve"
        sections.append(section(f"Layers of {encoder}", picture(folder, name, draw_layers(records, best), caption)))
    return sections


def map_section(folder: Path, points: list[Record], answers: list[Record]) -> str:
    """Show the embeddings in two dimensions."""
    first = {answer["id"]: answer for answer in answers if answer["seed"] == answers[0]["seed"]}
    numbers = {name: number for number, name in enumerate(sorted({point["speaker"] for point in points}))}
    speakers = np.array([numbers[point["speaker"]] for point in points])
    tested = np.array([int(first[point["id"]]["right"]) if point["id"] in first else -1 for point in points])
    titles = [
        f"{point['id']}: {point['speaker']}"
        + (f", named {first[point['id']]['named']}" if point["id"] in first else "")
        for point in points
    ]
    places = {
        name: np.array([[float(point[f"{key}_{axis}"]) for axis in "xy"] for point in points])
        for name, key in (("PCA", "pca"), ("t-SNE", "tsne"))
    }
    drawn = draw_maps(places, speakers, tested)
    caption = (
        f"{len(points)} recordings, above by speaker ({len(COLOURS)} colours and {len(MARKS)} marks in turn), below by "
        "the answers of the first split. Hover over a point for its file. Distances in a t-SNE between groups mean "
        "little."
    )
    hover = {
        f"{group}-{column}-{kind}": [title for title, own in zip(titles, kinds.tolist(), strict=True) if own == kind]
        for group, kinds in (("speakers", speaker_mark(speakers)), ("answers", tested))
        for kind in set(kinds.tolist())
        for column in range(len(places))
    }
    return section("The embeddings", picture(folder, "embedding_map", drawn, caption, hover))
