"""Figures of a training run in its output folder, from which the report is drawn; written after every epoch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from files import Record, timestamp, versions, write_csv, write_json
from metrics import error_rates
from training.evaluate import Evaluator, Outputs


class RunResults:
    """Writes the results of a run.

    Parameters
    ----------
    folder : Path
        Output folder.
    about : dict
        What the results are of: corpus, parts, settings, speakers and command, as plain values.
    faults : mapping
        Utterances that could not be read so far: id -> reason.
    """

    def __init__(self, folder: Path, about: Record, faults: Mapping[str, str]) -> None:
        self.folder, self._about, self._faults = folder, about, faults
        self._versions = versions()

    def write_figures(self, rows: Sequence[Record], *, selected_epoch: int, is_finished: bool = False) -> None:
        """Write ``metrics.csv`` and ``metrics.json``: a row for each epoch, part and network.

        Raises
        ------
        OutputError
            A file cannot be written.
        """
        write_csv(self.folder / "metrics.csv", rows)
        content = {
            "rows": list(rows),
            "selected_epoch": selected_epoch,
            "finished": is_finished,
            **self._about,
            "failures": [{"id": name, "reason": reason} for name, reason in sorted(self._faults.items())],
            "created": timestamp(),
            "versions": self._versions,
        }
        write_json(self.folder / "metrics.json", content)

    def write_confusion(self, outputs: Outputs, evaluator: Evaluator) -> None:
        """Write ``confusion.csv``: counts of true and predicted speakers, of the speakers that train has.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        data = evaluator.data
        assert outputs.logits is not None
        pairs = Counter(zip(data.labels[outputs.rows].tolist(), outputs.logits.argmax(1).tolist(), strict=True))
        records = [
            {"speaker": data.speakers[true], "predicted": data.speakers[predicted], "count": count}
            for (true, predicted), count in sorted(pairs.items())
            if true >= 0
        ]
        write_csv(self.folder / "confusion.csv", records)

    def write_det_curve(self, named: Sequence[tuple[str, Outputs]], evaluator: Evaluator) -> None:
        """Write ``det_curve.csv``: points of the DET curve of each network, over pairs of utterances.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        records = []
        for network, outputs in named:
            rates = error_rates(*evaluator.all_pairs(outputs)).thinned()
            points = zip(rates.thresholds.tolist(), rates.false_accept.tolist(), rates.miss.tolist(), strict=True)
            records += [
                {"network": network, "threshold": threshold, "false_accept": false_accept, "miss": miss}
                for threshold, false_accept, miss in points
            ]
        write_csv(self.folder / "det_curve.csv", records)
