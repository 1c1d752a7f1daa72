"""`campplus`: parity with 3D-Speaker, long, short and silent recordings, and checkpoints that are refused."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

from corpora import Utterance
from embedding import embed_utterances
from encoders import Encoder, EncoderError, lazy_encoder, load_encoder, without_length_warning
from networks import CAMPlusPlus

RATE = 16_000
MakeState = Callable[..., dict[str, Tensor]]


@pytest.fixture(scope="module")
def campplus(campplus_weights: Path) -> Encoder:
    return load_encoder("campplus", campplus_weights, device="cpu")


def noises(seconds: list[float]) -> list[Tensor]:
    """Make noises with slowly varying spectra, one for each length."""
    generator = torch.Generator().manual_seed(0)
    waves = []
    for length in seconds:
        noise = torch.randn(round(length * RATE), generator=generator)
        envelope = torch.sin(torch.arange(len(noise)) / 1_000 * (1 + length)) + 1.1
        waves.append(0.05 * envelope * noise)
    return waves


@torch.inference_mode()
def embed_with_speakerlab(state: dict[str, Tensor], waveforms: list[Tensor]) -> Tensor:
    """Embed waveforms one at a time with the code of 3D-Speaker."""
    from speakerlab.models.campplus.DTDNN import CAMPPlus
    from torchaudio.compliance.kaldi import fbank

    network = CAMPPlus(embedding_size=len(state["xvector.dense.linear.weight"])).eval()
    network.load_state_dict(state)
    vectors = []
    for waveform in waveforms:
        frames = fbank(waveform[None], num_mel_bins=80, sample_frequency=RATE, dither=0)
        vectors.append(network((frames - frames.mean(0, keepdim=True))[None])[0])
    return torch.stack(vectors)


def angle(found: Tensor, expected: Tensor) -> float:
    """Return the largest value of 1 - cosine."""
    return float((1 - torch.cosine_similarity(found.double(), expected.double())).max())


# Few of these make whole segments of 100 frames; 0.1 s makes 8 frames, and 0.045 s the minimum of 3.
SECONDS = [7.8, 0.1, 30.0, 2.03, 1.0, 12.345, 0.045, 0.5]


def check_parity(path: Path) -> None:
    encoder, waveforms = load_encoder("campplus", path, device="cpu"), noises(SECONDS)
    expected = embed_with_speakerlab(torch.load(path, weights_only=True), waveforms)
    alone = encoder.encode(waveforms)
    assert angle(alone, expected) <= 1e-9
    assert angle(encoder.encode(waveforms, batch_size=len(waveforms)), expected) <= 1e-9
    assert angle(encoder.encode(waveforms, batch_size=3), expected) <= 1e-9
    assert float(((alone - expected).norm(dim=1) / expected.norm(dim=1)).max()) < 1e-4
    # The tolerance is far below the distance between different waveforms.
    assert angle(alone[:1], alone[2:3]) > 1e-5


def test_random_weights_give_the_vectors_of_3d_speaker(campplus_weights: Path) -> None:
    check_parity(campplus_weights)


def test_published_weights_give_the_vectors_of_3d_speaker(real_campplus_weights: Path) -> None:
    check_parity(real_campplus_weights)


def test_512_dimensions_follow_from_the_checkpoint(campplus_state: MakeState, tmp_path: Path) -> None:
    torch.save(campplus_state(dim=512), tmp_path / "campplus_voxceleb.bin")
    encoder = load_encoder("campplus", tmp_path / "campplus_voxceleb.bin", device="cpu")
    expected = embed_with_speakerlab(campplus_state(dim=512), noises([1.0]))
    assert encoder.dim == 512
    assert angle(encoder.encode(noises([1.0])), expected) <= 1e-9


def test_network_without_fused_norms_gives_the_same_vectors(campplus_state: MakeState) -> None:
    network = CAMPlusPlus().eval()
    network.load_state_dict(campplus_state())
    frames, n_frames = torch.randn(2, 250, 80, generator=torch.Generator().manual_seed(0)), torch.tensor([250, 131])
    with torch.inference_mode():
        found, fused = network(frames, n_frames), CAMPlusPlus.from_state(campplus_state())(frames, n_frames)
    assert angle(found, fused) <= 1e-9


def test_wespeaker_checkpoints_get_the_front_end_of_their_training(
    campplus: Encoder, campplus_state: MakeState, tmp_path: Path
) -> None:
    path = tmp_path / "avg_model.pt"
    torch.save({**campplus_state(), "projection.weight": torch.zeros(3, 192)}, path)
    encoder, [noise] = load_encoder("campplus", path, device="cpu"), noises([1.0])
    as_3d_speaker = load_encoder("campplus", path, device="cpu", front_end="3dspeaker")
    assert encoder.spec["options"]["front_end"] == "wespeaker"
    assert torch.equal(as_3d_speaker.encode([noise]), campplus.encode([noise]))
    from torchaudio.compliance.kaldi import fbank

    network = CAMPlusPlus.from_state(campplus_state())
    # At low levels and in silence, energies are at Kaldi's floor, which depends on the scale of the samples.
    for wave in (noise, 1e-3 * noise, torch.cat([torch.zeros(RATE), noise])):
        frames = fbank(32_768 * wave[None], num_mel_bins=80, sample_frequency=RATE, dither=0, window_type="hamming")
        with torch.inference_mode():
            expected = network((frames - frames.mean(0))[None], torch.tensor([len(frames)]))
        assert angle(encoder.encode([wave]), expected) <= 1e-9
    assert angle(encoder.encode([noise]), campplus.encode([noise])) > 1e-6


def test_number_of_threads_does_not_change_vectors(campplus: Encoder) -> None:
    waveforms, n_threads = noises([1.0, 0.4, 2.0, 0.9]), torch.get_num_threads()
    flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32
    found = []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            found.append(campplus.encode(waveforms))
            assert torch.get_num_threads() == number
        with ThreadPoolExecutor(3) as pool:  # calls from several threads
            found += pool.map(campplus.encode, [waveforms] * 3)
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(n_threads)
    assert all(torch.equal(vectors, found[0]) for vectors in found)
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32) == flags


def test_too_little_memory_for_several_recordings_computes_them_one_by_one(
    campplus_weights: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, waveforms = load_encoder("campplus", campplus_weights, device="cpu"), noises([1.0, 1.5, 1.2])
    expected, forward, main = encoder.encode(waveforms), encoder.forward, threading.get_ident()

    def fail_in_pool(*batch: Tensor) -> Tensor:
        if threading.get_ident() != main:
            raise MemoryError
        return forward(*batch)

    monkeypatch.setattr(encoder, "forward", fail_in_pool)
    assert torch.allclose(encoder.encode(waveforms), expected, atol=1e-4)
    assert "continuing with one" in caplog.text


def test_recordings_above_90_s_are_the_average_of_pieces(campplus: Encoder, tmp_path: Path) -> None:
    [long] = noises([94.0])
    pieces = [long[start * RATE : (start + 10) * RATE] for start in (*range(0, 90, 10), 84)]
    expected = campplus.encode(pieces).mean(0)
    assert torch.equal(campplus.encode([long])[0], expected)
    path = tmp_path / "long.wav"
    soundfile.write(path, long.numpy(), RATE, subtype="FLOAT")
    [row] = embed_utterances([Utterance(path, "a", "")], campplus)
    assert row.vector is not None
    assert torch.equal(row.vector, expected)
    assert row.seconds == 94.0
    # Up to 90 s, nothing is cut.
    [cropped] = embed_utterances([Utterance(path, "a", "")], campplus, max_duration=12.0)
    assert cropped.vector is not None
    assert torch.equal(cropped.vector, campplus.encode([long[: 12 * RATE]])[0])


def test_windows_are_averaged(campplus_weights: Path, campplus: Encoder) -> None:
    windowed = load_encoder("campplus", campplus_weights, device="cpu", window=2.0, hop=1.0)
    [wave] = noises([4.0])
    expected = campplus.encode([wave[start * RATE : (start + 2) * RATE] for start in range(3)]).mean(0)
    assert torch.allclose(windowed.encode([wave])[0], expected, atol=1e-6)


def test_too_short_recording_costs_no_others(campplus: Encoder, tmp_path: Path) -> None:
    for name, wave in zip(("short", "long"), noises([0.04, 1.5]), strict=True):
        soundfile.write(tmp_path / f"{name}.wav", wave.numpy(), RATE)
    short, long = embed_utterances(
        [Utterance(tmp_path / f"{name}.wav", "a", "") for name in ("short", "long")], campplus
    )
    assert long.vector is not None
    assert (short.fault, short.error) == ("too_short", "the audio is 0.040 s long; this encoder needs 0.045 s")


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.ones(719), "Waveform 0 has 719 samples; the encoder 'campplus' needs at least 720"),
        (torch.zeros(RATE), "Waveform 0 is digital silence"),
        (torch.full((RATE,), 0.2), "Waveform 0 is digital silence: all of its samples are 0.2"),
    ],
)
def test_unusable_waveforms_are_refused(waveform: Tensor, message: str, campplus: Encoder) -> None:
    with pytest.raises(EncoderError, match=message):
        campplus.encode([waveform])
    assert campplus.encode(noises([0.045])).isfinite().all()


def test_recordings_under_1_s_cause_one_warning(campplus_weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder = load_encoder("campplus", campplus_weights, device="cpu")
    encoder.encode(noises([1.0]))
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        encoder.encode(noises([0.9]))
        encoder.encode(noises([0.9, 0.5]))
    [record] = caplog.records
    assert "shorter than 1 s" in record.getMessage()


def test_pieces_of_a_recording_cause_no_warning(campplus_weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder, waves = load_encoder("campplus", campplus_weights, device="cpu"), noises([0.6])
    quiet = without_length_warning(encoder)
    with caplog.at_level(logging.WARNING):
        vectors = quiet.encode(waves)
        assert not caplog.records
        assert torch.equal(encoder.encode(waves), vectors)
        assert len(caplog.records) == 1


def test_training_corpora_are_recorded_without_changing_the_digest(campplus: Encoder) -> None:
    from encoders import spec_digest

    assert campplus.spec["trained_on"] == "unknown"
    assert spec_digest(campplus.spec) == spec_digest({**campplus.spec, "trained_on": ["VoxCeleb"]})


def rename_layer(state: dict[str, Any]) -> None:
    state["xvector.block1.tdnnd99.linear1.weight"] = state.pop("xvector.block1.tdnnd1.linear1.weight")


BROKEN: dict[str, tuple[Callable[[Any], object], str]] = {
    "other names": (lambda state: state.clear(), "has no xvector.dense.linear.weight.*holds: nothing"),
    "a layer is missing": (rename_layer, r"not a checkpoint of 3D-Speaker.*: it lacks xvector\.block1\.tdnnd1\."),
    "another size": (
        lambda state: state.update({"head.conv1.weight": torch.zeros(16, 1, 3, 3)}), "shape of head.conv1.weight is"
    ),
    "NaN": (lambda state: state["head.bn1.bias"].fill_(torch.nan), "head.bn1.bias is not a tensor of finite numbers"),
    "a number": (lambda state: state.update({3: torch.zeros(1)}), "3 is not a tensor"),
    "negative variance": (lambda state: state["head.bn1.running_var"].fill_(-1), "head.bn1.running_var has negative"),
    "text": (lambda state: state.update({"head.bn1.bias": "text"}), "head.bn1.bias is not a tensor"),
    "code": (lambda state: state.update({"x": logging.getLogger}), "not a checkpoint of 3D-Speaker"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_checkpoints_are_refused(
    change: Callable[[dict[str, Any]], object], message: str, campplus_state: MakeState, tmp_path: Path
) -> None:
    state = campplus_state()
    change(state)
    torch.save(state, tmp_path / "broken.pt")
    with pytest.raises(EncoderError, match=message):
        lazy_encoder("campplus", tmp_path / "broken.pt", "cpu")


def test_cut_off_file_and_missing_file_are_refused(campplus_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.pt").write_bytes(campplus_weights.read_bytes()[:10_000])
    with pytest.raises(EncoderError, match=r"cut\.pt: this is not a checkpoint .* or it is cut off"):
        lazy_encoder("campplus", tmp_path / "cut.pt", "cpu")
    with pytest.raises(EncoderError, match=r"absent\.pt: no such file"):
        lazy_encoder("campplus", tmp_path / "absent.pt", "cpu")
    with pytest.raises(EncoderError, match=r"no front_end 'kaldi'.*3dspeaker"):
        lazy_encoder("campplus", campplus_weights, "cpu", front_end="kaldi")
