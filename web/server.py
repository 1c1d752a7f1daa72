"""Serve the page: theme, style, accounts, limits, and headers that keep it from loading anything from elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import gradio

from files import InputError
from web.uploads import Uploads

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HERE = Path(__file__).parent
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
LOOPBACK = ("127.0.0.1", "localhost", "::1")
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


@contextmanager
def served(
    page: gradio.Blocks,
    uploads: Uploads,
    *,
    host: str,
    port: int,
    accounts: Sequence[tuple[str, str]] = (),
    max_megabytes: int = 500,
) -> Iterator[str]:
    """Serve the page until the context ends; yield its address.

    Raises
    ------
    InputError
        The address cannot be used, for example because another program uses the port.
    """
    from starlette.middleware import Middleware

    page.queue(max_size=100)
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            run_history=False,
            auth=list(accounts) or None,
            max_file_size=max_megabytes * 1024**2,
            footer_links=["api"],
            theme=gradio.themes.Default(font=FONT, font_mono=("ui-monospace", "monospace")),
            css_paths=[HERE / "page.css"],
            head=f"<script>{(HERE / 'page.js').read_text(encoding='utf-8')}</script>",
            app_kwargs={"middleware": [Middleware(_with_headers), Middleware(uploads.middleware)]},
        )
    except OSError as error:
        raise InputError(
            f"The page cannot be served at {host}:{port} ({str(error).splitlines()[0]}). Give another --port or --host."
        ) from error
    try:
        with uploads.cleaned():
            yield str(address)
    finally:
        page.close(verbose=False)
