"""What the report of a comparison of heads shows."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from evaluation.comparison_pictures import (
    MARKS,
    NAMED,
    draw_calibration,
    draw_confusion,
    draw_curves,
    draw_maps,
    draw_speakers,
    speaker_mark,
)  # fmt: skip
from evaluation.drawing import COLOURS
from evaluation.layer_curve import draw_layers, mean_by_layer
from evaluation.notes import MORE, NO_MORE, TOO_FEW
from evaluation.page import heading, listing, paragraph, percent, picture, read_csv, section, table
from evaluation.records import Record, rank_by_validation

GLOSSARY = (
    "Percent (and seconds), means over the splits. Marked is what the validation accuracy (val acc) chose, of equals "
    "the log loss; that another has a higher test accuracy may be chance, and to choose by the test would flatter it. "
    "From and to: 95 % interval of the test accuracy, over speakers. Macro-F1: every speaker counts alike. Top-3: the "
    "right speaker is among the three likeliest. ECE: by how much the probabilities are off."
)
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
        caption = (
            "Of the heads that are trained in epochs, in the first split. Losses of heads with a margin (cosine) are "
            "not those of the others."
        )
        drawn = draw_curves(metrics["curves"])
        sections.append(section("Learning", picture(folder, "learning_curves", drawn, caption)))
    sections += layer_sections(folder, metrics)
    points = read_csv(folder / "embedding_map.csv")
    if points:
        sections.append(map_section(folder, metrics, points, answers))
    return sections


def answer_section(metrics: Record) -> str:
    """Open with the answer, and what it means."""
    best = metrics["best"]
    encoder = "of an unknown encoder" if best["encoder"] == "unknown" else f"of {best['encoder']}"
    name = f"{best['head']} on vectors {encoder}"
    notes = listing([note for note in metrics["notes"] if not note.startswith("*")])  # that one is the table's
    if best["test_accuracy"] is None:
        said = f"Nothing was tested; of the validation it names {percent(best['val_accuracy'])} % right."
        return heading(f"{best['features']}: {name}") + paragraph(said) + notes
    low, high = percent(best["test_accuracy_low"]), percent(best["test_accuracy_high"])
    sizes, n_splits, n_speakers = metrics["sizes"][best["split_by"]], len(best["seeds"]), len(metrics["speakers"])
    n_tested = n_speakers - len(metrics["untested"].get(best["split_by"], ()))
    interval = (
        "no mistake, so there is no interval" if low == "100.0" else f"95 % interval over speakers {low} to {high}"
    )
    return (
        heading(f"{best['features']}: {name} names {percent(best['test_accuracy'])} % of the recordings right")
        + paragraph(
            f"{interval}; {sizes['test']} test recordings"
            + (f" in each of {n_splits} splits" if n_splits > 1 else "")
            + f", by {best['split_by']}, of {n_tested} of {n_speakers} speakers."
        )
        + paragraph(about_the_session(metrics), "answer")
        + notes
    )


def about_the_session(metrics: Record) -> str:
    """Say how much of the accuracy another session takes away, and what that means."""
    best, gap = metrics["best"], metrics["session_gap"]
    if gap:
        verdict = {
            MORE: "which is more than chance: of recordings from another day or room expect the second figure.",
            NO_MORE: "which may be chance.",
            TOO_FEW: "of which so few speakers cannot tell whether it is chance.",
        }[gap["verdict"]]
        return (
            f"Within known sessions {percent(gap['known'])} %, in new ones {percent(gap['new'])} % "
            f"({gap['n_speakers']} speakers who are tested in both): a gap of {percent(gap['known'] - gap['new'])} "
            f"points ({percent(gap['low'])} to {percent(gap['high'])}), {verdict}"
        )
    if best["split_by"] == "session":
        return "Its test recordings are of sessions that it was not trained on."
    return (
        "There is no split that keeps sessions apart beside it: how much of this is the recording, not the voice, is "
        "not known."
    )


def table_section(metrics: Record) -> str:
    """Show the means over seeds."""
    header = [
        "head", "split by", "test acc", "from", "to", "val acc", "macro-F1", "top-3", "top-5", "ECE", "s", "encoder"
    ]  # fmt: skip
    names = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "val_accuracy", "test_macro_f1", "test_top3",
             "test_top5", "test_ece")  # fmt: skip
    lines = [
        [row["head"], row["split_by"], *((percent(row[name]), row[name]) for name in names),
         (f"{row['seconds']:.2f}", row["seconds"]), row["encoder"]]
        for row in metrics["summary"]
    ]  # fmt: skip
    best = metrics["summary"].index(metrics["best"])
    return section("All heads", table(header, lines, best, text=(0, 1, 11)), paragraph(GLOSSARY, "faint"))


def confusion_section(folder: Path, cells: list[Record]) -> str:
    """Show for whom each speaker was taken."""
    speakers = sorted({cell[key] for cell in cells for key in ("speaker", "predicted")})
    wrong = sorted(
        (cell for cell in cells if cell["speaker"] != cell["predicted"]), key=lambda cell: -int(cell["count"])
    )
    lines = [[cell["speaker"], cell["predicted"], (cell["count"], int(cell["count"]))] for cell in wrong[:WORST]]
    order = "" if len(speakers) <= NAMED else ", in the order of their names"
    caption = f"{len(speakers)} speakers by row{order}, whom they were named by column; the answers of all splits."
    parts = [picture(folder, "confusion", draw_confusion(cells, speakers), caption)]
    if lines:
        parts.append(table(["speaker", "taken for", "times"], lines, text=(0, 1)))
        parts += [paragraph(f"And {len(wrong) - WORST} pairs more.", "faint")] * (len(wrong) > WORST)
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
    caption = f"Share of the test recordings that are named right, all splits; {n_perfect} of {len(records)} lost none."
    parts = [picture(folder, "speakers", draw_speakers(records), caption)]
    if lines:
        header = ["speaker", "tested", "accuracy", "most taken for", "lost files"]
        parts.append(table(header, lines, text=(0, 3, 4), long=4))
    return section("Speaker by speaker, the worst first", *parts)


def calibration_section(folder: Path, answers: list[Record]) -> str:
    """Show what the probabilities are worth."""
    confidences = np.array([float(answer["probability"]) for answer in answers])
    right = np.array([answer["right"] == "1" for answer in answers])
    splits = np.array([int(answer["seed"]) for answer in answers])
    caption = "On the grey line, answers are right as often as they say; right is how many answers there are."
    if len(set(splits.tolist())) > 1:
        caption += " What the splits are off may cancel in all of them; ECE above is the mean over the splits."
    return section(
        "What the probabilities are worth",
        picture(folder, "calibration", draw_calibration(confidences, right, splits), caption),
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


def map_section(folder: Path, metrics: Record, points: list[Record], answers: list[Record]) -> str:
    """Show the embeddings in two dimensions."""
    first = {(answer["id"], answer["speaker"]): answer for answer in answers if answer["seed"] == answers[0]["seed"]}
    keys = [(point["id"], point["speaker"]) for point in points]
    numbers = {name: number for number, name in enumerate(sorted({point["speaker"] for point in points}))}
    speakers = np.array([numbers[point["speaker"]] for point in points])
    tested = np.array([int(first[key]["right"]) if key in first else -1 for key in keys])
    titles = [f"{key[0]}: {key[1]}" + (f", named {first[key]['named']}" if key in first else "") for key in keys]
    places = {
        name: np.array([[float(point[f"{key}_{axis}"]) for axis in "xy"] for point in points])
        for name, key in (("PCA", "pca"), ("t-SNE", "tsne"))
    }
    n_all = max(origin["n_utterances"] for origin in metrics["origins"])
    drawn = draw_maps(places, speakers, tested)
    caption = (
        f"{len(points)} of {n_all} recordings, above by speaker ({len(COLOURS)} colours and {len(MARKS)} marks in "
        "turn), below by the answers of the first split. Hover over a point for its file. Distances in a t-SNE "
        "between groups mean little."
    )
    hover = {
        f"{group}-{column}-{kind}": [title for title, own in zip(titles, kinds.tolist(), strict=True) if own == kind]
        for group, kinds in (("speakers", speaker_mark(speakers)), ("answers", tested))
        for kind in set(kinds.tolist())
        for column in range(len(places))
    }
    return section("The embeddings", picture(folder, "embedding_map", drawn, caption, hover))
