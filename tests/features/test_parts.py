"""Part files: complete blocks are read, whatever happened to the rest of the file."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from features import MEAN_CHANNEL, AudioProvenance, FeaturesError
from features.parts import Block, PartFile, read_part


def make_block(n: int, seed: int, dtype: torch.dtype = torch.float32, layers: int = 0) -> Block:
    generator = torch.Generator().manual_seed(seed)
    return Block(
        ids=tuple(f"{seed}/{row}\n李.wav" for row in range(n)),
        features=torch.randn(n, *([layers] if layers else []), 7, generator=generator).to(dtype),
        durations=torch.rand(n, generator=generator),
        audio=AudioProvenance(
            digest=torch.randint(0, 256, (n, 32), generator=generator, dtype=torch.uint8),
            size=torch.arange(n),
            mtime_ns=torch.arange(n),
            start=torch.zeros(n, dtype=torch.float64),
            duration=torch.full((n,), torch.nan, dtype=torch.float64),
            channel=torch.full((n,), MEAN_CHANNEL),
            file_rate=torch.full((n,), 16_000),
            offset=torch.zeros(n),
            bandwidth=torch.full((n,), 8_000.0),
            rate=16_000,
            crop=None,
        ),
        encoder={"name": "x", "options": {"n": seed}},
    )


def is_same(found: Block, wanted: Block) -> bool:
    return (
        found.ids == wanted.ids
        and torch.equal(found.features, wanted.features)
        and found.features.dtype == wanted.features.dtype
        and torch.equal(found.audio.digest, wanted.audio.digest)
        and found.encoder == wanted.encoder
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Block], list[int]]:
    """Return a part file, its blocks, and the position at which each of them ends."""
    part = PartFile(tmp_path_factory.mktemp("parts"))
    blocks = [make_block(3, 0), make_block(1, 1, torch.float16), make_block(5, 2, layers=2)]
    ends = []
    for each in blocks:
        part.append(each)
        ends.append(part.path.stat().st_size)
    assert part.n_rows == 9
    return part.path, blocks, ends


def test_blocks_are_read_as_written(written: tuple[Path, list[Block], list[int]]) -> None:
    path, blocks, _ = written
    found = read_part(path)
    assert len(found) == 3
    assert all(is_same(one, other) for one, other in zip(found, blocks, strict=True))
    found[0].features[0] = 0.0  # a private copy
    assert is_same(read_part(path)[0], blocks[0])


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1))
def test_complete_blocks_of_a_cut_off_part_are_read(
    share: float, written: tuple[Path, list[Block], list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, blocks, ends = written
    data = path.read_bytes()
    length = round(share * len(data))
    cut = tmp_path_factory.mktemp("cut") / "x.part"
    cut.write_bytes(data[:length])
    found = read_part(cut)
    # A block is complete without the padding after its vectors.
    assert len(found) in {sum(end <= length for end in ends), sum(end - 64 < length for end in ends)}
    assert all(is_same(one, other) for one, other in zip(found, blocks, strict=False))


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255))
def test_blocks_before_a_changed_byte_are_read(
    place: float, value: int, written: tuple[Path, list[Block], list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, blocks, _ = written
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= value
    changed = tmp_path_factory.mktemp("changed") / "x.part"
    changed.write_bytes(data)
    if changed.read_bytes()[:8] != path.read_bytes()[:8]:
        with pytest.raises(FeaturesError, match="this is not a part of a features file"):
            read_part(changed)
        return
    found = read_part(changed)
    assert all(is_same(one, other) for one, other in zip(found, blocks, strict=False))


def test_failed_append_leaves_the_other_blocks_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = PartFile(tmp_path)
    part.append(make_block(2, 0))

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", stop)
        with pytest.raises(KeyboardInterrupt):
            part.append(make_block(2, 1))
    assert len(read_part(part.path)) == 1
    part.append(make_block(2, 2))
    assert [each.ids[0] for each in read_part(part.path)] == ["0/0\n李.wav", "2/0\n李.wav"]


def test_other_files_and_inconsistent_blocks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.part").write_text("text that is no part file at all")
    with pytest.raises(FeaturesError, match=r"x\.part: this is not a part of a features file\."):
        read_part(tmp_path / "x.part")
    part = PartFile(tmp_path)
    part.append(replace(make_block(3, 0), ids=("one",)))
    with pytest.raises(FeaturesError, match=r"durations are torch\.float32 of shape \(3,\); expected .*, \(1,\)"):
        read_part(part.path)
