"""Answers of the page's server: accounts, routes, paths, addresses, and other sites."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import gradio
import httpx
import pytest
from gradio.routes import App
from gradio_client import Client, handle_file
from gradio_client.exceptions import AuthenticationError

SAMPLE = Path(__file__).parents[2] / "sample"
PASSWORD = "blue:whale"
# What a browser needs before the login; startup-events and app_id say nothing about the page.
BEFORE_LOGIN = {
    *("/", "/login", "/login/", "/logout", "/theme.css", "/gradio_api/theme.css", "/favicon.ico", "/robots.txt"),
    *("/manifest.json", "/static/{path:path}", "/assets/{path:path}", "/svelte/{path:path}"),
    *("/gradio_api/user", "/gradio_api/user/", "/gradio_api/login_check", "/gradio_api/login_check/"),
    *("/gradio_api/app_id", "/gradio_api/app_id/", "/gradio_api/startup-events"),
}
# What nobody needs.
CLOSED = (
    *("/gradio_api/vibe-code", "/gradio_api/dev/reload", "/gradio_api/deep_link", "/gradio_api/runs", "/monitoring"),
    *("/monitoring/summary", "/gradio_api/proxy=http://127.0.0.1/", "/gradio_api/file/etc/passwd", "/gradio_api/token"),
    *("/gradio_api/stream/a/b/1/playlist-file", "/gradio_api/custom_component/a/client/b/c", "/pwa_icon"),
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of results, with files that are not served: others, and links that lead out of it."""
    folder = tmp_path_factory.mktemp("all") / "results"
    (folder / "first").mkdir(parents=True)
    (folder.parent / "outside.html").write_text("outside")
    for name in ("report.html", "metrics.csv", "speaker_classifier_secret.pt", "speakers.db", ".html"):
        (folder / "first" / name).write_text(f"this is {name}")
    (folder / "first" / "out.html").symlink_to(folder.parent / "outside.html")
    (folder / "first" / "classifier.html").symlink_to(folder / "first" / "speaker_classifier_secret.pt")
    (folder / "up").symlink_to(folder.parent)
    return folder


@pytest.fixture(scope="module")
def server(start_page: Callable[..., AbstractContextManager[Any]], results: Path) -> Iterator[Any]:
    """Return a page for the account anna."""
    accounts = results.parent / "accounts"
    accounts.touch(mode=0o600)
    accounts.write_text(f"# teachers\n\nanna:{PASSWORD}\n")
    with start_page("--auth_file", accounts, "--results_dir", results) as server:
        yield server


@pytest.fixture
def logged_in(server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address) as client:
        assert client.post("/login", data={"username": "anna", "password": PASSWORD}).json() == {"success": True}
        yield client


def test_each_route_of_gradio_asks_for_the_password(server: Any) -> None:
    answered = set()
    with httpx.Client(base_url=server.address) as client:
        for route in App.create_app(gradio.Blocks()).routes:
            path = str(getattr(route, "path", ""))
            address = re.sub(r"\{\w+(:path)?\}", "x", path)
            for method in getattr(route, "methods", None) or ():
                if client.request(method, address).status_code != 401:
                    answered.add(path)
    assert answered <= BEFORE_LOGIN


@pytest.mark.parametrize(
    "path", ["/config", "/gradio_api/info", "/gradio_api/file=/etc/passwd", "/gradio_api/login_check"]
)
def test_nothing_is_served_before_the_login(path: str, server: Any) -> None:
    assert httpx.get(server.address + path).status_code == 401
    for cookie in ("", "None", "null", "anna"):
        app_id = next(iter(httpx.get(f"{server.address}/gradio_api/app_id").json().values()))
        cookies = {f"access-token-{app_id}": cookie, "access-token": cookie}
        assert httpx.get(server.address + path, cookies=cookies).status_code == 401


def test_page_before_the_login_does_not_describe_the_page(server: Any, logged_in: httpx.Client) -> None:
    before, after = httpx.get(server.address).text, logged_in.get("/").text
    for word in ("speaker_classifier_secret", "/identify", "Voxprobe</h1>", "speakers.db"):
        assert word not in before
    assert '"auth_required":true' in before
    assert "speaker_classifier_secret" in after


def test_upload_before_the_login_is_refused_and_leaves_nothing(server: Any) -> None:
    files = {"files": ("a.wav", b"0" * 100_000)}
    assert httpx.post(f"{server.address}/gradio_api/upload", files=files).status_code == 401
    assert server.files() == []


def test_wrong_passwords_are_refused(server: Any) -> None:
    for user, password in (("anna", "blue"), ("anna", ""), ("", PASSWORD), ("ben", PASSWORD), ("anna", f"{PASSWORD} ")):
        answer = httpx.post(f"{server.address}/login", data={"username": user, "password": password})
        assert answer.status_code in (400, 422)
        assert not answer.cookies


def test_clients_work_with_the_password_only(server: Any) -> None:
    with pytest.raises(AuthenticationError):
        Client(server.address, verbose=False)
    client = Client(server.address, auth=("anna", PASSWORD), verbose=False)
    recordings = [handle_file(path) for path in sorted((SAMPLE / "LibriSpeech" / "synthetic" / "9001").rglob("*.flac"))]
    assert client.predict("anna", recordings[:3], True, api_name="/enrol")["n_enrolled"] == 3
    assert server.files() == []


def test_logging_out_ends_the_session(server: Any) -> None:
    with httpx.Client(base_url=server.address) as client:
        client.post("/login", data={"username": "anna", "password": PASSWORD})
        cookies = dict(client.cookies)
        assert client.get("/gradio_api/info").status_code == 200
        client.get("/logout")
        assert httpx.get(f"{server.address}/gradio_api/info", cookies=cookies).status_code == 401


