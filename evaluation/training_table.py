"""The table of a training run, from the content of its ``metrics.json``."""

from evaluation.table_columns import TRAINING_COLUMNS, Column
from files import Record, Table, count_of

# Maximum number of files that are named.
MAX_NAMED = 5


def training_table(metrics: Record) -> Table:
    """Make the table of the selected epoch of a training run, in percent, the row to report marked with a star."""
    rows, columns = selected_rows(metrics), training_columns(metrics)
    best = scored_row(metrics)
    lines = [
        [row["part"] + (" *" if row == best else ""), row["network"], *(column.text(row) for column in columns)]
        for row in rows
    ]
    header = ["part", "network", *(column.heading for column in columns)]
    title = f"{metrics['corpus']}: {', '.join(metrics['networks'])}"
    return Table(title, header, lines, align="<<" + ">" * len(columns), notes=training_notes(metrics))


def selected_rows(metrics: Record) -> list[Record]:
    """Return the rows of the selected epoch, one for each part and network."""
    own = [row for row in metrics["rows"] if row["epoch"] == metrics["selected_epoch"]]
    last = {(row["part"], row["network"]): row for row in own}  # of test, the row of the saved weights
    return list(last.values())


def scored_row(metrics: Record) -> Record:
    """Return the row to report: of the test part or else of validation, of the ensemble if there is one."""
    return selected_rows(metrics)[-1]


def training_columns(metrics: Record) -> list[Column]:
    """Return the columns that have a figure in a row of the selected epoch."""
    rows = selected_rows(metrics)
    return [column for column in TRAINING_COLUMNS if any(row.get(column.key) is not None for row in rows)]


def training_notes(metrics: Record) -> list[str]:
    """Describe what was selected, how far the run is, and what could not be read."""
    rows, epoch, n_epochs = metrics["rows"], metrics["selected_epoch"], metrics["settings"]["epochs"]
    last = max(row["epoch"] for row in rows)
    of_part = {part: [row for row in rows if row["part"] == part] for part in ("validation", "test")}
    notes = []
    if not metrics["finished"]:
        notes.append(f"training is not finished: {last} of {n_epochs} epochs; the same command continues it")
    elif last < n_epochs:
        patience = metrics["settings"]["patience"]
        notes.append(f"stopped after epoch {last} of {n_epochs}: no better validation in {count_of(patience, 'epoch')}")
    if of_part["validation"]:
        figures = {"accuracy": "accuracy", "eer": "EER"}
        last_row = of_part["validation"][-1]
        found = [name for key, name in figures.items() if last_row[key] is not None]
        selected = (
            f"which has the best validation {found[0]}" if found else "the last; the validation part has no figure"
        )
        of_all = f"of {last}" if metrics["finished"] else "so far"
        notes.append(f"* weights of epoch {epoch} {of_all}, {selected}")
    else:
        notes.append(f"* weights of the last epoch, {epoch}; there is no validation part")
    notes.append(
        "train: mean over the crops of the epoch, while the network learned; other parts: whole utterances, after it"
    )
    if len({row["epoch"] for row in of_part["test"]}) > 1:
        notes.append("the test part was evaluated after each epoch too; it never selects")
    failures = [failure["id"] for failure in metrics["failures"]]
    if failures:
        listed = ", ".join(failures[:MAX_NAMED]) + (", ..." if len(failures) > MAX_NAMED else "")
        notes.append(f"{count_of(len(failures), 'file')} could not be read: {listed}")
    return notes
