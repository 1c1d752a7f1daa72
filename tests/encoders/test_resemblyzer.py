"""`resemblyzer`: parity with the package, speech detection, exact batches, and checkpoints that are refused."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

from audio import read_audio, remove_long_silences
from corpora import Utterance, load_corpus
from embedding import embed_utterances
from encoders import Encoder, EncoderError, lazy_encoder, load_encoder, spec_digest
from encoders.resemblyzer import DEFAULT_WEIGHTS
from features import extract
from files import InputError, file_digest
from networks import PartialMels

RATE = 16_000
SAMPLE = Path(__file__).parents[2] / "sample"
DEV_CLEAN = Path(__file__).parents[3] / "shared/data/LibriSpeech/dev-clean"


@pytest.fixture(scope="module")
def resemblyzer(resemblyzer_weights: Path) -> Encoder:
    return load_encoder("resemblyzer", resemblyzer_weights, device="cpu")


@pytest.fixture(scope="module")
def recordings() -> list[Tensor]:
    """Return recordings of 0.03 to 12 s, with silences of 1 s and at several levels."""
    voices = [read_audio(path, RATE) for path in sorted(SAMPLE.glob("held_out/*.flac"))[:4]]
    silence = 1e-4 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    long = torch.cat([part for voice in voices for part in (voice, silence)] * 2)
    # Samples at which the last partial is just covered by 75 %, and just not.
    edges = [RATE * 12 // 10 + 77 * 160, RATE * 12 // 10 + 77 * 160 - 1]
    return [
        *voices,
        long[: 12 * RATE],
        *(long[:length] for length in (500, 8_000, RATE * 16 // 10, *edges)),
        0.01 * long[: 5 * RATE],
        (3 * long[: 5 * RATE]).clamp(-1, 1),
    ]


def embed_with_package(waveforms: list[Tensor], *, trims: bool) -> Tensor:
    """Embed waveforms one at a time with the package, without its speech detection unless `trims`."""
    from resemblyzer import VoiceEncoder, normalize_volume, preprocess_wav

    def prepare(wave: Any) -> Any:
        return preprocess_wav(wave) if trims else normalize_volume(wave, -30, increase_only=True)

    network = VoiceEncoder("cpu", verbose=False)
    return torch.stack([torch.from_numpy(network.embed_utterance(prepare(wave.numpy()))) for wave in waveforms])


def angle(found: Tensor, expected: Tensor) -> float:
    """Return the largest value of 1 - cosine."""
    return float((1 - torch.cosine_similarity(found.double(), expected.double())).max())


def test_vectors_are_those_of_the_package(resemblyzer: Encoder, recordings: list[Tensor]) -> None:
    expected = embed_with_package(recordings, trims=False)
    found = resemblyzer.encode(recordings)
    assert angle(found, expected) <= 1e-9
    assert torch.allclose(found, expected, atol=1e-5)  # the scale is the same too
    # The tolerance is far below the distance between recordings of one speaker.
    assert angle(found[:1], found[1:2]) > 1e-3


@pytest.mark.skipif(not DEV_CLEAN.exists(), reason="needs recordings of LibriSpeech in ../shared/data")
def test_vectors_of_100_recordings_are_those_of_the_package(resemblyzer: Encoder) -> None:
    voices = [read_audio(path, RATE, max_duration=4.0) for path in sorted(DEV_CLEAN.rglob("*.flac"))[::4][:100]]
    assert len(voices) == 100
    assert angle(resemblyzer.encode(voices), embed_with_package(voices, trims=False)) <= 1e-9


def test_vectors_with_speech_detection_are_those_of_the_package(
    resemblyzer_weights: Path, recordings: list[Tensor], resemblyzer: Encoder
) -> None:
    encoder = load_encoder("resemblyzer", resemblyzer_weights, device="cpu", vad="webrtc")
    with_speech = [wave for wave in recordings if len(remove_long_silences(wave)) > RATE]
    assert len(with_speech) > 4
    found = encoder.encode(with_speech)
    assert angle(found, embed_with_package(with_speech, trims=True)) <= 1e-9
    assert angle(found, resemblyzer.encode(with_speech)) > 1e-3
    assert spec_digest(encoder.spec) != spec_digest(resemblyzer.spec)


def test_long_silences_are_removed(recordings: list[Tensor]) -> None:
    voice, quiet = recordings[0], torch.zeros(2 * RATE)
    found = remove_long_silences(torch.cat([quiet, voice, quiet]))
    assert 0.3 * len(voice) < len(found) < len(voice) + RATE
    assert len(found) % 480 == 0
    assert len(remove_long_silences(quiet)) == len(remove_long_silences(torch.zeros(479))) == 0


def test_recording_without_speech_is_embedded_whole(
    resemblyzer_weights: Path, resemblyzer: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = load_encoder("resemblyzer", resemblyzer_weights, device="cpu", vad="webrtc")
    hum = 0.1 * torch.sin(torch.arange(2 * RATE) / 20)
    assert torch.equal(encoder.encode([hum, hum]), resemblyzer.encode([hum, hum]))
    [record] = caplog.records
    assert record.getMessage() == "The speech detection found no speech in a recording, which is embedded whole."


def test_absent_speech_detection_says_what_to_install(
    resemblyzer_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "webrtcvad", None)
    expected = r"webrtcvad-wheels is not installed; .* resemblyzer\. Run: pip install webrtcvad-wheels==\S+$"
    with pytest.raises(InputError, match=expected):
        lazy_encoder("resemblyzer", resemblyzer_weights, vad="webrtc")
    lazy_encoder("resemblyzer", resemblyzer_weights)
    with pytest.raises(EncoderError, match=r"has vad='silero'; expected webrtc or none\."):
        lazy_encoder("resemblyzer", resemblyzer_weights, vad="silero")


def test_batches_and_repeats_give_the_same_vectors(resemblyzer: Encoder, recordings: list[Tensor]) -> None:
    together = resemblyzer.encode(recordings)
    alone = torch.cat([resemblyzer.encode([wave]) for wave in recordings])
    assert torch.equal(resemblyzer.encode(recordings), together)
    # Equal in every bit where the kernels of the CPU round products of few and of many rows in the same way.
    assert torch.allclose(together, alone, rtol=0, atol=1e-6)
    assert torch.allclose(resemblyzer.encode(recordings[::-1], batch_size=3).flip(0), alone, rtol=0, atol=1e-6)


def test_number_of_threads_does_not_change_vectors(resemblyzer: Encoder, recordings: list[Tensor]) -> None:
    n_threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(resemblyzer.encode(recordings))
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(n_threads)
    assert all(torch.allclose(vectors, found[0], rtol=0, atol=1e-6) for vectors in found)


def test_interrupted_extraction_gives_the_same_rows(resemblyzer: Encoder, tmp_path: Path) -> None:
    corpus = load_corpus(SAMPLE / "LibriSpeech")
    few = type(corpus)(corpus.utterances[:6], corpus.root, corpus.name)
    whole = extract(few, resemblyzer, tmp_path / "whole.pt", batch_size=1, progress=False)
    extract(type(few)(few.utterances[:2], few.root, few.name), resemblyzer, tmp_path / "x.pt", batch_size=1)
    resumed = extract(few, resemblyzer, tmp_path / "x.pt", batch_size=1, num_workers=2, progress=False)
    assert resumed.ids == whole.ids
    assert torch.equal(resumed.features, whole.features)


def test_mels_are_those_of_librosa(recordings: list[Tensor]) -> None:
    from resemblyzer.audio import wav_to_mel_spectrogram

    wave = recordings[0]
    partials = PartialMels()(wave)
    padded = torch.cat([wave, torch.zeros(4 * RATE)])
    expected = torch.from_numpy(wav_to_mel_spectrogram(padded.numpy()))
    for number, partial in enumerate(partials):
        assert torch.allclose(partial, expected[77 * number :][:160], atol=1e-5 * float(expected.max()))


def test_bf16_is_close(resemblyzer_weights: Path, resemblyzer: Encoder, recordings: list[Tensor]) -> None:
    encoder = load_encoder("resemblyzer", resemblyzer_weights, device="cpu", precision="bf16")
    assert 0 < angle(encoder.encode(recordings), resemblyzer.encode(recordings)) < 0.01


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.ones(399), "Waveform 0 has 399 samples; the encoder 'resemblyzer' needs at least 400"),
        (torch.zeros(RATE), "Waveform 0 is digital silence"),
    ],
)
def test_unusable_waveforms_are_refused(waveform: Tensor, message: str, resemblyzer: Encoder) -> None:
    with pytest.raises(EncoderError, match=message):
        resemblyzer.encode([waveform])


def test_too_short_recording_costs_no_others(resemblyzer: Encoder, tmp_path: Path) -> None:
    for name, length in (("short", 300), ("long", 20_000)):
        soundfile.write(tmp_path / f"{name}.wav", torch.sin(torch.arange(length) / 10).numpy(), RATE)
    short, long = embed_utterances(
        [Utterance(tmp_path / f"{name}.wav", "a", "") for name in ("short", "long")], resemblyzer
    )
    assert long.vector is not None
    assert (short.fault, short.error) == ("too_short", "the audio is 0.019 s long; this encoder needs 0.025 s")


def test_weights_of_the_package_are_the_published_ones(resemblyzer_weights: Path, tmp_path: Path) -> None:
    status = resemblyzer_weights.stat()
    assert file_digest(resemblyzer_weights, status.st_size, status.st_mtime_ns).hex() == DEFAULT_WEIGHTS.sha256
    assert status.st_size == DEFAULT_WEIGHTS.n_bytes
    spec = lazy_encoder("resemblyzer", resemblyzer_weights).spec
    assert spec["trained_on"] == ["librispeech", "voxceleb1", "voxceleb2"]
    content = torch.load(resemblyzer_weights, map_location="cpu", weights_only=True)
    content["model_state"]["linear.bias"] += 1
    torch.save(content, tmp_path / "own.pt")
    assert lazy_encoder("resemblyzer", tmp_path / "own.pt").spec["trained_on"] == "unknown"


def test_default_weights_are_found_under_a_name_of_their_own(
    resemblyzer_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrained_models").mkdir()
    (tmp_path / "pretrained_models" / "resemblyzer_pretrained.pt").write_bytes(resemblyzer_weights.read_bytes())
    assert lazy_encoder("resemblyzer").spec == lazy_encoder("resemblyzer", resemblyzer_weights).spec


def remove_layer(content: dict[str, Any]) -> None:
    del content["model_state"]["lstm.weight_hh_l2"]


def use_other_size(content: dict[str, Any]) -> None:
    content["model_state"]["linear.weight"] = torch.zeros(128, 256)


BROKEN: dict[str, tuple[Callable[[Any], object], str]] = {
    "no model": (lambda content: content.pop("model_state"), r"has no model_state, .*It holds: step, optimizer_state"),
    "a layer is missing": (remove_layer, r"not a checkpoint of Resemblyzer.*: it lacks lstm\.weight_hh_l2\.$"),
    "another size": (use_other_size, r"the shape of linear\.weight is \(128, 256\); expected \(256, 256\)\.$"),
    "NaN": (
        lambda content: content["model_state"]["linear.bias"].fill_(torch.nan),
        "linear.bias is not a tensor of finite numbers",
    ),
    "text": (lambda content: content["model_state"].update({"linear.bias": "text"}), "linear.bias is not a tensor"),
    "code": (lambda content: content.update(x=logging.getLogger), "not a checkpoint of Resemblyzer"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_checkpoints_are_refused(
    change: Callable[[dict[str, Any]], object], message: str, resemblyzer_weights: Path, tmp_path: Path
) -> None:
    content = torch.load(resemblyzer_weights, map_location="cpu", weights_only=True)
    content["optimizer_state"] = {}
    change(content)
    torch.save(content, tmp_path / "broken.pt")
    with pytest.raises(EncoderError, match=message):
        lazy_encoder("resemblyzer", tmp_path / "broken.pt", "cpu")


def test_replaced_file_is_noticed(resemblyzer_weights: Path, recordings: list[Tensor], tmp_path: Path) -> None:
    path = tmp_path / "own.pt"
    path.write_bytes(resemblyzer_weights.read_bytes())
    lazy = lazy_encoder("resemblyzer", path, "cpu")
    content = torch.load(path, map_location="cpu", weights_only=True)
    content["model_state"]["linear.bias"] += 1
    torch.save(content, path)
    with pytest.raises(EncoderError, match="have changed since they were last read"):
        lazy.encode(recordings[:1])


def test_cut_off_file_and_missing_file_are_refused(resemblyzer_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.pt").write_bytes(resemblyzer_weights.read_bytes()[:10_000])
    with pytest.raises(EncoderError, match=r"cut\.pt: this is not a checkpoint .* or it is cut off"):
        lazy_encoder("resemblyzer", tmp_path / "cut.pt", "cpu")
    with pytest.raises(EncoderError, match=r"absent\.pt: no such file"):
        lazy_encoder("resemblyzer", tmp_path / "absent.pt", "cpu")
