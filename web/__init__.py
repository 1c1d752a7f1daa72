"""The page: who is speaking, in a browser. Answers come from the other rooms; Gradio shows them."""

from web.build_page import build_page
from web.server import served
from web.timeline_view import timeline_html, waveform_points
from web.uploads import Uploads
from web.workspace import Workspace, find_classifiers

__all__ = [
    "Uploads",
    "Workspace",
    "build_page",
    "find_classifiers",
    "served",
    "timeline_html",
    "waveform_points",
]
