"""Serve the page: theme, style, accounts, limits, and headers that keep it from loading anything from elsewhere."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import gradio
from starlette.middleware import Middleware

from files import InputError
from web.guard import Guard, is_loopback
from web.workspace import Workspace

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HERE = Path(__file__).parent
SCRIPTS = ("page.js", "timeline.js")
# The page loads nothing from other hosts, and no other site can show it in a frame. Gradio's page has scripts within
# it, and compiles templates.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; frame-src 'self' data: blob:; frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
FONT = ("system-ui", "sans-serif")


def _with_headers(app: "ASGIApp") -> "ASGIApp":
    """Wrap an application so that its answers have the `HEADERS`."""
    added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def wrapped(scope: "Scope", receive: "Receive", send: "Send") -> None:
        async def sending(message: "Message") -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await app(scope, receive, sending)

    return wrapped


def _free_port(host: str, port: int) -> int:
    """Return a port that no program uses: the given one, or any for 0, which Gradio cannot report.

    Raises
    ------
    InputError
        The address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise InputError(
            f"The page cannot be served at {host}:{port} ({error.strerror or error}). Give another --port or --host."
        ) from error


def _theme() -> gradio.themes.Base:
    """Make the theme: fonts of the system, and text with a contrast of 4.5:1 or more."""
    theme = gradio.themes.Default(
        primary_hue="blue", neutral_hue="slate", font=FONT, font_mono=("ui-monospace", "monospace")
    )
    return theme.set(
        body_text_color_subdued="*neutral_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_cancel_background_fill=gradio.themes.colors.red.c600,
        button_cancel_background_fill_hover=gradio.themes.colors.red.c700,
    )


@contextmanager
def served(
    page: gradio.Blocks,
    workspace: Workspace,
    *,
    host: str,
    port: int,
    accounts: Sequence[tuple[str, str]] = (),
    private: Sequence[Path] = (),
    max_megabytes: int = 500,
) -> Iterator[str]:
    """Serve the page until the context ends; yield its address.

    Parameters
    ----------
    page : gradio.Blocks
    workspace : Workspace
    host : str
    port : int
        Port; 0 chooses a free one.
    accounts : sequence of (str, str)
        Users and their passwords; empty asks for none.
    private : sequence of Path
        Files that are not served, wherever they are, in addition to the store.
    max_megabytes : int
        Maximum size of an uploaded file (MB).

    Raises
    ------
    InputError
        The address cannot be used, for example because another program uses the port.
    """
    guard = Guard(workspace.uploads.folder, workspace.results, is_local=not accounts and is_loopback(host))
    wrappers = (_with_headers, guard.middleware, workspace.uploads.middleware)
    page.queue(max_size=100, api_open=False)
    # Gradio asks the server whether it answers, which no proxy can do for it.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(
        [each for each in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1,localhost,::1") if each]
    )
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=_free_port(host, port),
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            run_history=False,
            auth=list(accounts) or None,
            # Each call of the API makes a session, whose configuration takes 0.13 MB.
            state_session_capacity=500,
            max_file_size=max_megabytes * 1024**2,
            footer_links=["api"],
            theme=_theme(),
            css_paths=[HERE / "page.css", HERE / "timeline.css"],
            head="".join(f"<script>{(HERE / name).read_text(encoding='utf-8')}</script>" for name in SCRIPTS),
            allowed_paths=[str(folder.resolve()) for folder in workspace.results],
            blocked_paths=[str(path.resolve()) for path in (workspace.store_path, *private)],
            app_kwargs={"middleware": list(map(Middleware, wrappers))},
        )
    except OSError as error:
        raise InputError(
            f"The page cannot be served at {host}:{port} ({str(error).splitlines()[0]}). Give another --port or --host."
        ) from error
    try:
        with workspace.uploads.cleaned(page._queue.event_ids_to_events.__contains__):
            yield str(address)
    finally:
        page.close(verbose=False)
