"""`Guard`: refuse the requests that the page does not need, before Gradio answers them."""

import ipaddress
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Suffixes of the files that a page of results links; no other file of the folders is served.
SUFFIXES = (".html", ".csv", ".json", ".png", ".svg", ".pdf", ".md", ".tex", ".txt", ".rttm")
API = "/gradio_api/"
# What the page needs of Gradio's routes: first parts of their paths, for everybody and for those who have logged in.
# The others would edit the code of the page, show errors of other users, fetch addresses, or leave files on the disk.
OPEN = ("", "login", "logout", "theme.css", "favicon.ico", "robots.txt", "manifest.json", "assets", "static", "svelte")
OPEN_API = ("login_check", "user", "app_id", "startup-events", "theme.css")
CLOSED = ("config",)
CLOSED_API = (
    *("info", "openapi.json", "upload", "upload_progress", "queue", "run", "api", "call", "cancel", "reset"),
    "heartbeat",
)
# Where a page of Gradio describes the API.
API_DESCRIPTION = re.compile(rb"(<script>window\.gradio_api_info = ).*?(;</script>)", re.DOTALL)
# Maximum size of the arguments of a call (bytes); recordings come as uploads.
MAX_BODY = 32 * 1024**2


@dataclass(frozen=True)
class RefusedError(Exception):
    """A request is refused with a status and a sentence."""

    status: int
    sentence: str


@dataclass(frozen=True)
class Guard:
    """Refuses requests of other sites, for other routes, for files that are not served, and with addresses as files.

    Attributes
    ----------
    uploads : Path
        Folder of the uploads, whose files are served.
    results : sequence of Path
        Folders of results, whose files with `SUFFIXES` are served.
    is_local : bool
        Whether only this machine may use the page, without a password; then requests for another host are refused,
        since a site could give its own name the address of this machine.
    """

    uploads: Path
    results: Sequence[Path]
    is_local: bool

    def middleware(self, app: "ASGIApp") -> "ASGIApp":
        """Wrap the application of the page."""

        async def guarded(scope: "Scope", receive: "Receive", send: "Send") -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            try:
                self._check(scope)
                if not _is_logged_in(scope):
                    send = _without_api(send)
                if scope["method"] == "POST" and not scope["path"].startswith((f"{API}upload", "/login")):
                    receive = await _checked_body(receive)
            except RefusedError as refused:
                await PlainTextResponse(refused.sentence, refused.status)(scope, receive, send)
                return
            await app(scope, receive, send)

        return guarded

    def _check(self, scope: "Scope") -> None:
        headers = Headers(scope=scope)
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if self.is_local and not is_loopback(host):
            raise RefusedError(
                403, "Open the page at 127.0.0.1 or localhost; for other names, start it with --auth_file."
            )
        if scope["method"] not in ("GET", "HEAD") and _is_of_another_site(headers):
            raise RefusedError(403, "Requests of other sites are refused.")
        path: str = scope["path"]
        if path.startswith(f"{API}file="):
            is_allowed, is_open = self._is_served(path.removeprefix(f"{API}file=")), False
        else:
            is_in_api = path.startswith(API)
            first = path.removeprefix(API if is_in_api else "/").partition("/")[0]
            is_open = first in (OPEN_API if is_in_api else OPEN)
            is_allowed = is_open or first in (CLOSED_API if is_in_api else CLOSED)
        if not is_open and not _is_logged_in(scope):
            raise RefusedError(401, "Log in first.")
        if not is_allowed:
            raise RefusedError(403, "The page does not serve this.")

    def _is_served(self, name: str) -> bool:
        """Return whether a file is an upload or belongs to a page of results, after following symbolic links."""
        try:
            path = Path(name).resolve(strict=True)
        except (OSError, ValueError):
            return False
        return is_within(path, [self.uploads]) or (
            is_within(path, self.results) and {path.suffix.lower(), Path(name).suffix.lower()} <= set(SUFFIXES)
        )


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, for this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_within(path: Path, folders: Sequence[Path]) -> bool:
    """Return whether a file is in one of some folders, after following symbolic links."""
    resolved = path.resolve()
    return any(resolved.is_relative_to(folder.resolve()) for folder in folders)


def _is_of_another_site(headers: Headers) -> bool:
    """Return whether a browser sends a request for the page of another site; programs send none of these headers."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def _is_logged_in(scope: "Scope") -> bool:
    """Return whether a request comes from an account, or needs none."""
    app = scope["app"]
    cookies = Request(scope).cookies
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return app.auth is None or any(cookies.get(name) in app.tokens for name in names)


def _without_api(send: "Send") -> "Send":
    """Wrap the function that sends an answer, so that a page has no description of the API.

    Gradio puts it, with the names of the classifiers, into the page that asks for the password too.
    """
    start: list[Message] = []
    body = bytearray()

    async def sending(message: "Message") -> None:
        if message["type"] == "http.response.start" and MutableHeaders(scope=message).get(
            "content-type", ""
        ).startswith("text/html"):
            start.append(message)
        elif message["type"] == "http.response.body" and start:
            body.extend(message.get("body", b""))
            if not message.get("more_body"):
                shown = API_DESCRIPTION.sub(rb'\1{"named_endpoints":{},"unnamed_endpoints":{}}\2', bytes(body))
                MutableHeaders(scope=start[0])["content-length"] = str(len(shown))
                await send(start[0])
                await send({"type": "http.response.body", "body": shown})
        else:
            await send(message)

    return sending


async def _checked_body(receive: "Receive") -> "Receive":
    """Read the arguments of a call, and return a function that gives them again; Gradio would fetch addresses."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise RefusedError(
                413, f"The arguments have more than {MAX_BODY // 1024**2} MB; upload recordings as files."
            )
        if not message.get("more_body"):
            message = {"type": "http.request", "body": bytes(body), "more_body": False}
            break
    try:
        arguments = json.loads(body) if body else None
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "The arguments are not JSON.") from error
    if _has_address(arguments):
        raise RefusedError(403, "A file is an address. Upload the file; the page does not fetch addresses.")
    first = [message]

    async def again() -> "Message":
        return first.pop() if first else await receive()

    return again


def _has_address(arguments: Any) -> bool:
    """Return whether the path of a file, anywhere in the arguments, is the address of another server."""
    stack = [arguments]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if "://" in str(value.get("path", "")):
                return True
            stack += value.values()
        elif isinstance(value, list):
            stack += value
    return False
