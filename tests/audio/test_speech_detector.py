"""`SpeechDetector`: equal to silero-vad, whole or in blocks, on waveforms and on files."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from audio import AudioError, Speech, SpeechDetector, SpeechError, SpeechSettings, read_audio, read_speech
from audio import speech_detector as module
from files import InputError, observe_progress

RATE = 16_000
# Largest difference of a probability from that of the published file, which computes each chunk alone: rounding in fp32
# gives up to 1e-5, an error in the computation 1e-2 and more.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def detector(speech_weights: Path) -> SpeechDetector:
    return SpeechDetector(SpeechSettings(threshold=0.5))


@pytest.fixture(scope="module")
def conversation(make_conversation: Callable[..., np.ndarray]) -> Tensor:
    return torch.from_numpy(make_conversation(6)).float()


SILERO = """
import json, sys
import numpy as np, torch
from silero_vad import get_speech_timestamps, load_silero_vad
samples = torch.from_numpy(np.load(sys.argv[1]))
model = load_silero_vad()
found = {}
for threshold in (0.1, 0.3, 0.5, 0.8):
    found[threshold] = get_speech_timestamps(samples, model, threshold=threshold)
model.reset_states()
chunks = torch.nn.functional.pad(samples, (0, -len(samples) % 512)).split(512)
with torch.no_grad():
    probabilities = [float(model(chunk, 16_000)) for chunk in chunks]
