"""The pages and the pictures: of results, drawn from the files of a results folder alone, and of recordings."""

from reports.drawing import COLOURS, PictureFormat
from reports.timeline_pictures import clock
from reports.verification_pictures import draw_score_histogram, score_histogram_svg
from reports.write_corpus_page import write_corpus_page
from reports.write_report import ReportError, format_results, write_report
from reports.write_timeline_page import timeline_title, write_timeline_page

__all__ = [
    "COLOURS",
    "PictureFormat",
    "ReportError",
    "clock",
    "draw_score_histogram",
    "format_results",
    "score_histogram_svg",
    "timeline_title",
    "write_corpus_page",
    "write_report",
    "write_timeline_page",
]
