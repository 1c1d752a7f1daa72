"""The page and the pictures of results, drawn from the files of a results folder alone."""

from reports.write_report import ReportError, format_results, write_report

__all__ = ["ReportError", "format_results", "write_report"]
