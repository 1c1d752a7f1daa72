"""What the report of trials shows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.page import heading, listing, number_of, paragraph, percent, picture, read_csv, section, table
from evaluation.pictures import Scored, draw_det_curve, draw_histogram
from evaluation.records import Record
from metrics import error_rates

GLOSSARY = (
    "Marked is the lowest equal error rate (EER) of all trials; from and to bound its 95 % interval over speakers. "
    "minDCF: the least cost of a decision, relative to guessing, where 1 or 5 pairs in 100 are of one speaker. Cllr: "
    "bits that calibrated scores lose, 1 being no better than none. cross-session has the targets of two sessions, "
    "same-session those of one."
)
# Points of a DET curve that are kept on either end and between, and bins of the scores.
POINTS = 500
BINS = 80
# Share of the scores on either side for which the axis makes no room.
RARE = 0.002


def verification_sections(folder: Path, metrics: Record) -> list[str]:
    """Make the sections from ``metrics.json`` and the CSV files beside it, and write the pictures as PNG files too."""
    rows = metrics["rows"]
    best = lowest(rows)
    counts = f"{best['n_target']} targets and {best['n_nontarget']} nontargets"
    low, high = percent(best["eer_low"]), percent(best["eer_high"])
    encoder = "of an unknown encoder" if best["encoder"] == "unknown" else f"of {best['encoder']}"
    header = [
        "backend", "trials", "EER (%)", "from", "to", "minDCF 0.01", "minDCF 0.05", "Cllr", "targets", "nontargets"
    ]  # fmt: skip
    lines = [
        [row["backend"], row["trials"],
         *((percent(row[name], 2), row[name]) for name in ("eer", "eer_low", "eer_high")),
         *(number_of(row[name], ".3f") for name in ("min_dcf_0.01", "min_dcf_0.05", "cllr")),
         number_of(row["n_target"], "d"), number_of(row["n_nontarget"], "d")]
        for row in rows
    ]  # fmt: skip
    about = ["backend", "where", "threshold", "false accepts (%)", "misses (%)"]
    points = [
        [point["backend"], point["where"], number_of(point["threshold"], ".7g"),
         *((percent(point[name], 3), point[name]) for name in ("false_accept", "miss"))]
        for point in metrics["operating_points"]
    ]  # fmt: skip
    across = [row for row in rows if (row["backend"], row["trials"]) == (best["backend"], "cross-session")]
    shown = f"{percent(best['eer'], 2)} %"
    if across:
        shown = f"{percent(across[0]['eer'], 2)} % between sessions, {shown} of all trials"
    return [
        heading(f"{best['features']}: {best['backend']} has an equal error rate of {shown}")
        + paragraph(f"95 % interval over speakers {low} to {high}; {counts}, vectors {encoder}.")
        + paragraph(about_the_sessions(rows, best), "answer")
        + listing(metrics["notes"]),
        section(
            "All backends",
            table(header, lines, rows.index(best), text=(0, 1)),
            paragraph(GLOSSARY, "faint"),
        ),
        section(
            "Which errors for which",
            picture(folder, "det_curve", draw_det_curve(read_csv(folder / "det_curve.csv"), rows),
                    "Misses over false accepts of all trials, on axes that make normal scores a line; the grey line is "
                    "where both are equal. What lies along an edge is beyond it."),
        ),
        section(
            "Scores",
            picture(folder, "score_histogram", draw_histogram(read_csv(folder / "score_histogram.csv")),
                    "Of pairs of recordings of one speaker and of two, each to the same area; the 0.2 % beyond either "
                    "end are in the outermost bars."),
        ),
        section(
            "Operating points",
            table(about, points, text=(0, 1)),
            paragraph(
                "Thresholds from which on a pair is accepted, and the errors of these very trials, all of them; the "
                "priors are of a pair being of one speaker, and both errors cost the same.",
                "faint",
            ),
        ),
    ]  # fmt: skip


def lowest(rows: Sequence[Record]) -> Record:
    """Return the row of the backend with the lowest equal error rate of all trials."""
    return min((row for row in rows if row["trials"] == "all"), key=lambda row: row["eer"])


def about_the_sessions(rows: Sequence[Record], best: Record) -> str:
    """Say what the rate means, and how much of it the session is."""
    own = {row["trials"]: row["eer"] for row in rows if row["backend"] == best["backend"]}
    text = f"Where both errors are as frequent, {percent(best['eer'])} of 100 pairs are judged wrong."
    if "cross-session" in own:
        text += (
            f" Targets of one session {percent(own['same-session'], 2)} %, of two {percent(own['cross-session'], 2)} %:"
            " expect the second figure of recordings from another day or room."
        )
    return text


def det_records(scored: Sequence[Scored]) -> list[Record]:
    """List points of each backend's DET curve, most of them where errors are rare."""
    records = []
    for result in scored:
        rates = error_rates(result.trials.labels, result.scores)
        size = len(rates.thresholds)
        near = np.geomspace(1, size, POINTS) - 1
        kept = np.unique(np.concatenate([near, size - 1 - near, np.linspace(0, size - 1, POINTS)]).astype(np.int64))
        records += [
            {
                "backend": result.backend,
                "threshold": float(rates.thresholds[point]),
                "false_accept": float(rates.false_accept[point]),
                "miss": float(rates.miss[point]),
            }
            for point in kept.tolist()
        ]
    return records


def histogram_records(scored: Sequence[Scored]) -> list[Record]:
    """Count each backend's targets and nontargets in bins of the score; the few beyond are in the outermost ones."""
    records = []
    for result in scored:
        scores = result.scores.astype(np.float64)
        sides = [scores[result.trials.labels == label] for label in (True, False)]
        low, high = (pick(np.quantile(side, at) for side in sides) for pick, at in ((min, RARE), (max, 1 - RARE)))
        scores = np.clip(scores, low, high)
        edges = np.histogram_bin_edges(scores, bins=BINS)
        counts = [np.histogram(scores[result.trials.labels == label], edges)[0].tolist() for label in (True, False)]
        for low, high, targets, nontargets in zip(edges[:-1].tolist(), edges[1:].tolist(), *counts, strict=True):
            records.append(
                {"backend": result.backend, "low": low, "high": high, "targets": targets, "nontargets": nontargets}
            )
    return records


def operating_points(scored: Sequence[Scored]) -> list[Record]:
    """List for each backend the thresholds of equal errors, and of the least cost at two prior probabilities."""
    records = []
    for result in scored:
        rates = error_rates(result.trials.labels, result.scores)
        places = {"equal errors": int(np.argmax(rates.false_accept >= rates.miss))}
        for prior in (0.05, 0.01):
            cost = prior * rates.miss + (1 - prior) * rates.false_accept
            places[f"least cost, prior {prior:g}"] = int(cost.argmin())
        for where, place in places.items():
            threshold = float(rates.thresholds[place])
            records.append({
                "backend": result.backend, "where": where, "threshold": threshold if np.isfinite(threshold) else None,
                "false_accept": float(rates.false_accept[place]), "miss": float(rates.miss[place]),
            })  # fmt: skip
    return records
