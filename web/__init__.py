"""The page: answers as HTML, with a style and scripts of its own."""

from web.timeline_view import timeline_html, waveform_points

__all__ = ["timeline_html", "waveform_points"]
