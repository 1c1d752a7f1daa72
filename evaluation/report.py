"""`write_report`: one page that shows what a folder of results holds, made from its files alone."""

import base64
import csv
import hashlib
import json
from html import escape
from pathlib import Path

from audio import InputError
from evaluation.comparison_report import comparison_sections
from evaluation.page import provenance_section
from evaluation.records import Record
from evaluation.verification_report import verification_sections
from features import OutputError, write_atomically


class ReportError(InputError):
    """There are no results to make a report of."""


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
th, td { padding: .25rem .5rem; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, .text { text-align: left; }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 30rem; text-align: left; }
tr.best { background: var(--mark); font-weight: 600; }
th button { all: unset; cursor: pointer; }
th button::after { content: " \\2195"; color: var(--faint); font: .75rem system-ui; }
th button:focus-visible { outline: 2px solid currentColor; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
figure { margin: 1rem 0; max-width: 50rem; }
figure svg { width: 100%; height: auto; display: block; }
figure svg text { fill: currentColor; }
pre, code { font: .85rem/1.45 ui-monospace, monospace; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .4rem 0; }
li { margin: .3rem 0; }
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


def write_report(folder: Path) -> Path:
    """Write ``report.html`` of a folder of results, and its pictures as PNG files; returns the page's path.

    Parameters
    ----------
    folder : Path
        What `Comparison.save` or `Verification.save` wrote.

    Raises
    ------
    ReportError
        There are no results in the folder, or they are damaged.
    OutputError
        The page cannot be written.
    """
    metrics = read_metrics(folder)
    try:
        page = _page(folder, metrics)
    except OutputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError, csv.Error) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ReportError(
            f"{folder}: a report cannot be made of the results here ({reason}). Make them again, by the command that "
            "metrics.json names."
        ) from error
    # Names of speakers and files need not be text.
    return write_atomically(folder / "report.html", lambda file: file.write(page.encode("utf-8", "backslashreplace")))


def _page(folder: Path, metrics: Record) -> str:
    sections = (verification_sections if "eer" in metrics["rows"][0] else comparison_sections)(folder, metrics)
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="{policy}"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{escape(str(metrics["rows"][0]["features"]))}: speakers</title>
<style>{STYLE}</style>
</head>
<body>
{"".join(sections)}
{provenance_section(metrics)}
<script>{SCRIPT}</script>
</body>
</html>
"""


def read_metrics(folder: Path) -> Record:
    """Read ``metrics.json``.

    Raises
    ------
    ReportError
        It is not there, or is none.
    """
    path = folder / "metrics.json"
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReportError(f"{path}: no results can be read ({error}). Give the folder of a comparison.") from error
    if not isinstance(metrics, dict) or not metrics.get("rows"):
        raise ReportError(f"{path}: this holds no results. Give the folder that a comparison wrote.")
    return metrics
