"""What the report of a comparison of heads shows."""

import math
from collections import defaultdict
from pathlib import Path

import numpy as np

from evaluation.comparison_pictures import (
    draw_calibration,
    draw_confusion,
    draw_curves,
    draw_maps,
    draw_speakers,
)  # fmt: skip
from evaluation.layer_curve import draw_layers
from evaluation.page import heading, listing, paragraph, percent, picture, read_csv, section, table
from evaluation.records import Record, rank_by_validation, summarise

# Speakers in the list of the worst, and lost files that are named of each.
WORST = 20
LOST = 5


def comparison_sections(folder: Path, metrics: Record) -> list[str]:
    """Make the sections from ``metrics.json`` and the CSV files beside it, and write the pictures as PNG files too."""
    answers = read_csv(folder / "answers.csv")
    sections = [answer_section(metrics), table_section(metrics)]
    if answers and read_csv(folder / "confusion.csv") and read_csv(folder / "per_speaker.csv"):
        sections += [confusion_section(folder), speaker_section(folder, answers), calibration_section(folder, answers)]
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


def confusion_section(folder: Path) -> str:
    """Show for whom each speaker was taken."""
    cells = read_csv(folder / "confusion.csv")
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


def speaker_section(folder: Path, answers: list[Record]) -> str:
    """Show the accuracy of each speaker, and the files that the worst ones lost."""
    records = read_csv(folder / "per_speaker.csv")
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
    filled = [
        {key: math.nan if value is None and key != "layer" else value for key, value in row.items()}
        for row in metrics.get("layers", ())
    ]
    own = [row for row in filled if row["split_by"] == metrics["best"]["split_by"]]
    sections = []
    for number, encoder in enumerate(dict.fromkeys(row["encoder"] for row in own), start=1):
        rows = [row for row in own if row["encoder"] == encoder]
        layers = sorted({row["layer"] for row in rows})
        records = [summarise([row for row in rows if row["layer"] == layer])[0] for layer in layers]
        best = rank_by_validation(records, metrics["best"]["split_by"])[0]["layer"]
        caption = f"Head {rows[0]['head']} on each layer of {encoder}; layer {best} is the best by validation."
        drawn = draw_layers(records, best)
        sections.append(section(f"Layers of {encoder}", picture(folder, f"layers_{number}", drawn, caption)))
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
        f"{len(points)} recordings, above coloured by speaker (six colours in turn), below by the answers of the first "
        "split. Hover over a point for its file. Distances in a t-SNE between groups mean little."
    )
    hover = {f"points-{column}": titles for column in range(len(places))}
    for column in range(len(places)):
        for kind in (-1, 0, 1):
            chosen = [title for title, answer in zip(titles, tested.tolist(), strict=True) if answer == kind]
            hover[f"points-{column}-{kind}"] = chosen
    return section("The embeddings", picture(folder, "embedding_map", drawn, caption, hover))
