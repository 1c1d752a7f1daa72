"""Write one page that shows the results in a folder, from the files of the folder alone."""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from evaluation import results_tables
from files import InputError, OutputError, PathLike, Record, TableFormat, write_atomically
from reports.comparison_sections import comparison_sections
from reports.drawing import PictureFormat
from reports.html_page import html_page
from reports.page import Pictures, downloads_section, glossary_link, provenance_section, terms_section
from reports.training_sections import training_sections
from reports.verification_sections import verification_sections

# Maximum number of folders that an error lists.
MAX_LISTED = 5


class ReportError(InputError):
    """There are no results to make a report from."""


def write_report(folder: PathLike, picture_formats: Sequence[PictureFormat] = ("png",)) -> Path:
    """Write ``report.html`` and its pictures into a folder of results, and return the path of the page.

    Parameters
    ----------
    folder : path-like
        Folder that `HeadComparison.save`, `BackendComparison.save` or `train_encoder` wrote.
    picture_formats : sequence of {"png", "pdf", "svg"}
        Formats in which the pictures are written beside the page, which contains them itself.

    Raises
    ------
    ReportError
        There are no results in the folder, or they are damaged.
    OutputError
        The page or a picture cannot be written.
    """
    folder = Path(folder)
    metrics = read_metrics(folder)
    with _damage_named(folder):
        page = _page(Pictures(folder, picture_formats), metrics)
    # Names of speakers and files may not be valid Unicode.
    return write_atomically(folder / "report.html", lambda file: file.write(page.encode("utf-8", "backslashreplace")))


def format_results(folder: Path, form: TableFormat) -> list[str]:
    """Return the tables of the results in a folder in a format, as the comparison printed them.

    Raises
    ------
    ReportError
        There are no results in the folder, or they are damaged.
    """
    metrics = read_metrics(folder)
    with _damage_named(folder):
        return [table.text(form) for table in results_tables(metrics)]


@contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    """Raise a `ReportError` that names the folder if its results are damaged."""
    try:
        yield
    except OutputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError, csv.Error) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ReportError(
            f"{folder}: a report cannot be made from the results in this folder ({reason}). Make them again with the "
            "command in metrics.json."
        ) from error


def _sections(pictures: Pictures, metrics: Record) -> tuple[str, list[str]]:
    """Return what the results are of, and the sections for their kind."""
    if "selected_epoch" in metrics:
        return str(metrics["corpus"]), training_sections(pictures, metrics)
    is_verification = "eer" in metrics["rows"][0]
    make = verification_sections if is_verification else comparison_sections
    return str(metrics["rows"][0]["features"]), make(pictures, metrics)


def _page(pictures: Pictures, metrics: Record) -> str:
    name, sections = _sections(pictures, metrics)
    parts = [*sections, glossary_link(), downloads_section(pictures), provenance_section(metrics), terms_section()]
    return html_page(f"{name}: speaker recognition", parts)


def read_metrics(folder: Path) -> Record:
    """Read ``metrics.json``.

    Raises
    ------
    ReportError
        There is no such file, or it holds no results.
    """
    path = folder / "metrics.json"
    below = sorted(each.parent.name for each in folder.glob("*/metrics.json"))
    if below and not path.exists():
        listed = ", ".join([*below[:MAX_LISTED], *(["..."] if len(below) > MAX_LISTED else [])])
        raise ReportError(f"{path}: no such file. Give one of the folders with results in {folder}: {listed}.")
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ReportError(f"{path}: no results can be read ({reason}). Give the folder of a comparison.") from error
    if not isinstance(metrics, dict) or not metrics.get("rows"):
        raise ReportError(f"{path}: this holds no results. Give the folder that a comparison wrote.")
    return metrics
