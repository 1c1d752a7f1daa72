"""Sections of the report of a comparison of backends."""

import math
from collections.abc import Sequence

from evaluation import BACKEND_COLUMNS, lowest_eer, shown
from files import Record, format_percent, read_csv
from reports.page import Pictures, columns_table, glossary, heading, listing, paragraph, section, table
from reports.verification_pictures import draw_det_curve, draw_histogram


def verification_sections(pictures: Pictures, metrics: Record) -> list[str]:
    """Make the sections from the results in a folder, and write their pictures to files too."""
    rows = metrics["rows"]
    best = lowest_eer(rows)
    curve, bins = read_csv(pictures.folder / "det_curve.csv"), read_csv(pictures.folder / "score_histogram.csv")
    return [
        summary_section(metrics, best),
        section(
            "All backends",
            columns_table(
                BACKEND_COLUMNS, rows, best=rows.index(best), text={"backend": "backend", "trials": "trials"}
            ),
            paragraph(
                "The marked row has the lowest equal error rate (EER) on all trials. cross-session: targets from two "
                "sessions, with all nontargets. same-session: targets from one session, with all nontargets.",
                kind="faint",
            ),
            glossary(shown(BACKEND_COLUMNS)),
        ),
        section(
            "DET curve",
            pictures.add(
                "det_curve",
                draw_det_curve(curve, rows),
                caption="Miss rate over false-accept rate on all trials, on normal-deviate axes: scores with normal "
                "distributions give a straight line. Both rates are equal on the grey line. Points on an edge lie "
                "beyond it.",
            ),
        ),
        section(
            "Scores",
            pictures.add(
                "score_histogram",
                draw_histogram(bins),
                caption="Scores of pairs of the same speaker and of two speakers, each with the same area. The "
                "outermost bars include outliers, 0.2 % of the scores at either end.",
            ),
        ),
        operating_points_section(metrics["operating_points"]),
    ]


def summary_section(metrics: Record, best: Record) -> str:
    """Make the first section: the backend with the lowest error rate, and the notes."""
    across = [row for row in metrics["rows"] if (row["backend"], row["trials"]) == (best["backend"], "cross-session")]
    rate = f"{format_percent(best['eer'], 2)} %"
    if across:
        rate = f"{format_percent(across[0]['eer'], 2)} % across sessions, {rate} on all trials"
    features = "features of an unknown encoder" if best["encoder"] == "unknown" else f"{best['encoder']} features"
    low, high = format_percent(best["eer_low"]), format_percent(best["eer_high"])
    return (
        heading(f"{best['features']}: {best['backend']} on {features}: equal error rate {rate}")
        + paragraph(
            f"95 % CI over speakers on all trials {low} to {high}; {best['n_target']} targets and "
            f"{best['n_nontarget']} nontargets."
        )
        + paragraph(describe_sessions(metrics["rows"], best), kind="answer")
        + listing(metrics["notes"])
    )


def describe_sessions(rows: Sequence[Record], best: Record) -> str:
    """Describe the error rate, and how it changes across sessions."""
    own = {row["trials"]: row["eer"] for row in rows if row["backend"] == best["backend"]}
    text = (
        f"At the threshold where both error rates are equal, {format_percent(best['eer'])} of 100 pairs are classified "
        "wrongly."
    )
    if "cross-session" in own:
        text += (
            f" The EER is {format_percent(own['same-session'], 2)} % with targets from one session and "
            f"{format_percent(own['cross-session'], 2)} % with targets from two: expect the second figure for "
            "recordings from another day or room."
        )
    return text


def operating_points_section(points: Sequence[Record]) -> str:
    """Make the section with thresholds and their error rates."""
    lines = []
    for point in points:
        threshold = math.nan if point["threshold"] is None else point["threshold"]
        shown_threshold = "-" if math.isnan(threshold) else f"{threshold:.7g}"
        line = [point["backend"], point["where"], (shown_threshold, threshold)]
        line += [(format_percent(point[name], 3), point[name]) for name in ("false_accept", "miss")]
        lines.append(line)
    return section(
        "Operating points",
        table(["backend", "where", "threshold", "false accepts (%)", "misses (%)"], lines, text=(0, 1)),
        paragraph(
            "Pairs whose score reaches the threshold are accepted. The error rates are measured on the same trials. "
            "The prior is the probability that a pair is of the same speaker; both errors cost the same.",
            kind="faint",
        ),
    )
