"""Write one page that shows the results in a folder, from the files of the folder alone."""

import base64
import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path

from evaluation import results_tables
from files import InputError, OutputError, PathLike, Record, TableFormat, write_atomically
from reports.comparison_sections import comparison_sections
from reports.drawing import PictureFormat
from reports.page import Pictures, downloads_section, glossary_link, provenance_section, terms_section
from reports.training_sections import training_sections
from reports.verification_sections import verification_sections


class ReportError(InputError):
    """There are no results to make a report from."""


STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --text: #1b1d21; --faint: #5d636e; --line: #d7dae0;
  --mark: #e8f1fa; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #15171b; --text: #e6e8ec; --faint: #a2a8b3; --line: #3a3f48; --mark: #1d3145; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
p { margin: .4rem 0; max-width: 46rem; }
.answer { font-size: 1.15rem; }
.faint, figcaption, caption { color: var(--faint); font-size: .9rem; text-align: left; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .4rem; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, .text { text-align: left; }
td.text { white-space: normal; }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 30rem; text-align: left; }
tr.best { background: var(--mark); font-weight: 600; }
th button { all: unset; cursor: pointer; }
th button::after { content: " \\2195"; color: var(--faint); font: .75rem system-ui; }
th button:focus-visible { outline: 2px solid currentColor; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
a { color: inherit; }
figure { margin: 1rem 0; max-width: 50rem; }
figure svg { width: 100%; height: auto; display: block; }
figure svg text { fill: currentColor; }
pre, code { font: .85rem/1.45 ui-monospace, monospace; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .4rem 0; }
li { margin: .3rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; margin: .6rem 0; max-width: 46rem; }
dd { margin: 0; }
@media print {
  :root { color-scheme: light; --ground: #fff; --text: #000; --faint: #444; --line: #bbb; --mark: #e8f1fa; }
  figure, tr { break-inside: avoid; } }
"""
SCRIPT = """
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const head = button.parentElement, table = head.closest("table"), place = head.cellIndex;
  const up = head.getAttribute("aria-sort") === "descending";
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const value = row => { const cell = row.cells[place], number = parseFloat(cell.dataset.value);
    return isNaN(number) ? cell.textContent : number; };
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => { const x = value(a), y = value(b);
    return (typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? 1 : -1) * (up ? 1 : -1); });
  table.tBodies[0].append(...rows);
};
"""


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
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="{policy}"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{escape(name)}: speaker recognition</title>
<style>{STYLE}</style>
</head>
<body>
{"".join(sections)}
{glossary_link()}
{downloads_section(pictures)}
{provenance_section(metrics)}
{terms_section()}
<script>{SCRIPT}</script>
</body>
</html>
"""


def read_metrics(folder: Path) -> Record:
    """Read ``metrics.json``.

    Raises
    ------
    ReportError
        There is no such file, or it holds no results.
    """
    path = folder / "metrics.json"
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ReportError(f"{path}: no results can be read ({reason}). Give the folder of a comparison.") from error
    if not isinstance(metrics, dict) or not metrics.get("rows"):
        raise ReportError(f"{path}: this holds no results. Give the folder that a comparison wrote.")
    return metrics
