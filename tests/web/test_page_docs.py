"""The examples of docs/page.md: each runs against a page that is served for it, and prints the right answers."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "page.md").read_text(encoding="utf-8")
PYTHON, PYTHON_WITH_PASSWORD = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
CURL, CURL_WITH_PASSWORD = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
ADDRESS = "http://127.0.0.1:7860"
# The line of a file of accounts that the page shows, which the examples use.
ACCOUNT = re.findall(r'echo "(.*?)" >> accounts\.txt', PAGE)[0]
VOICES = {"anna": "9001", "ben": "9004"}
RATE = 16_000

has_curl = pytest.mark.skipif(
    shutil.which("curl") is None or shutil.which("bash") is None, reason="curl or bash is not installed"
)


def join(files: Sequence[Path]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    return np.concatenate([soundfile.read(path)[0] for path in files])


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the recordings that the examples name, of voices of the sample, in one folder."""
    folder = tmp_path_factory.mktemp("recordings")
    voices = {}
    for name, speaker in VOICES.items():
        voices[name] = sorted((ROOT / "sample" / "LibriSpeech" / "synthetic" / speaker).rglob("*.flac"))
        for number in range(3):
            # Equal halves: with the encoder spectral, those of two sentences could be of two speakers.
            samples = join([voices[name][number]] * 2)
            soundfile.write(folder / f"{name}_{number + 1}.wav", samples, RATE)
    soundfile.write(folder / "new.wav", join(voices["anna"][6:8]), RATE)
    soundfile.write(folder / "meeting.wav", join([*voices["anna"][8:], *voices["ben"][8:]]), RATE)
    return folder


@pytest.fixture(scope="module")
def open_page(start_page: Callable[..., Any], speech_weights: Path) -> Iterator[str]:
    """Return the address of a page without accounts."""
    with start_page() as server:
        yield server.address


@pytest.fixture(scope="module")
def page_with_accounts(
    start_page: Callable[..., Any], recordings: Path, speech_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Return the address of a page with the account of the examples, on which anna is enrolled."""
    from gradio_client import Client, handle_file

    accounts = tmp_path_factory.mktemp("accounts") / "accounts.txt"
    accounts.touch(mode=0o600)
    accounts.write_text(f"{ACCOUNT}\n", encoding="utf-8")
    user, _, password = ACCOUNT.partition(":")
    with start_page("--auth_file", accounts) as server:
        page = Client(server.address, auth=(user, password), verbose=False)
        page.predict(name="anna", files=[handle_file(recordings / "anna_1.wav")], api_name="/enrol")
        yield server.address


def run(command: Sequence[str], code: str, *, address: str, folder: Path) -> str:
    """Run an example in a folder, against a page at another address; return what it prints."""
    assert ADDRESS in code
    done = subprocess.run(
        [*command, code.replace(ADDRESS, address)], cwd=folder, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def run_python(code: str, *, address: str, folder: Path) -> str:
    return run([sys.executable, "-c"], code, address=address, folder=folder)


def run_curl(code: str, *, address: str, folder: Path) -> list[dict[str, Any]]:
    """Run an example of curl; return the answers, all of which must be complete."""
    printed = run(["bash", "-euo", "pipefail", "-c"], code, address=address, folder=folder)
    assert "event: error" not in printed, printed
    answers = [json.loads(data)[0] for data in re.findall(r"event: complete\ndata: (.*)", printed)]
    assert len(answers) == code.count("curl -s -N")
    return answers


def fields_in_the_table(name: str) -> set[str]:
    """Return the fields of an answer that the table of the page names."""
    row = re.findall(rf"^\| `/{name}` \|(.*)\|(.*)\|$", PAGE, re.MULTILINE)[0]
    return set(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", row[1])))


def test_the_python_example(open_page: str, recordings: Path) -> None:
    printed = run_python(PYTHON, address=open_page, folder=recordings).splitlines()
    assert printed[:3] == [f"anna_{number}.wav True []" for number in (1, 2, 3)], printed[:3]
    assert re.match(r"new\.wav \{'speaker': '(anna|unknown)', 'probability': [\d.e-]+\}", printed[3])
    assert re.match(r"(same|different|unsure) -?[\d.e-]+ [\d.e-]+$", printed[4])
    assert len(printed) > 5
    for line in printed[5:]:
        assert re.match(r"\d+\.\d to \d+\.\d s: (anna|ben|unknown)$", line)


@has_curl
def test_the_example_of_curl(open_page: str, recordings: Path) -> None:
    enrolled, identified, compared, timeline = run_curl(CURL, address=open_page, folder=recordings)
    assert enrolled["name"] == "ben"
    # With the encoder spectral, one of the recordings can have a warning.
    assert enrolled["n_enrolled"] == sum(recording["enrolled"] for recording in enrolled["recordings"]) >= 1
    assert [recording["file"] for recording in enrolled["recordings"]] == ["ben_1.wav", "ben_2.wav"]
    assert [recording["file"] for recording in identified["recordings"]] == ["new.wav"]
    assert compared["files"] == ["new.wav", "ben_1.wav"]
    assert timeline["file"] == "meeting.wav"
    answers = {"enrol": enrolled, "identify": identified, "compare": compared, "timeline": timeline}
    for name, answer in answers.items():
        assert set(answer) == fields_in_the_table(name)


def test_the_python_example_with_a_password(page_with_accounts: str, recordings: Path) -> None:
    printed = run_python(PYTHON_WITH_PASSWORD, address=page_with_accounts, folder=recordings)
    assert "'file': 'new.wav'" in printed
    assert "'speaker': 'anna'" in printed


@has_curl
def test_the_example_of_curl_with_a_password(page_with_accounts: str, recordings: Path) -> None:
    [identified] = run_curl(CURL_WITH_PASSWORD, address=page_with_accounts, folder=recordings)
    assert [recording["file"] for recording in identified["recordings"]] == ["new.wav"]
    assert "anna" in {each["speaker"] for each in identified["recordings"][0]["predictions"]}


@has_curl
def test_a_wrong_password_is_refused(page_with_accounts: str, recordings: Path) -> None:
    wrong = CURL_WITH_PASSWORD.replace(ACCOUNT.partition(":")[2], "wrong")
    # The last command fails, because there is no event to ask for.
    printed = run(["bash", "-c"], f"{wrong.rstrip()} || true", address=page_with_accounts, folder=recordings)
    assert "event: complete" not in printed
    assert "success" not in printed


def test_the_table_names_the_functions_of_the_page(open_page: str) -> None:
    from gradio_client import Client

    found = Client(open_page, verbose=False).view_api(print_info=False, return_format="dict")
    functions = found["named_endpoints"]
    assert set(functions) == set(re.findall(r"^\| `(/\w+)` \|", PAGE, re.MULTILINE))
    for name, function in functions.items():
        row = re.findall(rf"^\| `{name}` \|(.*?)\|", PAGE, re.MULTILINE)[0]
        for parameter in function["parameters"]:
            default = parameter["parameter_default"]
            if parameter["parameter_has_default"] and default is not None:
                shown = json.dumps(default) if isinstance(default, str) else default
                assert f"`{parameter['parameter_name']}={shown}`" in row
            else:
                assert f"`{parameter['parameter_name']}`" in row
