"""`BackendComparison`: the result of a comparison of backends, on the terminal and in files."""

from dataclasses import dataclass, field
from pathlib import Path

from evaluation.error_curves import ScoredTrials, det_records, histogram_records, lowest_eer, operating_points
from evaluation.result_tables import backends_table
from files import (
    TABLE_FILES,
    PathLike,
    Record,
    TableFormat,
    count_of,
    format_percent,
    short_repr,
    timestamp,
    versions,
    write_csv,
    write_json,
)

# Pictures of the report, each drawn from a table of the same name.
PICTURES = ("det_curve", "score_histogram")


@dataclass(frozen=True, eq=False)
class BackendComparison:
    """Result of `compare_backends`.

    Attributes
    ----------
    rows : list of dict
        One for each backend and kind of trials; the EER is a fraction.
    scored : list of ScoredTrials
        One for each backend, of all trials.
    notes : list of str
        Sentences to read with the table.
    ids : tuple of str
        Ids of the utterances that were scored, by the rows of the trials.
    origins : list of dict
        For each set of vectors its encoder's spec, the number of utterances, and a digest of all their audio.
    """

    rows: list[Record]
    scored: list[ScoredTrials]
    notes: list[str]
    ids: tuple[str, ...]
    origins: list[Record] = field(default_factory=list)

    def __repr__(self) -> str:
        best = lowest_eer(self.rows)
        n_trials = best["n_target"] + best["n_nontarget"]
        backends = ", ".join(each.backend for each in self.scored)
        compared = f"{best['features']}: {backends} on {count_of(n_trials, 'trial')}"
        return short_repr(self, f"{compared}; lowest EER {format_percent(best['eer'], 2)} % ({best['backend']})")

    def _repr_html_(self) -> str:
        return backends_table(self.rows, self.notes).html()

    def table(self, form: TableFormat = "plain") -> str:
        """Return the rows as a table, the EER in percent, with 95 % intervals over speakers, and the notes."""
        return backends_table(self.rows, self.notes).text(form)

    def save(self, folder: PathLike, command: str) -> list[Path]:
        """Write ``metrics.json``, ``metrics.csv``, ``det_curve.csv`` and ``score_histogram.csv``; return the paths.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        folder = Path(folder)
        content = {
            "rows": self.rows,
            "operating_points": operating_points(self.scored),
            "origins": self.origins,
            "notes": self.notes,
            "command": command,
            "created": timestamp(),
            "versions": versions(),
        }
        # Remove the files of an earlier run. metrics.json, which marks a finished run, is written last.
        pictures = [f"{name}.{kind}" for name in PICTURES for kind in ("csv", "png", "pdf", "svg")]
        for name in ("metrics.json", "report.html", *TABLE_FILES.values(), *pictures):
            (folder / name).unlink(missing_ok=True)
        return [
            write_csv(folder / "metrics.csv", self.rows),
            write_csv(folder / "det_curve.csv", det_records(self.scored)),
            write_csv(folder / "score_histogram.csv", histogram_records(self.scored)),
            write_json(folder / "metrics.json", content),
        ]