print(json.dumps([found, probabilities]))
"""


def test_probabilities_and_segments_are_those_of_silero_vad(
    detector: SpeechDetector, conversation: Tensor, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason="the package silero-vad imports onnxruntime")
    samples = conversation[:-100]  # the last chunk is not complete
    np.save(tmp_path / "samples.npy", samples.numpy())
    # In a process of its own: importing silero_vad sets the number of threads of PyTorch to one.
    command = [sys.executable, "-c", SILERO, str(tmp_path / "samples.npy")]
    found, probabilities = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    ours = detector.probabilities(samples)
    assert (ours - torch.tensor(probabilities)).abs().max() < TOLERANCE
    assert ours.max() > 0.9
    for threshold, segments in found.items():
        mask = torch.zeros(len(samples), dtype=torch.bool)
        for segment in segments:
            mask[segment["start"] : segment["end"]] = True
        ours = torch.zeros_like(mask)
        for begin, end in SpeechDetector(SpeechSettings(threshold=float(threshold))).find(samples):
            ours[round(begin * RATE) : round(end * RATE)] = True
        assert 0 < mask.sum() < len(mask)
        # Where two padded segments meet, silero-vad may leave one sample between them.
        assert (mask != ours).sum() <= len(segments)


def test_speech_between_pauses_is_found(detector: SpeechDetector, conversation: Tensor) -> None:
    segments = detector.find(conversation)
    total = sum(end - begin for begin, end in segments)
    assert 4 < total < 9  # six voices of 1.2 s
    assert all(b - a > 0.25 for a, b in segments)


def test_blocks_and_one_pass_give_the_same_segments(
    detector: SpeechDetector, conversation: Tensor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", conversation.numpy(), RATE, subtype="FLOAT")
    whole = detector.probabilities(conversation)
    from_file = detector.find_in_file(tmp_path / "a.wav")
    for n_chunks in (256, 64):
        monkeypatch.setattr(module, "BLOCK", n_chunks * module.CHUNK)
        monkeypatch.setattr(module, "READ_BLOCK", 2 * n_chunks * module.CHUNK)
        assert (detector.probabilities(conversation) - whole).abs().max() < TOLERANCE
        assert detector.find_in_file(tmp_path / "a.wav") == from_file == detector.find(conversation)


def test_progress_in_a_file_is_reported_to_an_observer(
    detector: SpeechDetector, conversation: Tensor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "BLOCK", module.CHUNK * 32)
    n_blocks = -(-len(conversation) // module.BLOCK)
    soundfile.write(tmp_path / "a.wav", conversation.numpy(), RATE)
    reports: list[tuple[str, int, int | None]] = []
    with observe_progress(lambda *report: reports.append(report)):
        detector.find_in_file(tmp_path / "a.wav")
    assert reports[0] == ("Finding speech", 0, n_blocks)
    assert reports[-1] == ("Finding speech", n_blocks, n_blocks)


def test_number_of_threads_does_not_change_the_result(detector: SpeechDetector, conversation: Tensor) -> None:
    expected, threads = detector.probabilities(conversation), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(detector.probabilities(conversation), expected)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_batch_is_as_each_waveform_alone(speech_weights: Path, conversation: Tensor) -> None:
    network = module._load(speech_weights)
    waves = [conversation[: 64 + 512 * 40], conversation[9_000 : 9_000 + 64 + 512 * 25]]
    padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    with torch.inference_mode():
        together, _ = network(padded)
        for row, wave in zip(together, waves, strict=True):
            alone, _ = network(wave[None])
            assert (row[: alone.shape[1]] - alone[0]).abs().max() < TOLERANCE


def test_span_of_a_file_has_times_from_its_start(
    detector: SpeechDetector, conversation: Tensor, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", conversation.numpy(), RATE)
    found = detector.find_in_file(tmp_path / "a.wav", 2.0, 3.0)
    assert found
    assert found == detector.find(read_audio(tmp_path / "a.wav", RATE, 2.0, duration=3.0))
    assert found[0][0] >= 0
    assert found[-1][1] <= 3.0


def test_other_rates_and_channels_are_read(detector: SpeechDetector, conversation: Tensor, tmp_path: Path) -> None:
    both = np.stack([np.repeat(conversation.numpy(), 2), np.zeros(2 * len(conversation))], axis=1)
    both[::7, 1] = 1e-4
    soundfile.write(tmp_path / "a.wav", both, 2 * RATE)
    assert detector.find_in_file(tmp_path / "a.wav", channel=0)
    assert detector.find_in_file(tmp_path / "a.wav", channel=1) == []


def test_noise_and_a_tone_are_no_speech(
    detector: SpeechDetector, tmp_path: Path, tone: Callable[..., np.ndarray]
) -> None:
    noise = torch.randn(3 * RATE, generator=torch.Generator().manual_seed(0))
    for level in (0.5, 0.01, 1e-5):
        assert detector.find(level * noise) == []
    assert detector.find(torch.from_numpy(tone(440.0, RATE, 3.0)).float()) == []
    assert detector.find(torch.zeros(0)) == []
    soundfile.write(tmp_path / "noise.wav", 0.01 * noise.numpy(), RATE)
    with pytest.raises(
        AudioError, match=r"noise\.wav: no speech: the highest probability of speech is 0\.\d\d, "
    ) as no:
        detector.require_speech(tmp_path / "noise.wav")
    assert no.value.fault == "no_speech"


def test_speech_shorter_than_the_minimum_is_named(speech_weights: Path, conversation: Tensor, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", conversation.numpy(), RATE)
    with pytest.raises(AudioError, match=r"none lasts longer than 60 s \(--vad_min_speech\)"):
        SpeechDetector(SpeechSettings(min_speech=60.0)).require_speech(tmp_path / "a.wav")


def test_silent_blocks_are_no_fault_unless_all_are_silent(
    detector: SpeechDetector, conversation: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 32 * module.CHUNK)
    monkeypatch.setattr(module, "READ_BLOCK", 32 * module.CHUNK)
    silence = torch.zeros(5 * RATE)
    soundfile.write(tmp_path / "a.wav", torch.cat([silence, conversation]).numpy(), RATE)
    soundfile.write(tmp_path / "silent.wav", silence.numpy(), RATE)
    assert detector.find_in_file(tmp_path / "a.wav")[0][0] > 5
    with pytest.raises(AudioError, match="all samples") as fault:
        detector.find_in_file(tmp_path / "silent.wav")
    assert fault.value.fault == "silent"


def test_speech_is_read_without_the_pauses(conversation: Tensor, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", conversation.numpy(), RATE, subtype="FLOAT")
    speech = Speech(((0.25, 0.5), (1.0, 1.75), (5.0, 7.0)), len(conversation) / RATE)
    expected = torch.cat([conversation[4_000:8_000], conversation[16_000:28_000], conversation[80_000:112_000]])
    assert torch.equal(read_speech(tmp_path / "a.wav", RATE, speech).waveform, expected)
    assert speech.n_samples(RATE) == len(expected)
    for first, count in ((0, 10), (3_990, 20), (3_000, 20_000), (47_000, 5_000)):
        window = read_speech(tmp_path / "a.wav", RATE, speech, first=first, count=count).waveform
        assert torch.equal(window, expected[first : first + count])
    later = read_speech(tmp_path / "a.wav", RATE, Speech(((0.0, 0.25),), 3.0), start=1.0).waveform
    assert torch.equal(later, conversation[16_000:20_000])


def test_absent_or_changed_weights_are_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpeechError, match=r"silero_vad\.jit, are not on this machine"):
        SpeechDetector(download=False)
    (tmp_path / "pretrained_models").mkdir()
    (tmp_path / "pretrained_models" / "silero_vad.jit").write_bytes(b"code")
    with pytest.raises(InputError, match=r"silero_vad\.jit: its SHA-256 is .*Delete it to download it again"):
        SpeechDetector()
