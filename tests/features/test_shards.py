"""Shares of one extraction: 1 = 2 = 4 processes, lost ones, other numbers of them, torchrun."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corpora import Corpus, load_corpus
from encoders import load_encoder
from features import FeaturesError, FeatureSet, LockedError, Shard, extract, extract_shard
from features.extraction import share_of
from features.lock import locked

ROOT = Path(__file__).parents[2]


class Counting:
    """`spectral`, counting the waveforms that it is given; it can fail at one."""

    def __init__(self, fail_at: int = 10**9) -> None:
        self.n_encoded, self.fail_at = 0, fail_at
        self.inner = load_encoder("spectral", device="cpu")
        self.spec, self.sample_rate, self.clips_per_call = self.inner.spec, 16_000, 2

    def encode(self, waveforms: Sequence[Tensor], batch_size: int | None = None) -> Tensor:
        if self.n_encoded + len(waveforms) > self.fail_at:
            raise KeyboardInterrupt
        self.n_encoded += len(waveforms)
        return self.inner.encode(waveforms, batch_size)


def shard(
    corpus: Corpus, path: Path, index: int, count: int, encoder: Counting | None = None
) -> tuple[FeatureSet | tuple[tuple[str, str], ...], int]:
    counting = encoder or Counting()
    done = extract_shard(corpus, counting, path, Shard(index, count), progress=False)  # type: ignore[arg-type]
    return done, counting.n_encoded


def same(found: object, features: FeatureSet) -> bool:
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
def test_any_number_of_shards_makes_the_same_file(
    count: int, corpus: Corpus, features: FeatureSet, tmp_path: Path
) -> None:
    path = tmp_path / "x.pt"
    counts = []
    for index in range(count):
        assert not path.exists()
        found, n_encoded = shard(corpus, path, index, count)
        counts.append(n_encoded)
    assert counts == [40 // count] * count
    assert same(found, features)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]
    written = path.stat().st_mtime_ns
    assert [shard(corpus, path, index, count)[1] for index in range(count)] == [0] * count
    assert path.stat().st_mtime_ns == written
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


@pytest.mark.parametrize("order", [(3, 1, 0, 2), (0, 1, 2, 3)])
def test_a_lost_shard_loses_its_share_alone_and_another_number_goes_on(
    order: tuple[int, ...], corpus: Corpus, features: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.computing.SAVE_EVERY", 0.0)
    path = tmp_path / "x.pt"
    for index in order:
        if index == 2:
            with pytest.raises(KeyboardInterrupt):
                shard(corpus, path, index, 4, Counting(fail_at=6))
        else:
            assert shard(corpus, path, index, 4) == ((), 10)
    assert not path.exists()
    n_left = [shard(corpus, path, index, 2)[1] for index in range(2)]
    assert sum(n_left) == 4
    assert same(FeatureSet.load(path), features)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def test_a_last_call_without_shards_does_what_is_missing_and_merges(
    corpus: Corpus, features: FeatureSet, tmp_path: Path
) -> None:
    path = tmp_path / "x.pt"
    shard(corpus, path, 1, 4)
    counting = Counting()
    found = extract(corpus, counting, path, progress=False)  # type: ignore[arg-type]
    assert counting.n_encoded == 30
    assert same(found, features)


def test_shards_complete_a_finished_file_that_lacks_some(corpus: Corpus, features: FeatureSet, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    extract(Corpus(corpus.utterances[:25], corpus.root, corpus.name), load_encoder("spectral", device="cpu"), path)
    n_encoded = [shard(corpus, path, index, 3)[1] for index in range(3)]
    assert sum(n_encoded) == 15
    assert same(FeatureSet.load(path), features)


def test_each_shard_tells_its_own_failures_and_the_file_has_all(own_root: Path, tmp_path: Path) -> None:
    names = [f"101/1010/101-1010-009{number}.flac" for number in range(4)]
    for name in names:
        (own_root / name).write_text("text")
    corpus = load_corpus(own_root)
    path = tmp_path / "x.pt"
    first, _ = shard(corpus, path, 0, 2)
    last, _ = shard(corpus, path, 1, 2)
    assert isinstance(first, tuple)
    assert {failed for failed, _ in first} < set(names)
    assert isinstance(last, FeatureSet)
    assert [failed for failed, _ in last.failures] == names


def test_a_shard_that_runs_already_is_refused_and_so_is_a_whole_run(
    corpus: Corpus, tmp_path: Path, holder: Callable[[str], "subprocess.Popen[str]"]
) -> None:
    path = tmp_path / "x.pt"
    shared, own = f"{path}.lock", f"{path}.parts/0-of-2.lock"
    owner = holder(f"locked(Path({shared!r}), shared=True), locked(Path({own!r}))")
    with pytest.raises(LockedError, match=f"process {owner.pid} on "):
        shard(corpus, path, 0, 2)
    with pytest.raises(LockedError, match=f"process {owner.pid} on "):
        extract(corpus, load_encoder("spectral", device="cpu"), path, progress=False)
    assert shard(corpus, path, 1, 2) == ((), 20)  # the other one may
    assert (tmp_path / "x.pt.lock").exists()
    owner.kill()
    owner.wait()
    assert isinstance(shard(corpus, path, 0, 2)[0], FeatureSet)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def test_the_last_of_two_that_end_together_merges(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.pt"
    shard(corpus, path, 0, 2)

    def refuse(*_: object, **__: object) -> FeatureSet:
        raise LockedError("another process merges")

    with monkeypatch.context() as patch:
        patch.setattr("features.extraction.extract", refuse)
        assert shard(corpus, path, 1, 2)[0] == ()
    assert same(extract(corpus, load_encoder("spectral", device="cpu"), path, progress=False), features)


@given(n=st.integers(0, 300), count=st.integers(1, 40))
def test_shares_are_all_of_it_and_nothing_twice(n: int, count: int) -> None:
    shares = [share_of(n, Shard(index, count)).tolist() for index in range(count)]
    assert sorted(number for share in shares for number in share) == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("index", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_a_share_that_there_is_not_is_refused(index: int, count: int) -> None:
    with pytest.raises(FeaturesError, match="expected i/n with i from 0 to n - 1"):
        Shard(index, count)


def test_locks_are_shared_by_those_who_share(tmp_path: Path) -> None:
    with locked(tmp_path / "a.lock", shared=True), locked(tmp_path / "b.lock"):
        assert "process" in (tmp_path / "a.lock").read_text()
    assert not list(tmp_path.iterdir())


def test_marks_of_another_corpus_are_none(corpus: Corpus, features: FeatureSet, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    few = Corpus(corpus.utterances[:20], corpus.root, corpus.name)
    assert shard(few, path, 1, 2) == ((), 10)
    found, n_encoded = shard(corpus, path, 0, 2)
    assert isinstance(found, tuple)
    assert n_encoded < 20
    assert isinstance(shard(corpus, path, 1, 2)[0], FeatureSet)


def test_those_who_share_do_not_refuse_each_other(tmp_path: Path) -> None:
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\nfrom features.lock import locked\n"
        "until = time.monotonic() + 1.5\n"
        f"while time.monotonic() < until:\n    with locked(Path({str(tmp_path / 'x.lock')!r}), shared=True): pass"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, told = process.communicate()
        assert process.returncode == 0, told


def test_torchrun_divides_the_work_whatever_fails(own_root: Path, features: FeatureSet, tmp_path: Path) -> None:
    """With real processes, which start and end as they like, and a file that cannot be read."""
    (own_root / "101" / "1010" / "101-1010-0099.flac").write_text("text")
    corpus_root = own_root
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = [
        str(ROOT / "extract_features.py"),
        "--data_dir",
        str(corpus_root),
        "--encoder",
        "spectral",
        "--output_dir",
        str(tmp_path / "out"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *script], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1, done.stderr  # torchrun's own; who merged ended with 3
    assert re.search(r"exitcode *: 3", done.stderr)
    assert sum(map(int, re.findall(r"(\d+) utterances computed now", done.stderr))) == 40
    assert done.stdout.count("40 utterances, 4 speakers") == 1
    assert "failed: 101/1010/101-1010-0099.flac" in done.stdout
    (path,) = (tmp_path / "out").iterdir()
    assert same(FeatureSet.load(path), features)
    (own_root / "101" / "1010" / "101-1010-0099.flac").unlink()
    done = subprocess.run([*command, *script], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def test_the_flag_takes_a_share(corpus_root: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "extract_features.py"), "--data_dir", str(corpus_root)]
    arguments = ["--encoder", "spectral", "--output_dir", str(tmp_path), "--num_workers", "0"]
    for index, told in ((1, "Shard 1 of 2 is done."), (0, "40 utterances, 4 speakers")):
        done = subprocess.run(
            [*script, *arguments, "--shard", f"{index}/2"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert told in done.stdout
    done = subprocess.run(
        [*script, "--shard", "0/2"], capture_output=True, text=True, check=False, env={**os.environ, "WORLD_SIZE": "2"}
    )
    assert done.returncode == 2
    assert "torchrun gives each process its share" in done.stderr
    done = subprocess.run([*script, "--shard", "2/2"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--shard is '2/2'; expected i/n with i from 0 to n - 1" in done.stderr
