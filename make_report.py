"""Make report.html again from the results in a folder, without training.

python make_report.py --output_dir outputs
"""

from __future__ import annotations

from command_line import EXIT_DONE, run
from config import ReportConfig


def main(config: ReportConfig) -> int:
    from files import announce
    from reports import write_report

    with announce("Drawing the report"):
        page = write_report(config.output_dir)
    print(f"Saved {page}")
    return EXIT_DONE


if __name__ == "__main__":
    run(ReportConfig, main)
