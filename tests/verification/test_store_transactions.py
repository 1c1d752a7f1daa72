"""`SpeakerStore`: full disks, several writers, and writers that are killed."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from features import FeatureSet
from verification import SpeakerStore, SpeakerVerifier, StoreError

ROOT = Path(__file__).parents[2]
Select = Callable[..., FeatureSet]


def test_full_disk_leaves_the_store_unchanged(
    store: SpeakerStore, population: FeatureSet, select_speakers: Select, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.enroll_features(select_speakers(population, 60, 65))
    connect = sqlite3.connect

    def connect_on_full_disk(*arguments: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)  # type: ignore[call-overload]
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_on_full_disk)
    with SpeakerStore.open(store.path) as full:
        with pytest.raises(StoreError, match="the disk is full, and the store was not changed"):
            full.enroll_features(select_speakers(population, 0, 60))
        assert len(full) == 5
    assert len(store) == 5


def test_waiting_for_another_writer_times_out(
    store: SpeakerStore, population: FeatureSet, select_speakers: Select, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verification.store_file.TIMEOUT", 0.1)
    store.enroll_features(select_speakers(population, 60, 65))
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with SpeakerStore.open(store.path) as waiting:
        with pytest.raises(StoreError, match="another process has been writing to this store"):
            waiting.remove("060")
        assert len(waiting) == 5  # reading is possible meanwhile
        other.execute("ROLLBACK")
        waiting.remove("060")
    other.close()
    assert len(store) == 4


def test_a_store_that_cannot_be_written_is_known_beforehand(
    store: SpeakerStore, population: FeatureSet, select_speakers: Select, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.enroll_features(select_speakers(population, 60, 65))
    store.check_writable()
    assert len(store) == 5
    connect = sqlite3.connect

    def connect_to_protected(*arguments: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)  # type: ignore[call-overload]
        connection.execute("PRAGMA query_only = ON")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_to_protected)
    with SpeakerStore.open(store.path) as protected:
        with pytest.raises(StoreError, match="this store cannot be written"):
            protected.check_writable()
        assert len(protected) == 5


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from verification import Recording, SpeakerStore, SpeakerVerifier
folder, name = Path(sys.argv[2]), sys.argv[3]
verifier = SpeakerVerifier.load(folder / "verifier.pt")
generator = torch.Generator().manual_seed(int(name))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[4])):
    rows = torch.randn(3, verifier.encoder["dim"], generator=generator)
    recordings = [
        Recording(path=f"{number}-{row}", digest=f"{name}-{number}-{row}".encode(), seconds=1.0, vector=rows[row])
        for row in range(3)
    ]
    with SpeakerStore.create(folder / "speakers.db", verifier) as store:
        store.enroll(f"{name}-{number}", recordings)
    print(number, flush=True)
"""


def start_writer(folder: Path, name: int, count: int) -> subprocess.Popen[str]:
    """Start a process that waits for a line, then enrols speakers with three recordings each."""
    command = [sys.executable, "-c", WRITER, str(ROOT), str(folder), str(name), str(count)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    return writer


def release(*writers: subprocess.Popen[str]) -> None:
    """Let writers begin."""
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()


def test_several_writers_lose_nothing(plda_verifier: SpeakerVerifier, tmp_path: Path) -> None:
    plda_verifier.save(tmp_path / "verifier.pt")
    writers = [start_writer(tmp_path, name, 15) for name in range(3)]
    release(*writers)  # the first of them makes the file
    for writer in writers:
        writer.communicate(timeout=100)
        assert writer.returncode == 0
    with SpeakerStore.open(tmp_path / "speakers.db") as store:
        assert {each.name for each in store.speakers()} == {f"{name}-{n}" for name in range(3) for n in range(15)}
        assert {each.n_recordings for each in store.speakers()} == {3}


def test_killed_writer_leaves_complete_speakers(plda_verifier: SpeakerVerifier, tmp_path: Path) -> None:
    plda_verifier.save(tmp_path / "verifier.pt")
    random = np.random.default_rng(0)
    n_reported = 0
    for name in range(4):
        writer = start_writer(tmp_path, name, 10_000)
        release(writer)
        time.sleep(float(random.uniform(0.0, 0.4)))
        writer.kill()
        printed, _ = writer.communicate()
        n_reported += len(printed.splitlines())
        if not (tmp_path / "speakers.db").exists():
            continue
        with SpeakerStore.create(tmp_path / "speakers.db", plda_verifier) as store:
            speakers = store.speakers()
            assert len(speakers) >= n_reported  # all speakers that were reported are there
            assert all(each.n_recordings == 3 for each in speakers)
            if speakers:
                probe = torch.randn(1, int(plda_verifier.encoder["dim"]), generator=torch.Generator().manual_seed(1))
                assert store.nearest(probe, 1).n_speakers == len(speakers)
        with sqlite3.connect(tmp_path / "speakers.db") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            orphans = "SELECT count(*) FROM recordings WHERE speaker NOT IN (SELECT id FROM speakers)"
            assert connection.execute(orphans).fetchone() == (0,)
        connection.close()
    assert n_reported > 0
