"""The frame of a page: its style, and its only script, which sorts tables."""

import base64
import hashlib
from collections.abc import Sequence
from html import escape

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


def html_page(title: str, parts: Sequence[str]) -> str:
    """Make a page from a title in plain text and its parts in HTML; the page loads nothing, and runs one script."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    body = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="{policy}"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{body}
<script>{SCRIPT}</script>
</body>
</html>
"""
