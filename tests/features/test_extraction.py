"""`extract`: what is computed, what is not computed again, and what bad files do."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from audio import read_window
from corpora import Corpus, Utterance, load_corpus
from encoders import Encoder, LazyEncoder, describe_encoder, lazy_encoder, load_encoder
from features import FeaturesError, FeatureSet, OutputError, default_file_name, extract, worker
from features.parts import read_part


class Counting:
    """`spectral`, counting the waveforms that it is given; it can fail at one."""

    def __init__(self, fail_at: int | None = None, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.n_encoded = 0
        self.fail_at = fail_at
        self.error = error
        self.inner = load_encoder("spectral", device="cpu")
        self.spec = self.inner.spec
        self.sample_rate = self.inner.sample_rate
        self.clips_per_call = 32

    def encode(self, waveforms: Sequence[Tensor], batch_size: int | None = None) -> Tensor:
        if self.fail_at is not None and self.n_encoded + len(waveforms) > self.fail_at:
            raise self.error
        self.n_encoded += len(waveforms)
        return self.inner.encode(waveforms, batch_size)


def run(corpus: Corpus, path: Path, encoder: Counting | None = None, **options: object) -> tuple[FeatureSet, int]:
    counting = encoder or Counting()
    features = extract(corpus, counting, path, progress=False, **options)  # type: ignore[arg-type]
    return features, counting.n_encoded


def refuse_to_build() -> Encoder:
    raise AssertionError("the encoder was built")


def test_rows_are_those_of_encoding_each_file_alone(corpus: Corpus, spectral: Encoder, features: FeatureSet) -> None:
    from audio import read_audio

    assert features.ids == corpus.ids
    assert [features.speakers[label] for label in features.labels] == [utterance.speaker for utterance in corpus]
    sessions = [features.session_names[session] for session in features.sessions]
    assert sessions == [utterance.session for utterance in corpus]
    for row in (0, 17, 39):
        waveform = read_audio(corpus.utterances[row].path, 16_000)
        assert torch.equal(features.features[row], spectral.encode([waveform])[0])
        assert features.durations[row] == pytest.approx(len(waveform) / 16_000)


def test_twice_is_bit_identical_with_any_number_of_workers(corpus: Corpus, tmp_path: Path) -> None:
    one, _ = run(corpus, tmp_path / "one.pt", num_workers=1)
    many, _ = run(corpus, tmp_path / "many.pt", num_workers=4)
    assert torch.equal(one.features, many.features)
    assert one.ids == many.ids


def test_a_finished_cache_builds_no_encoder_and_is_not_written_again(
    corpus: Corpus, features_path: Path, features: FeatureSet
) -> None:
    written = features_path.stat().st_mtime_ns
    lazy = LazyEncoder(describe_encoder("spectral"), refuse_to_build)
    again = extract(corpus, lazy, features_path, progress=False)
    assert torch.equal(again.features, features.features)
    assert features_path.stat().st_mtime_ns == written


def test_a_corpus_that_moves_costs_nothing(own_root: Path, features: FeatureSet, tmp_path: Path) -> None:
    run(load_corpus(own_root), tmp_path / "x.pt")
    moved = own_root.rename(tmp_path / "elsewhere")
    again, n_encoded = run(load_corpus(moved), tmp_path / "x.pt")
    assert n_encoded == 0
    assert again.ids == features.ids


def test_a_corpus_seen_from_another_folder_costs_nothing(own_root: Path, tmp_path: Path) -> None:
    run(load_corpus(own_root), tmp_path / "x.pt")
    (tmp_path / "above").mkdir()
    own_root.rename(tmp_path / "above" / "own")
    again, n_encoded = run(load_corpus(tmp_path / "above"), tmp_path / "x.pt")
    assert n_encoded == 0
    assert all(utterance_id.startswith("own/") for utterance_id in again.ids)
    assert FeatureSet.load(tmp_path / "x.pt").ids == again.ids


def test_touched_files_cost_nothing_and_changed_ones_are_redone_alone(
    own_root: Path, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    corpus = load_corpus(own_root)
    before, _ = run(corpus, tmp_path / "x.pt")
    for utterance in corpus:
        os.utime(utterance.path, (1, 1))
    _, n_encoded = run(corpus, tmp_path / "x.pt")
    assert n_encoded == 0
    write_audio(corpus.utterances[5].path, seed=77)
    after, n_encoded = run(corpus, tmp_path / "x.pt")
    assert n_encoded == 1
    changed = (before.features != after.features).any(dim=1).nonzero().flatten().tolist()
    assert changed == [5]


def test_removed_files_drop_out_and_new_ones_come_in(
    own_root: Path, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    before, _ = run(load_corpus(own_root), tmp_path / "x.pt")
    gone = load_corpus(own_root).utterances[0]
    gone.path.unlink()
    write_audio(own_root / "101" / "1010" / "101-1010-0009.flac", seed=5)
    after, n_encoded = run(load_corpus(own_root), tmp_path / "x.pt")
    assert n_encoded == 1
    assert set(before.ids) - set(after.ids) == {gone.id}
    assert set(after.ids) - set(before.ids) == {"101/1010/101-1010-0009.flac"}


@pytest.mark.parametrize("fail_at", [32, 39])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_goes_on_and_ends_the_same(
    fail_at: int, error: type[BaseException], corpus: Corpus, features: FeatureSet, tmp_path: Path
) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(error):
        run(corpus, path, Counting(fail_at, error))
    assert not path.exists()
    resumed, n_encoded = run(corpus, path)
    assert n_encoded == 8  # the first chunk of 32 was kept
    assert torch.equal(resumed.features, features.features)
    assert resumed.ids == features.ids
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def test_segments_of_one_file_are_rows_of_their_own(tmp_path: Path, write_audio: Callable[..., Path]) -> None:
    path = write_audio(tmp_path / "long.wav", seconds=4.0)
    spans = ((0.0, 1.0), (1.0, 1.5), (2.5, None))
    corpus = Corpus(
        tuple(Utterance(path, f"s{start}", "m", start, length, root=tmp_path) for start, length in spans),
        tmp_path,
        "meeting",
    )
    features, _ = run(corpus, tmp_path / "x.pt")
    assert features.ids == ("long.wav#0-1", "long.wav#1-1.5", "long.wav#2.5-")
    assert features.durations.tolist() == [1.0, 1.5, 1.5]
    assert len({tuple(row.tolist()) for row in features.features}) == 3
    assert run(corpus, tmp_path / "x.pt")[1] == 0
    backwards = Corpus(corpus.utterances[::-1], tmp_path, "meeting")
    turned, n_encoded = run(backwards, tmp_path / "x.pt")
    assert n_encoded == 0
    assert torch.equal(turned.features, features.features.flip(0))


def test_bad_files_are_listed_and_lose_nothing(
    own_root: Path, features: FeatureSet, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    chapter = own_root / "101" / "1010"
    (chapter / "101-1010-0090.wav").write_text("this is text")
    (chapter / "101-1010-0091.wav").touch()
    whole = write_audio(tmp_path / "whole.flac").read_bytes()
    (chapter / "101-1010-0092.flac").write_bytes(whole[: len(whole) // 2])
    corpus = load_corpus(own_root)
    got, n_encoded = run(corpus, tmp_path / "x.pt")
    assert n_encoded == 40
    assert got.ids == features.ids
    assert torch.equal(got.features, features.features)
    assert [(failed.rpartition("/")[2], reason.split()[0]) for failed, reason in got.failures] == [
        ("101-1010-0090.wav", "this"),
        ("101-1010-0091.wav", "the"),
        ("101-1010-0092.flac", "the"),
    ]
    assert FeatureSet.load(tmp_path / "x.pt").failures == got.failures
    (chapter / "101-1010-0090.wav").unlink()
    write_audio(chapter / "101-1010-0091.wav", seed=9)  # mended
    mended, n_encoded = run(load_corpus(own_root), tmp_path / "x.pt")
    assert n_encoded == 1
    assert [failed.rpartition("/")[2] for failed, _ in mended.failures] == ["101-1010-0092.flac"]


def test_a_file_that_vanishes_is_a_failure(own_root: Path, tmp_path: Path) -> None:
    corpus = load_corpus(own_root)
    corpus.utterances[3].path.unlink()
    features, _ = run(corpus, tmp_path / "x.pt")
    assert features.failures == ((corpus.ids[3], "no such file"),)
    assert len(features) == 39


def test_nan_from_an_encoder_is_never_stored(corpus: Corpus, tmp_path: Path) -> None:
    from audio import read_audio

    bad = [read_audio(corpus.utterances[row].path, 16_000) for row in (2, 34)]

    class Broken(Counting):
        def encode(self, waveforms: Sequence[Tensor], batch_size: int | None = None) -> Tensor:
            vectors = super().encode(waveforms, batch_size)
            vectors[[any(torch.equal(waveform, each) for each in bad) for waveform in waveforms], 0] = torch.nan
            return vectors

    features, _ = run(corpus, tmp_path / "x.pt", Broken())
    assert [failed for failed, _ in features.failures] == [corpus.ids[2], corpus.ids[34]]
    assert {reason for _, reason in features.failures} == {"the encoder gave NaN or infinity for it"}
    assert features.features.isfinite().all()


def test_a_corpus_without_one_good_file_is_an_error(tmp_path: Path) -> None:
    for speaker in ("ann", "bob"):
        (tmp_path / "c" / speaker).mkdir(parents=True)
        (tmp_path / "c" / speaker / "x.wav").write_text("text")
    with pytest.raises(FeaturesError, match=r"None of the 2 utterances.*ann/x.wav.*not audio"):
        run(load_corpus(tmp_path / "c"), tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()


def test_features_of_other_settings_are_refused_by_name(corpus: Corpus, features_path: Path) -> None:
    other = lazy_encoder("spectral", n_mfcc=30)
    with pytest.raises(FeaturesError, match=r"n_mfcc is 40 there, 30 here.*--features_path"):
        extract(corpus, other, features_path, progress=False)
    assert [path.name for path in features_path.parent.iterdir()] == [
        features_path.name
    ]  # a refused run leaves nothing
    with pytest.raises(FeaturesError, match=r"max_duration is 10.0 there, 5.0 here"):
        extract(corpus, lazy_encoder("spectral"), features_path, max_duration=5.0, progress=False)


def test_features_of_unknown_origin_are_not_continued(corpus: Corpus, tmp_path: Path) -> None:
    torch.save({"features": torch.randn(4, 100), "labels": torch.arange(4)}, tmp_path / "plain.pt")
    with pytest.raises(FeaturesError, match="unknown"):
        run(corpus, tmp_path / "plain.pt")


def test_a_part_of_a_corpus_and_another_corpus_lose_no_row(
    own_root: Path, features: FeatureSet, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    path = tmp_path / "x.pt"
    run(load_corpus(own_root), path)
    part, n_encoded = run(load_corpus(own_root / "102"), path)
    assert (len(part), n_encoded) == (10, 0)
    for speaker in ("ann", "bob"):
        write_audio(tmp_path / "other" / speaker / "1.wav", seed=ord(speaker[0]))
    other, n_encoded = run(load_corpus(tmp_path / "other"), path)
    assert (len(other), n_encoded) == (2, 2)
    assert FeatureSet.load(path).ids == ("ann/1.wav", "bob/1.wav")
    whole, n_encoded = run(load_corpus(own_root), path)
    assert n_encoded == 0
    assert torch.equal(whole.features, features.features)
    assert run(load_corpus(tmp_path / "other"), path)[1] == 0


def test_another_corpus_keeps_the_rows_of_an_interrupted_run(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(KeyboardInterrupt):
        run(corpus, path, Counting(fail_at=32))
    for speaker in ("ann", "bob"):
        write_audio(tmp_path / "other" / speaker / "1.wav", seed=ord(speaker[0]))
    run(load_corpus(tmp_path / "other"), path)
    resumed, n_encoded = run(corpus, path)
    assert n_encoded == 8
    assert torch.equal(resumed.features, features.features)


def test_a_damaged_part_costs_its_rows_alone(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.pt"
    (tmp_path / "x.pt.parts").mkdir()
    (tmp_path / "x.pt.parts" / "1.part").write_text("text")
    whole, n_encoded = run(corpus, path)
    assert n_encoded == 40
    assert torch.equal(whole.features, features.features)
    assert "A part is passed over" in caplog.text


def test_parts_of_other_settings_stay_for_these(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(KeyboardInterrupt):
        run(corpus, path, Counting(fail_at=32))
    extract(corpus, lazy_encoder("spectral", n_mfcc=30), path, progress=False)
    path.unlink()
    assert run(corpus, path)[1] == 8


def test_rows_that_are_set_aside_are_not_written_again(own_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    run(load_corpus(own_root), path)
    run(load_corpus(own_root / "102"), path)
    (part,) = (tmp_path / "x.pt.parts").iterdir()
    assert sum(map(len, read_part(part))) == 30
    run(load_corpus(own_root / "102"), path)
    assert list((tmp_path / "x.pt.parts").iterdir()) == [part]
    run(load_corpus(own_root), path)
    assert not (tmp_path / "x.pt.parts").exists()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_that_dies_while_it_saves_loses_no_row(
    moment: str, corpus: Corpus, own_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(KeyboardInterrupt):
        run(corpus, path, Counting(fail_at=32))
    replace_file, unlink = os.replace, Path.unlink

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "before":
            patch.setattr(
                os, "replace", lambda source, target: die() if target == path else replace_file(source, target)
            )
        else:
            patch.setattr(
                Path, "unlink", lambda self, **options: die() if ".parts" in str(self) and self.suffix == ".part"
                else unlink(self, **options)
            )  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            run(load_corpus(own_root / "102"), path)
    assert run(corpus, path)[1] <= 8


def test_a_corrected_speaker_is_written_without_encoding(own_root: Path, tmp_path: Path) -> None:
    corpus = load_corpus(own_root)
    run(corpus, tmp_path / "x.pt")
    renamed = tuple(replace(utterance, speaker=f"new {utterance.speaker}") for utterance in corpus)
    _, n_encoded = run(Corpus(renamed, corpus.root, corpus.name), tmp_path / "x.pt")
    assert n_encoded == 0
    loaded = FeatureSet.load(tmp_path / "x.pt")
    assert loaded.speakers == ("new 101", "new 102", "new 103", "new 104")
    swapped = tuple(
        replace(
            utterance, speaker={"new 101": "new 102", "new 102": "new 101"}.get(utterance.speaker, utterance.speaker)
        )
        for utterance in renamed
    )
    run(Corpus(swapped, corpus.root, corpus.name), tmp_path / "x.pt")
    assert not torch.equal(FeatureSet.load(tmp_path / "x.pt").labels, loaded.labels)


def test_the_crop_is_what_is_read(corpus: Corpus, tmp_path: Path) -> None:
    features, _ = run(corpus, tmp_path / "x.pt", max_duration=0.5)
    assert features.durations.max() == 0.5
    whole, _ = run(corpus, tmp_path / "y.pt", max_duration=None)
    assert whole.durations.max() == pytest.approx(0.8)


@pytest.mark.parametrize("rate", [16_000, 32_000, 44_100])
def test_an_encoder_with_windows_averages_over_whole_files(
    rate: int, clap_weights: Path, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    from audio import read_audio

    root = tmp_path / "data"
    write_audio(root / "ann" / "short.wav", seconds=0.4, rate=rate)
    write_audio(root / "ann" / "long.wav", seconds=12.6, rate=rate, seed=1)
    write_audio(root / "bob" / "middle.flac", seconds=1.0, rate=rate, seed=2)
    (root / "bob" / "text.wav").write_text("text" * 50)
    encoder = load_encoder("audiosep", clap_weights, device="cpu", window=1.0, hop=0.75)
    rows = extract(load_corpus(root), encoder, tmp_path / "x.pt", max_duration=None, progress=False)
    assert rows.ids == ("ann/long.wav", "ann/short.wav", "bob/middle.flac")
    assert rows.durations.tolist() == pytest.approx([12.6, 0.4, 1.0])
    assert [failed for failed, _ in rows.failures] == ["bob/text.wav"]
    waveforms = [read_audio(root / row, 32_000) for row in rows.ids]
    torch.testing.assert_close(rows.features, encoder.encode(waveforms), rtol=1e-4, atol=1e-5)
    again = extract(load_corpus(root), LazyEncoder(encoder.spec, refuse_to_build), tmp_path / "x.pt", None)
    assert torch.equal(again.features, rows.features)
    cropped = extract(load_corpus(root), encoder, tmp_path / "y.pt", max_duration=2.0, progress=False)
    beginnings = [read_audio(root / row, 32_000, max_duration=2.0) for row in rows.ids]
    torch.testing.assert_close(cropped.features, encoder.encode(beginnings), rtol=1e-4, atol=1e-5)


def test_a_file_that_changes_between_its_windows_is_read_again(
    clap_weights: Path, tmp_path: Path, write_audio: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann/1.wav", "bob/1.wav"):
        changing = write_audio(tmp_path / "data" / name, seconds=3.0, rate=32_000)
    read, n_read = read_window, []

    def read_and_touch(path: Path, *arguments: object) -> Tensor:
        waveform = read(path, *arguments)  # type: ignore[arg-type]
        n_read.extend([path] * (path == changing))
        if len(n_read) == 1 and path == changing:
            monkeypatch.setattr(worker, "file_state", changed)
        return waveform

    state = worker.file_state

    def changed(path: Path) -> worker.FileState:
        found = state(path)
        return replace(found, digest=bytes(32)) if path == changing else found

    monkeypatch.setattr(worker, "read_window", read_and_touch)
    encoder = load_encoder("audiosep", clap_weights, device="cpu", window=1.0, hop=1.0)
    rows = extract(
        load_corpus(tmp_path / "data"), encoder, tmp_path / "x.pt", max_duration=None, num_workers=0, progress=False
    )
    assert rows.failures == (("bob/1.wav", "it was written to while it was read; it will be read again"),)


@pytest.mark.parametrize("rate", [16_000, 32_000, 44_100])
def test_silent_windows_of_a_file_are_passed_over(rate: int, clap_weights: Path, tmp_path: Path) -> None:
    from audio import read_audio

    sound = 0.3 * torch.randn(rate, generator=torch.Generator().manual_seed(0)).numpy()
    silence = 0 * sound
    for speaker, parts in (
        ("ann", [sound, silence, silence]), ("bob", [sound]), ("cat", 3 * [silence]), ("dan", [silence, sound]),
    ):  # fmt: skip
        (tmp_path / "data" / speaker).mkdir(parents=True)
        soundfile.write(tmp_path / "data" / speaker / "1.wav", np.concatenate(parts), rate)
    encoder = load_encoder("audiosep", clap_weights, device="cpu", window=1.0, hop=1.0)
    rows = extract(load_corpus(tmp_path / "data"), encoder, tmp_path / "x.pt", max_duration=None, progress=False)
    waveforms = [read_audio(tmp_path / "data" / row, 32_000) for row in rows.ids]
    torch.testing.assert_close(rows.features, encoder.encode(waveforms), rtol=1e-4, atol=1e-5)
    if rate == 32_000:  # resampled, what was silent rings a little beside the sound
        torch.testing.assert_close(rows.features[0], rows.features[1])
    assert [failed for failed, _ in rows.failures] == ["cat/1.wav"]
    assert rows.durations.tolist() == [3.0, 1.0, 2.0]
    again = extract(load_corpus(tmp_path / "data"), encoder, tmp_path / "x.pt", max_duration=None, progress=False)
    assert torch.equal(again.features, rows.features)


def test_a_long_file_is_cut_off_in_its_last_window(
    clap_weights: Path, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    for name in ("ann/1.wav", "bob/1.wav"):
        path = write_audio(tmp_path / "data" / name, seconds=3.0, rate=32_000)
    path.write_bytes(path.read_bytes()[:-30_000])
    encoder = load_encoder("audiosep", clap_weights, device="cpu", window=1.0, hop=1.0)
    rows = extract(load_corpus(tmp_path / "data"), encoder, tmp_path / "x.pt", max_duration=None, progress=False)
    assert rows.ids == ("ann/1.wav",)
    assert "cut off" in rows.failures[0][1]


def test_an_encoder_is_given_no_more_than_it_hears(
    clap_weights: Path, tmp_path: Path, write_audio: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("ann/1.wav", "bob/1.wav"):
        write_audio(tmp_path / "data" / name, seconds=11.0, rate=32_000)
    encoder = load_encoder("audiosep", clap_weights, device="cpu")
    whole = extract(load_corpus(tmp_path / "data"), encoder, tmp_path / "x.pt", max_duration=None, progress=False)
    assert whole.durations.tolist() == [10.0, 10.0]
    assert "hears the first 10 s" in caplog.text
    caplog.clear()
    extract(load_corpus(tmp_path / "data"), encoder, tmp_path / "y.pt", progress=False)
    assert "hears" not in caplog.text


def test_features_are_stored_in_half_precision_if_asked(corpus: Corpus, features: FeatureSet, tmp_path: Path) -> None:
    half, _ = run(corpus, tmp_path / "x.pt", store_dtype="fp16")
    assert half.features.dtype == torch.float16
    assert torch.equal(half.features, features.features.half())
    again, n_encoded = run(corpus, tmp_path / "x.pt", store_dtype="fp16")
    assert n_encoded == 0
    assert torch.equal(again.features, half.features)
    with pytest.raises(FeaturesError, match=r"store_dtype is torch\.float16 there, torch\.float32 here"):
        run(corpus, tmp_path / "x.pt")

    class Loud(Counting):
        def encode(self, waveforms: Sequence[Tensor], batch_size: int | None = None) -> Tensor:
            return (
                super().encode(waveforms, batch_size)
                + 7e4 * torch.tensor([len(w) > 12_000 for w in waveforms])[:, None]
            )

    loud, _ = run(corpus, tmp_path / "loud.pt", Loud(), store_dtype="fp16")
    assert len(loud.failures) == 8
    assert loud.features.isfinite().all()
    assert "too large for fp16" in loud.failures[0][1]
    with pytest.raises(FeaturesError, match=r"fp8.*fp32, fp16"):
        run(corpus, tmp_path / "y.pt", store_dtype="fp8")


def test_another_precision_is_warned_of_and_taken(
    corpus: Corpus, clap_weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = Corpus(corpus.utterances[:2], corpus.root, corpus.name)
    extract(few, load_encoder("audiosep", clap_weights, device="cpu"), tmp_path / "x.pt", progress=False)
    assert "were computed in" not in caplog.text
    other = lazy_encoder("audiosep", clap_weights, device="cpu", precision="bf16")
    extract(few, LazyEncoder(other.spec, refuse_to_build), tmp_path / "x.pt", progress=False)
    assert "were computed in fp32, now it is bf16" in caplog.text
    more = Corpus(corpus.utterances[:3], corpus.root, corpus.name)
    mixed = extract(more, other, tmp_path / "x.pt", progress=False)
    assert mixed.encoder["precision"] == "bf16+fp32"
    assert torch.equal(mixed.features[:2], FeatureSet.load(tmp_path / "x.pt").features[:2])
    again = extract(few, LazyEncoder(other.spec, refuse_to_build), tmp_path / "x.pt", progress=False)
    assert again.encoder["precision"] == "bf16+fp32"


def test_a_place_that_cannot_be_written_is_told_before_anything_is_encoded(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    counting = Counting()
    with pytest.raises(OutputError, match="nothing can be written into this folder"):
        run(corpus, tmp_path / "file" / "x.pt", counting)
    assert counting.n_encoded == 0


def test_only_other_settings_change_the_default_name() -> None:
    spec = describe_encoder("spectral")
    assert default_file_name("librispeech", spec, 10.0, spec, 10.0) == "librispeech_features_spectral.pt"
    other = describe_encoder("spectral", n_mfcc=30)
    names = {
        default_file_name("librispeech", settings, crop, spec, 10.0)
        for settings, crop in ((spec, 10.0), (other, 10.0), (spec, 5.0), (spec, None), (other, 5.0))
    }
    assert len(names) == 5
    assert all(name.startswith("librispeech_features_spectral") and len(name) in (32, 41) for name in names)
