"""Measure the page over HTTP, as a program uses it: start, calls by one and by several clients, and a long recording.

python benchmarks/page.py    (on Linux)

The page is a process of its own, with three speakers of the sample. A call is an upload, its start, and its answer.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
import numpy as np
import soundfile
from numpy.typing import NDArray

from command_line import EXIT_DONE, run
from config import PageConfig, ScriptConfig
from configs.base import InputPath
from corpora import load_corpus
from encoders import LazyEncoder
from files import format_table
from speaker_verification import encoder_of, verifier_of
from verification import SpeakerStore, enroll_rows

ROOT = Path(__file__).resolve().parents[1]
SPEAKERS = ("9001", "9002", "9004")
RATE = 16_000
# Length of the recording that is identified (seconds).
SECONDS = 10
# Time without an answer after which the measurement fails (seconds).
TIMEOUT = 3600.0


@dataclass(frozen=True, kw_only=True)
class PageBenchmark(ScriptConfig):
    """Measure the page over HTTP."""

    verifier: InputPath = Path("ready")
    """Verifier of the store: a file, or ready."""
    starts: int = 5
    """Number of starts of the page."""
    calls: int = 100
    """Number of calls by one client."""
    clients: int = 8
    """Number of clients that call at the same time."""
    seconds: float = 30.0
    """Time for which they call (seconds)."""
    minutes: float = 60.0
    """Length of the recording in which is found who spoke when (minutes)."""
    quick: bool = False
    """Measure little, to see whether it works."""


@dataclass(frozen=True)
class Page:
    """A page that is served by a process of its own."""

    address: str
    process: "subprocess.Popen[str]"
    # Time at which the process was started, by `time.perf_counter`.
    started: float

    def peak_mib(self) -> int:
        """Return the peak memory of the process since `forget_peak` (MiB, Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024

    def forget_peak(self) -> None:
        """Let the peak memory be that of now (Linux)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


@contextmanager
def served_page(store: Path, log: Path) -> Iterator[Page]:
    """Serve a store until the context ends."""
    command = [sys.executable, str(ROOT / "app.py"), "--store", str(store), "--port", "0"]
    started = time.perf_counter()
    with log.open("a") as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        line = next((line for line in process.stdout if line.startswith("The page is at ")), None)
        if line is None:
            raise RuntimeError(f"The page did not start:\n{log.read_text()}")
        yield Page(line.split()[4].rstrip("/"), process, started)
    finally:
        process.terminate()
        process.wait()


class PageClient:
    """A program that calls the functions of the page."""

    def __init__(self, page: Page) -> None:
        self.http = httpx.Client(base_url=page.address, timeout=TIMEOUT)

    def call(self, function: str, field: str, recording: Path) -> Any:
        """Upload a recording, call a function with it, and return the answer."""
        with recording.open("rb") as content:
            uploaded = self.http.post("/gradio_api/upload", files={"files": (recording.name, content)})
        file = {"path": uploaded.raise_for_status().json()[0], "meta": {"_type": "gradio.FileData"}}
        values = {field: [file] if field == "files" else file}
        event = self.http.post(f"/gradio_api/call/v2/{function}", json=values).raise_for_status().json()["event_id"]
        answer = self.http.get(f"/gradio_api/call/{function}/{event}").raise_for_status().text
        if "event: complete\ndata: " not in answer:
            raise RuntimeError(f"{function}: {answer}")
        return json.loads(answer.split("event: complete\ndata: ")[1])[0]

    def seconds_to_identify(self, recording: Path) -> float:
        """Identify the speaker of a recording, and return the time that it took (seconds)."""
        started = time.perf_counter()
        answer = self.call("identify", "files", recording)
        seconds = time.perf_counter() - started
        if answer["recordings"][0]["error"]:
            raise RuntimeError(answer["recordings"][0]["error"])
        return seconds


def make_store(path: Path, config: PageConfig) -> LazyEncoder:
    """Enrol three speakers of the sample; return the encoder."""
    verifier = verifier_of(config)
    encoder = encoder_of(verifier, config)
    utterances = [each for each in load_corpus(ROOT / "sample" / "LibriSpeech") if each.speaker in SPEAKERS]
    with SpeakerStore.create(path, verifier) as store:
        enroll_rows(store, list(verifier.embed(utterances, encoder)))
    return encoder


def voices() -> list[NDArray[np.float32]]:
    """Return the sentences of the enrolled speakers and of another one, in turn."""
    folders = [ROOT / "sample" / "LibriSpeech" / "synthetic" / name for name in (*SPEAKERS, "9006")]
    takes = [sorted(folder.rglob("*.flac")) for folder in folders]
    return [soundfile.read(path, dtype="float32")[0] for paths in zip(*takes, strict=True) for path in paths]


def write_conversation(path: Path, seconds: float) -> Path:
    """Write sentences of several voices, with pauses between them, as a file of a given length."""
    left, pause = round(seconds * RATE), np.zeros(RATE // 2, dtype=np.float32)
    with soundfile.SoundFile(path, "w", RATE, channels=1, subtype="PCM_16") as file:
        for sentence in cycle(voices()):
            part = np.concatenate([sentence, pause])[:left]
            file.write(part)
            left -= len(part)
            if left == 0:
                return path
    raise AssertionError("the sample has no sentences")


def write_voice(path: Path) -> Path:
    """Write `SECONDS` of one voice."""
    samples = np.concatenate(voices()[:: len(SPEAKERS) + 1])
    soundfile.write(path, np.resize(samples, SECONDS * RATE), RATE)
    return path


def measure_starts(store: Path, recording: Path, n_starts: int) -> list[list[str]]:
    """Start the page several times; return rows of the table."""
    until_page, until_answer = [], []
    for _ in range(n_starts):
        with served_page(store, store.with_suffix(".log")) as page:
            client = PageClient(page)
            client.http.get("/").raise_for_status()
            until_page.append(time.perf_counter() - page.started)
            client.call("identify", "files", recording)
            until_answer.append(time.perf_counter() - page.started)
    rows = []
    for name, times in (("page answers", until_page), ("first recording is identified", until_answer)):
        rows.append([f"start until the {name}: first time", f"{times[0]:.2f} s"])
        if n_starts > 1:
            rows.append([f"start until the {name}: again, median of {n_starts - 1}", f"{np.median(times[1:]):.2f} s"])
    return rows


def times_of(seconds: Sequence[float]) -> str:
    """Write the median and the 95th percentile of times."""
    middle, high = np.quantile(seconds, (0.5, 0.95))
    return f"{1000 * middle:.0f} ms, {1000 * high:.0f} ms"


def measure_one_client(page: Page, recording: Path, store: Path, *, encoder: LazyEncoder, n: int) -> list[list[str]]:
    """Identify a recording by one client, and in this process; return rows of the table."""
    client = PageClient(page)
    client.seconds_to_identify(recording)
    over_http = [client.seconds_to_identify(recording) for _ in range(n)]
    direct = []
    with SpeakerStore.open(store) as opened:
        for _ in range(n + 1):
            started = time.perf_counter()
            opened.identify_files(recording, encoder.encoder)
            direct.append(time.perf_counter() - started)
    share = np.median(direct[1:]) / np.median(over_http)
    return [
        [f"{SECONDS} s of audio identified, 1 client, {n} calls: median, 95th percentile", times_of(over_http)],
        ["the same without HTTP and Gradio (SpeakerStore.identify_files)", times_of(direct[1:])],
        ["its share of the call", f"{100 * share:.0f} %"],
    ]


def measure_clients(page: Page, recording: Path, *, n_clients: int, seconds: float) -> list[list[str]]:
    """Identify a recording by several clients at the same time; return rows of the table."""
    times: list[float] = []
    started = time.perf_counter()

    def ask() -> None:
        client = PageClient(page)
        while time.perf_counter() - started < seconds:
            times.append(client.seconds_to_identify(recording))

    threads = [threading.Thread(target=ask) for _ in range(n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    if not times:
        raise RuntimeError("no client got an answer")
    name = f"{SECONDS} s of audio identified, {n_clients} clients at once"
    return [
        [f"{name}, {len(times)} calls: median, 95th percentile", times_of(times)],
        [f"{name}: throughput", f"{len(times) / elapsed:.1f} recordings/s"],
    ]


def measure_timeline(page: Page, recording: Path, minutes: float) -> list[list[str]]:
    """Find who spoke when in a long recording; return rows of the table."""
    client = PageClient(page)
    page.forget_peak()
    before, started = page.peak_mib(), time.perf_counter()
    answer = client.call("timeline", "file", recording)
    seconds, after = time.perf_counter() - started, page.peak_mib()
    name = f"timeline of {minutes:g} minutes, {recording.suffix[1:].upper()}"
    size = recording.stat().st_size / 1e6
    return [
        [f"{name} ({size:.0f} MB, {len(answer['turns'])} turns)", f"{seconds:.0f} s"],
        [f"{name}: peak memory of the page (before it)", f"{after} MiB ({before} MiB)"],
    ]


def main(config: PageBenchmark) -> int:
    """Measure the page, and print a table."""
    starts, calls, seconds, minutes = config.starts, config.calls, config.seconds, config.minutes
    if config.quick:
        starts, calls, seconds, minutes = 1, 2, 1.0, 0.25
    with TemporaryDirectory() as name:
        folder = Path(name)
        store, recording = folder / "speakers.db", write_voice(folder / "voice.wav")
        encoder = make_store(store, PageConfig(store=store, verifier=config.verifier))
        rows = measure_starts(store, recording, starts)
        with served_page(store, folder / "speakers.log") as page:
            rows += measure_one_client(page, recording, store, encoder=encoder, n=calls)
            rows += measure_clients(page, recording, n_clients=config.clients, seconds=seconds)
            for suffix in (".wav", ".flac"):
                long = write_conversation(folder / f"conversation{suffix}", 60 * minutes)
                rows += measure_timeline(page, long, minutes)
    print(format_table(["measured", "value"], rows, "<>"))
    return EXIT_DONE


if __name__ == "__main__":
    run(PageBenchmark, main)
