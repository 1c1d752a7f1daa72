"""Build the page from its tabs."""

import gradio

from web.compare_tab import add_compare_tab
from web.enrol_tab import add_enrol_tab
from web.identify_tab import add_identify_tab
from web.overview import Overview
from web.results_tab import add_results_tab
from web.timeline_tab import add_timeline_tab
from web.workspace import Workspace


def build_page(workspace: Workspace) -> gradio.Blocks:
    """Build the page of a workspace."""
    overview = Overview(workspace)
    page = gradio.Blocks(title="Voxprobe", analytics_enabled=False)
    with page:
        overview.add_top()
        with gradio.Tabs():
            add_identify_tab(workspace, overview)
            add_enrol_tab(workspace, overview)
            add_compare_tab(workspace)
            add_timeline_tab(workspace)
            add_results_tab(workspace)
        overview.after(page.load(None).then)
    return page
