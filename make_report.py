"""Make report.html again from the results in a folder, without training.

python make_report.py outputs
"""

from __future__ import annotations

from command_line import EXIT_DONE, run
from config import ReportConfig


def main(config: ReportConfig) -> int:
    from files import announce, write_tables
    from reports import format_results, write_report

    saved = []
    if config.table_format != "plain":
        tables = format_results(config.results, config.table_format)
        print("\n\n".join(tables))
        saved += write_tables(config.results, tables, config.table_format)
    with announce("Drawing the report"):
        saved.append(write_report(config.results, config.picture_formats))
    for path in saved:
        print(f"Saved {path}")
    return EXIT_DONE


if __name__ == "__main__":
    run(ReportConfig, main)
