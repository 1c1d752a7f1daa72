"""Sections of the report of a training run."""

import json

from evaluation import scored_row, selected_rows, training_columns, training_notes
from files import Record, count_of, format_duration, format_percent, read_csv
from reports.comparison_sections import confusion_section
from reports.page import Pictures, columns_table, glossary, heading, listing, paragraph, section, table
from reports.training_pictures import (
    draw_audio_histograms,
    draw_count_histogram,
    draw_speaker_counts,
    draw_training_curves,
)
from reports.verification_pictures import draw_det_curve


def training_sections(pictures: Pictures, metrics: Record) -> list[str]:
    """Make the sections from the results in a folder, and write their pictures to files too."""
    columns, rows = training_columns(metrics), selected_rows(metrics)
    sections = [
        summary_section(metrics),
        section(
            f"Figures of epoch {metrics['selected_epoch']}",
            columns_table(columns, rows, best=len(rows) - 1, text={"part": "part", "network": "network"}),
            glossary(columns),
        ),
        curves_section(pictures, metrics),
        *data_sections(pictures, metrics),
    ]
    if metrics["finished"]:  # an unfinished run has no scores yet
        sections += score_sections(pictures, metrics)
    return [*sections, settings_section(metrics)]


def summary_section(metrics: Record) -> str:
    """Make the first section: the networks, their figure, and the notes."""
    row, last = scored_row(metrics), max(row["epoch"] for row in metrics["rows"])
    networks = ", ".join(metrics["networks"])
    parts = {part["part"]: part for part in metrics["parts"]}
    if row["accuracy"] is not None:
        answer = f"{row['part']} accuracy {format_percent(row['accuracy'])} %"
    elif row["eer"] is not None:
        answer = f"{row['part']} EER {format_percent(row['eer'])} %"
    else:
        answer = f"{count_of(last, 'epoch')} of training"
    speakers = count_of(parts["train"]["n_speakers"], "speaker")
    duration = format_duration(3600 * parts["train"]["hours"])
    text = (
        f"Trained on {count_of(parts['train']['n_utterances'], 'utterance')} of {speakers} ({duration}), by "
        f"{metrics['settings']['objective']}."
    )
    others = [name for name in ("validation", "test") if parts[name]["n_utterances"]]
    if others and metrics["split_by"] != "given":  # the notes have the speakers of given splits
        where = "other speakers" if metrics["split_by"] == "speaker" else "the same speakers"
        text += f" Split by {metrics['split_by']}: the utterances of {' and '.join(others)} are of {where}."
    notes = [note.removeprefix("* ") for note in training_notes(metrics)]
    return heading(f"{metrics['corpus']}: {networks}: {answer}") + paragraph(text) + listing(notes)


def curves_section(pictures: Pictures, metrics: Record) -> str:
    """Make the section with the curves over the epochs."""
    rows = metrics["rows"]
    caption = (
        "Loss, accuracy, EER and learning rate (at the end of the epoch), as far as this run has them. The curves of "
        "train are means over the crops of the epoch, while the network learned; the others are of whole utterances, "
        "after the epoch."
    )
    if len({row["epoch"] for row in rows if row["part"] == "test"}) > 1:
        caption += " The curve of test is shown only: it never selects the epoch."
    drawn = draw_training_curves(rows, metrics["selected_epoch"])
    return section("Learning curves", pictures.add("training_curves", drawn, caption=caption))


def data_sections(pictures: Pictures, metrics: Record) -> list[str]:
    """Make the section with the numbers and charts of the utterances."""
    speakers = read_csv(pictures.folder / "training_speakers.csv")
    bins = read_csv(pictures.folder / "training_histograms.csv")
    lines = [
        [
            part["part"],
            (str(part["n_speakers"]), part["n_speakers"]),
            (str(part["n_utterances"]), part["n_utterances"]),
            (f"{part['hours']:.2f}", part["hours"]),
        ]
        for part in metrics["parts"]
    ]
    parts = [table(["part", "speakers", "utterances", "hours"], lines)]
    if speakers:
        caption = f"Utterances of each of {count_of(len(speakers), 'speaker')}, by part."
        parts.append(pictures.add("training_speakers", draw_speaker_counts(speakers), caption=caption))
        caption = "How many speakers have how many utterances, over all parts."
        parts.append(pictures.add("training_counts", draw_count_histogram(speakers), caption=caption))
    if bins:
        n_measured = sum(int(one["count"]) for one in bins if one["quantity"] == "largest_log_mel")
        caption = (
            "Left: durations of the utterances. Right: smallest and largest value of the log-mel spectrogram, before "
            f"normalisation, in one crop of each of {count_of(n_measured, 'training utterance')} "
            "(a random sample if there are more)."
        )
        parts.append(pictures.add("training_audio", draw_audio_histograms(bins), caption=caption))
    return [section("Data", *parts)]


def score_sections(pictures: Pictures, metrics: Record) -> list[str]:
    """Make the section with the confusion matrix or the DET curve of the part that the reported row is of."""
    row = scored_row(metrics)
    if row["accuracy"] is not None:
        cells = read_csv(pictures.folder / "confusion.csv")
        what = f"of the {row['part']} part, by {row['network']}"
        return [confusion_section(pictures, cells, what)] if cells else []
    points = read_csv(pictures.folder / "det_curve.csv")
    if row["eer"] is None or not points:
        return []
    rows = [
        {"backend": one["network"], "trials": "all", "eer": one["eer"]}
        for one in selected_rows(metrics)
        if one["part"] == row["part"]
    ]
    caption = (
        f"Miss rate over false-accept rate of pairs of utterances of the {row['part']} part, by the cosine, on "
        "normal-deviate axes: scores with normal distributions give a straight line. Both rates are equal on the grey "
        "line. Points on an edge lie beyond it."
    )
    drawn = draw_det_curve([{**point, "backend": point["network"]} for point in points], rows)
    return [section("DET curve", pictures.add("det_curve", drawn, caption=caption))]


def settings_section(metrics: Record) -> str:
    """Make the section with the settings."""
    settings = {
        "split_by": metrics["split_by"],
        "fractions": metrics["fractions"],
        **metrics["settings"],
    }
    lines = [[name, value if isinstance(value, str) else json.dumps(value)] for name, value in settings.items()]
    return section("Settings", table(["setting", "value"], lines, text=(0, 1)))
