"""Tables of the results, from the records that ``metrics.json`` has."""

from collections.abc import Mapping, Sequence

from evaluation.error_curves import lowest_eer
from evaluation.summary import describe_selection, mean_by_layer, rank_by_validation
from evaluation.table_columns import BACKEND_COLUMNS, HEAD_COLUMNS, Column, shown
from evaluation.training_table import training_table
from files import Record, Table


def results_tables(metrics: Record) -> list[Table]:
    """Make the tables of a comparison of heads or of backends, or of training, from the content of ``metrics.json``.

    Before the table of the heads there is one for each encoder with several layers.
    """
    if "selected_epoch" in metrics:
        return [training_table(metrics)]
    if "summary" not in metrics:
        return [backends_table(metrics["rows"], metrics["notes"])]
    summary, best, sizes, notes = (metrics[name] for name in ("summary", "best", "sizes", "notes"))
    layers = metrics.get("layers", ())
    encoders, split_by = dict.fromkeys(row["encoder"] for row in layers), best["split_by"]
    tables = [layers_table(layers, encoder, split_by=split_by, sizes=sizes[split_by]) for encoder in encoders]
    return [*tables, heads_table(summary, best, sizes=sizes, notes=notes, unsaved=metrics.get("unsaved", ()))]


def sort_summary(summary: Sequence[Record]) -> list[Record]:
    """Sort the records of a summary by split and encoder, and within these in the order of the heads."""
    splits, encoders = (list(dict.fromkeys(record[key] for record in summary)) for key in ("split_by", "encoder"))
    return sorted(summary, key=lambda record: (splits.index(record["split_by"]), encoders.index(record["encoder"])))


def heads_table(
    summary: Sequence[Record],
    best: Record,
    *,
    sizes: Mapping[str, Mapping[str, int]],
    notes: Sequence[str],
    unsaved: Sequence[str] = (),
) -> Table:
    """Make the table of a summary in percent, sorted by split and encoder, the selected head marked with a star."""
    lines: list[list[str]] = []
    sections: dict[int, str] = {}
    for record in sort_summary(summary):
        own = sizes[record["split_by"]]
        section = _section(record, own)
        if section not in sections.values():
            sections[len(lines)] = section
        head = record["head"] + mark_unsaved(record, unsaved) + (" *" if record == best else "")
        lines.append([head, *_figures(HEAD_COLUMNS, record, has_test=own["test"] > 0)])
    header = ["head", *_headings(HEAD_COLUMNS)]
    title = f"{best['features']}: speaker identification by head"
    return Table(title, header, lines, align="<" + ">" * (len(header) - 1), sections=sections, notes=notes)


def mark_unsaved(record: Record, unsaved: Sequence[str]) -> str:
    """Return the mark of a head that is compared only."""
    return " (not saved)" if record["head"] in unsaved else ""


def backends_table(rows: Sequence[Record], notes: Sequence[str]) -> Table:
    """Make the table of the rows of backends, the EER in percent, the lowest one marked with a star."""
    best = lowest_eer(rows)
    lines = [
        [row["backend"] + (" *" if row == best else ""), row["trials"], *_figures(BACKEND_COLUMNS, row)] for row in rows
    ]
    header = ["backend", "trials", *_headings(BACKEND_COLUMNS)]
    meaning = "* lowest equal error rate (EER, in percent) on all trials; 95 % intervals over speakers"
    title = f"{best['features']}: speaker verification by backend"
    return Table(title, header, lines, align="<<" + ">" * (len(header) - 2), notes=[meaning, *notes])


def layers_table(rows: Sequence[Record], encoder: str, *, split_by: str, sizes: Mapping[str, int]) -> Table:
    """Make the table of an encoder's layers in percent, means over the seeds, the best by validation with a star."""
    records = mean_by_layer(rows, encoder, split_by)
    best = rank_by_validation(records, split_by)[0]
    accuracies = [column for column in HEAD_COLUMNS if column.has_deviation]
    lines = []
    for record in records:
        mark = " *" if record is best else ""
        lines.append([f"{record['layer']}{mark}", *(column.text(record) for column in accuracies)])
    header = [f"layer ({best['head']})", *(column.heading for column in accuracies)]
    title = f"{best['features']}: layers of {encoder}"
    notes = [f"* {describe_selection(sizes)}; in percent"]
    return Table(title, header, lines, align="<" + ">" * len(accuracies), notes=notes)


def _section(record: Record, sizes: Mapping[str, int]) -> str:
    train = f"{sizes['train']} train, {sizes['validation']} validation"
    if sizes.get("folds", 1) > 1:
        how = "cross-validated over sessions" if sizes.get("by_session", 1) else "cross-validated within sessions"
        train = f"{sizes['train']} train ({how})"
    elif sizes["shared"]:
        train = f"{sizes['train']} train (including {sizes['validation']} validation)"
    return f"[{record['encoder']}, split by {record['split_by']}: {train}, {sizes['test']} test utterances]"


def _headings(columns: tuple[Column, ...]) -> list[str]:
    headings = []
    for column in shown(columns):
        headings += [column.heading, "95 % interval"] if column.has_interval else [column.heading]
    return headings


def _figures(columns: tuple[Column, ...], record: Record, has_test: bool = True) -> list[str]:
    cells = []
    for column in shown(columns):
        cells.append(column.text_with_deviation(record) if column.has_deviation else column.text(record))
        if column.has_interval:
            low, high = column.interval(record)
            cells.append(f"{low} - {high}" if has_test and low != high else "-")
    return cells
