"""Build the page from its tabs."""

import gradio

from web.identify_tab import add_identify_tab
from web.workspace import Workspace


def build_page(workspace: Workspace) -> gradio.Blocks:
    """Build the page of a workspace."""
    with gradio.Blocks(title="Voxprobe", analytics_enabled=False) as page:
        gradio.HTML("<h1>Voxprobe</h1><p>Who is speaking?</p>", elem_id="top")
        with gradio.Tabs():
            add_identify_tab(workspace)
    return page