@pytest.mark.parametrize("path", CLOSED)
def test_routes_that_the_page_does_not_need_are_closed(path: str, logged_in: httpx.Client) -> None:
    assert logged_in.get(path).status_code == 403


@pytest.mark.parametrize("path", ["vibe-edit", "component_server", "process_recording", "run-history/connect"])
def test_actions_that_the_page_does_not_need_are_closed(path: str, logged_in: httpx.Client, server: Any) -> None:
    files = {"video": ("a.mp4", b"0" * 1000)}
    assert logged_in.post(f"/gradio_api/{path}", files=files).status_code in (400, 403)
    assert logged_in.post(f"/gradio_api/{path}", json={}).status_code == 403
    assert server.files() == []


@pytest.mark.parametrize("name", ["first/report.html", "first/metrics.csv", "first/../first/report.html"])
def test_pages_of_results_are_served(name: str, logged_in: httpx.Client, results: Path) -> None:
    answer = logged_in.get(f"/gradio_api/file={results}/{name}")
    assert answer.status_code == 200
    assert answer.text == f"this is {Path(name).name}"


@pytest.mark.parametrize(
    "name",
    [
        *("{results}/first/speaker_classifier_secret.pt", "{results}/first/speakers.db", "{results}/first/.html"),
        *("{results}/first/out.html", "{results}/first/classifier.html", "{results}/up/outside.html"),
        *("{results}/../outside.html", "{results}/%2e%2e/outside.html", "{results}/..%2foutside.html"),
        *("{results}/%252e%252e/outside.html", "{results}", "{results}/", "{store}", "{store}-journal", "speakers.db"),
        *(
            "/etc/passwd",
            "//etc/passwd",
            "%2fetc%2fpasswd",
            "../../../etc/passwd",
            "{results}/first/report.html%00.txt",
        ),
        *("http://127.0.0.1:9/", "https://example.com/a.html", "HTTP://127.0.0.1:9/", "file:///etc/passwd"),
        *("{results}/first/report.html/..", "{root}/README.md", "{root}/web/page.js", "accounts", ""),
    ],
)
def test_other_files_are_not_served(name: str, logged_in: httpx.Client, results: Path, server: Any) -> None:
    # A file in the current folder of the server, and one beside it.
    for path in (server.store.parent / "secret.txt", server.store.parent / "accounts"):
        path.write_text("secret")
    path = name.format(results=results, store=server.store, root=SAMPLE.parent)
    for method in ("GET", "HEAD"):
        answer = logged_in.request(method, f"/gradio_api/file={path}", follow_redirects=True)
        assert answer.status_code == 403
    assert logged_in.get(f"/gradio_api/file/{path}").status_code == 403


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "{store}", "{temporary}/../speakers.db", "speakers.db", "http://127.0.0.1:{port}/robots.txt", "https://example.com/a.wav"],
)  # fmt: skip
@pytest.mark.parametrize("with_meta", [True, False])
def test_calls_with_other_paths_than_uploads_are_refused(
    path: str, with_meta: bool, logged_in: httpx.Client, server: Any
) -> None:
    path = path.format(store=server.store, temporary=server.temporary, port=httpx.URL(server.address).port)
    file: dict[str, Any] = {"path": path, "orig_name": "a.wav"}
    if with_meta:
        file["meta"] = {"_type": "gradio.FileData"}
    called = logged_in.post("/gradio_api/call/identify", json={"data": [[file], "enrolled speakers", 0.5, False]})
    if called.status_code == 200:
        answer = logged_in.get(f"/gradio_api/call/identify/{called.json()['event_id']}").text
        # Without the mark of a file, the path is that of no upload, and nothing of it is read.
        assert "event: error" in answer or "no longer on the server" in answer
        assert "root:" not in answer
    else:
        assert called.status_code == 403
    assert server.files() == []


def test_addresses_are_refused_anywhere_in_the_arguments(logged_in: httpx.Client) -> None:
    address = {"path": "http://127.0.0.1:9/a.wav", "meta": {"_type": "gradio.FileData"}}
    for data in ([{"a": [address]}], address, [[[address]]]):
        body = {"data": data, "fn_index": 0, "session_hash": "a"}
        assert logged_in.post("/gradio_api/queue/join", json=body).status_code == 403
    assert logged_in.post("/gradio_api/queue/join", content=b"[" * 100_000).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://example.com"},
        {"origin": "null"},
    ],
)
def test_requests_of_other_sites_are_refused(headers: dict[str, str], page_server: Any) -> None:
    data = {"data": ["anna", [], False]}
    answer = httpx.post(f"{page_server.address}/gradio_api/call/enrol", json=data, headers=headers)
    assert answer.status_code == 403
    answer = httpx.post(f"{page_server.address}/gradio_api/upload", files={"files": ("a", b"0")}, headers=headers)
    assert answer.status_code == 403
    assert page_server.files() == []


def test_names_of_other_hosts_are_refused_without_accounts(page_server: Any, server: Any) -> None:
    for host, status in (("example.com", 403), ("127.0.0.1.example.com:80", 403), ("localhost:1", 200), ("[::1]", 200)):
        assert httpx.get(page_server.address, headers={"host": host}).status_code == status
    assert httpx.get(server.address, headers={"host": "example.com"}).status_code == 200


def test_answers_forbid_other_sites_to_show_or_to_sniff_them(page_server: Any) -> None:
    for path in ("/", "/theme.css", "/gradio_api/file=/etc/passwd"):
        headers = httpx.get(page_server.address + path).headers
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
