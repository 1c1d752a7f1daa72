"""Shards of an extraction: any number of processes gives the same file, and a lost process costs only its rows."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corpora import Corpus, load_corpus
from encoders import load_encoder
from features import FeaturesError, FeatureSet, LockedError, Shard, extract, extract_shard
from features.extraction import share_of
from features.lock import locked

ROOT = Path(__file__).parents[2]

Result = FeatureSet | tuple[tuple[str, str], ...]
RunShard = Callable[..., tuple[Result, int]]


@pytest.fixture
def run_shard(counting_encoder: Any) -> RunShard:
    """Return a function that extracts a shard, and returns the result and the number of encoded utterances."""

    def run(corpus: Corpus, path: Path, shard: Shard, *, fail_at: int | None = None) -> tuple[Result, int]:
        encoder = counting_encoder(fail_at=fail_at, clips_per_call=2)
        return extract_shard(corpus, encoder, path, shard=shard, progress=False), encoder.n_encoded

    return run


def is_same(found: object, features: FeatureSet) -> bool:
    assert isinstance(found, FeatureSet)
    assert found.audio is not None
    assert features.audio is not None
    return (
        found.ids == features.ids
        and torch.equal(found.features, features.features)
        and torch.equal(found.labels, features.labels)
        and torch.equal(found.durations, features.durations)
        and torch.equal(found.audio.digest, features.audio.digest)
    )


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_shards_gives_the_same_file(
    count: int, corpus: Corpus, features: FeatureSet, tmp_path: Path, run_shard: RunShard
) -> None:
    path = tmp_path / "x.pt"
    shards = [Shard(index, count) for index in range(count)]
    counts = []
    for shard in shards:
        assert not path.exists()
        found, n_encoded = run_shard(corpus, path, shard)
        counts.append(n_encoded)
    assert counts == [40 // count] * count
    assert is_same(found, features)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]
    written = path.stat().st_mtime_ns
    assert [run_shard(corpus, path, shard)[1] for shard in shards] == [0] * count
    assert path.stat().st_mtime_ns == written
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


@pytest.mark.parametrize("order", [(3, 1, 0, 2), (0, 1, 2, 3)])
def test_lost_shard_is_completed_by_another_number_of_shards(
    order: tuple[int, ...],
    corpus: Corpus,
    features: FeatureSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_shard: RunShard,
) -> None:
    monkeypatch.setattr("features.computing.SAVE_INTERVAL", 0.0)
    path = tmp_path / "x.pt"
    for index in order:
        if index == 2:
            with pytest.raises(KeyboardInterrupt):
                run_shard(corpus, path, Shard(index, 4), fail_at=6)
        else:
            assert run_shard(corpus, path, Shard(index, 4)) == ((), 10)
    assert not path.exists()
    n_left = [run_shard(corpus, path, Shard(index, 2))[1] for index in range(2)]
    assert sum(n_left) == 4
    assert is_same(FeatureSet.load(path), features)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def test_run_without_shards_completes_and_merges(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, run_shard: RunShard, counting_encoder: Any
) -> None:
    path = tmp_path / "x.pt"
    run_shard(corpus, path, Shard(1, 4))
    encoder = counting_encoder()
    found = extract(corpus, encoder, path, progress=False)
    assert encoder.n_encoded == 30
    assert is_same(found, features)


def test_shards_complete_a_features_file(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, run_shard: RunShard
) -> None:
    path = tmp_path / "x.pt"
    extract(Corpus(corpus.utterances[:25], corpus.root, corpus.name), load_encoder("spectral", device="cpu"), path)
    n_encoded = [run_shard(corpus, path, Shard(index, 3))[1] for index in range(3)]
    assert sum(n_encoded) == 15
    assert is_same(FeatureSet.load(path), features)


def test_shards_return_their_failures_and_the_file_has_all(own_root: Path, tmp_path: Path, run_shard: RunShard) -> None:
    names = [f"101/1010/101-1010-009{number}.flac" for number in range(4)]
    for name in names:
        (own_root / name).write_text("text")
    corpus = load_corpus(own_root)
    path = tmp_path / "x.pt"
    first, _ = run_shard(corpus, path, Shard(0, 2))
    last, _ = run_shard(corpus, path, Shard(1, 2))
    assert isinstance(first, tuple)
    assert {failed for failed, _ in first} < set(names)
    assert isinstance(last, FeatureSet)
    assert [failed for failed, _ in last.failures] == names


def test_running_shard_refuses_itself_and_a_whole_run(
    corpus: Corpus, tmp_path: Path, holder: Callable[[str], "subprocess.Popen[str]"], run_shard: RunShard
) -> None:
    path = tmp_path / "x.pt"
    shared, own = f"{path}.lock", f"{path}.parts/0-of-2.lock"
    owner = holder(f"locked(Path({shared!r}), shared=True), locked(Path({own!r}))")
    with pytest.raises(LockedError, match=f"process {owner.pid} on "):
        run_shard(corpus, path, Shard(0, 2))
    with pytest.raises(LockedError, match=f"process {owner.pid} on "):
        extract(corpus, load_encoder("spectral", device="cpu"), path, progress=False)
    assert run_shard(corpus, path, Shard(1, 2)) == ((), 20)  # the other shard may run
    assert (tmp_path / "x.pt.lock").exists()
    owner.kill()
    owner.wait()
    assert isinstance(run_shard(corpus, path, Shard(0, 2))[0], FeatureSet)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def test_last_shard_leaves_the_merge_to_a_process_with_the_lock(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_shard: RunShard
) -> None:
    path = tmp_path / "x.pt"
    run_shard(corpus, path, Shard(0, 2))

    @contextmanager
    def refuse_exclusive(lock: Path, shared: bool = False) -> Iterator[None]:
        if lock == tmp_path / "x.pt.lock" and not shared:
            raise LockedError("another process merges")
        with locked(lock, shared):
            yield

    with monkeypatch.context() as patch:
        patch.setattr("features.extraction.locked", refuse_exclusive)
        assert run_shard(corpus, path, Shard(1, 2)) == ((), 20)
    assert not path.exists()
    assert is_same(extract(corpus, load_encoder("spectral", device="cpu"), path, progress=False), features)


def test_finished_shards_of_another_corpus_do_not_count(corpus: Corpus, tmp_path: Path, run_shard: RunShard) -> None:
    path = tmp_path / "x.pt"
    few = Corpus(corpus.utterances[:20], corpus.root, corpus.name)
    assert run_shard(few, path, Shard(1, 2)) == ((), 10)
    found, n_encoded = run_shard(corpus, path, Shard(0, 2))
    assert isinstance(found, tuple)
    assert n_encoded < 20
    assert isinstance(run_shard(corpus, path, Shard(1, 2))[0], FeatureSet)


@given(n=st.integers(0, 300), count=st.integers(1, 40))
def test_shares_are_disjoint_complete_and_equal_in_size(n: int, count: int) -> None:
    shares = [share_of(n, Shard(index, count)).tolist() for index in range(count)]
    assert sorted(number for share in shares for number in share) == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("index", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_invalid_shard_is_refused(index: int, count: int) -> None:
    with pytest.raises(FeaturesError, match="expected i/n with i from 0 to n - 1"):
        Shard(index, count)


def test_torchrun_divides_the_work_despite_a_bad_file(own_root: Path, features: FeatureSet, tmp_path: Path) -> None:
    """Real processes start and end at any time, and one file cannot be read."""
    bad_file = own_root / "101" / "1010" / "101-1010-0099.flac"
    bad_file.write_text("text")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = [str(ROOT / "extract_features.py"), "--data_dir", str(own_root), "--encoder", "spectral"]
    output = ["--output_dir", str(tmp_path / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run_torchrun() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*command, *script, *output], capture_output=True, text=True, check=False, env=environment
        )

    done = run_torchrun()
    assert done.returncode == 1, done.stderr  # torchrun's own; the process that merged ended with 3
    assert re.search(r"exitcode *: 3", done.stderr)
    assert sum(map(int, re.findall(r"(\d+) utterances computed now", done.stderr))) == 40
    assert done.stdout.count("40 utterances, 4 speakers") == 1
    assert "failed: 101/1010/101-1010-0099.flac" in done.stdout
    (path,) = (tmp_path / "out").iterdir()
    assert is_same(FeatureSet.load(path), features)
    bad_file.unlink()
    done = run_torchrun()
    assert done.returncode == 0, done.stderr


def test_shard_flag_selects_a_share(corpus_root: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "extract_features.py"), "--data_dir", str(corpus_root)]
    arguments = ["--encoder", "spectral", "--output_dir", str(tmp_path), "--num_workers", "0"]
    for index, printed in ((1, "Shard 1 of 2 is done."), (0, "40 utterances, 4 speakers")):
        done = subprocess.run(
            [*script, *arguments, "--shard", f"{index}/2"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert printed in done.stdout


def test_shard_flag_is_refused_under_torchrun_and_out_of_range(corpus_root: Path) -> None:
    script = [sys.executable, str(ROOT / "extract_features.py"), "--data_dir", str(corpus_root)]
    done = subprocess.run(
        [*script, "--shard", "0/2"], capture_output=True, text=True, check=False, env={**os.environ, "WORLD_SIZE": "2"}
    )
    assert done.returncode == 2
    assert "torchrun assigns a shard to each process" in done.stderr
    done = subprocess.run([*script, "--shard", "2/2"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--shard is '2/2'; expected i/n with i from 0 to n - 1" in done.stderr
