"""The tab "Results": the pages of comparisons, and descriptions of corpora, in the folders named at the start."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import gradio

from web.elements import paragraph, text
from web.guard import is_within
from web.workspace import Workspace, refused

# Files of the results that are shown: the page of a comparison or of a training, and the description of a corpus.
PAGES = ("report.html", "corpus.html")


def find_pages(folders: Sequence[Path]) -> dict[str, Path]:
    """Find the pages in folders and their subfolders; return their files by the names that are shown."""
    found = {}
    for folder in folders:
        for page in sorted(path for name in PAGES for path in folder.glob(f"**/{name}")):
            if is_within(page, [folder]):
                found[f"{folder.name}/{page.relative_to(folder)}"] = page.resolve()
    return found


def add_results_tab(workspace: Workspace) -> None:
    """Add the tab to the page that is being built."""
    with gradio.Tab("Results", id="results"):
        if not workspace.results:
            gradio.HTML(
                paragraph(
                    "Start the page with --results_dir FOLDER to see the reports of comparisons and the descriptions "
                    "of corpora in it."
                )
            )
            return
        pages = list(find_pages(workspace.results))
        searched = ", ".join(folder.name for folder in workspace.results)
        hint = "" if pages else f"There is no {' or '.join(PAGES)} in {searched} yet."
        with gradio.Row():
            chosen = gradio.Dropdown(
                pages, value=None, label="Report or description", info=hint or None, elem_id="chosen-page"
            )
            again = gradio.Button("Search again", size="sm", scale=0)
        shown = gradio.HTML(elem_id="results-page")

    def show(name: str | None) -> str:
        if not name:
            return ""
        page = find_pages(workspace.results).get(name)
        if page is None:
            raise refused(f"{name}: there is no such page any more. Press 'Search again'.")
        # Its scripts run in a sandbox, without access to this page.
        address = f"gradio_api/file={quote(page.as_posix())}"
        return (
            f'<iframe class="results" src="{text(address)}" title="{text(name)}" '
            'sandbox="allow-scripts allow-downloads"></iframe>'
        )

    chosen.change(show, chosen, shown, api_visibility="private")
    again.click(
        lambda: gradio.Dropdown(list(find_pages(workspace.results))),
        None,
        chosen,
        api_visibility="private",
        queue=False,
    )
