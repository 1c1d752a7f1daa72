"""Fixtures of several rooms: audio files, a small corpus, weights, all made here, and a features file."""

import importlib
import importlib.util
import logging
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import settings
from numpy.typing import NDArray
from torch import Tensor

# No test reaches for the network. The hub's client reads its variable once, when it is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PIP_NO_INDEX"] = "1"

from command_line import ROOMS
from corpora import Corpus, load_corpus
from encoders import Encoder, TrainedNetwork, load_encoder
from features import FeatureSet, extract
from networks import ECAPATDNN, create_front_end, create_network, default_settings

# Property tests draw the same examples in each run, and no test depends on the speed of the machine.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

Audio = NDArray[np.float64]
ROOT = Path(__file__).parents[1]
USER_CACHE = os.environ.get("XDG_CACHE_HOME")  # before the tests get their own


def make_voice(seconds: float, rate: int, seed: int, pitch: float = 120.0, tilt: float = 1.0) -> Audio:
    """Harmonics of a wandering pitch under a slow random envelope, with a little noise; (samples,), peak 0.5."""
    random = np.random.default_rng(seed)
    n_samples = max(1, round(seconds * rate))
    time = np.arange(n_samples) / rate
    wander = np.interp(time, np.linspace(0, max(seconds, 0.1), 8), random.normal(1, 0.04, 8))
    envelope = np.interp(time, np.linspace(0, max(seconds, 0.1), 12), random.uniform(0.2, 1.0, 12))
    phase = 2 * np.pi * np.cumsum(pitch * wander) / rate
    highest = max(1, int(0.45 * rate / (1.2 * pitch)))
    voice = sum(np.sin(k * phase + random.uniform(0, 6)) / k**tilt for k in range(1, min(highest, 30) + 1))
    signal = envelope * voice + 0.02 * random.standard_normal(n_samples)
    scaled: Audio = 0.5 * signal / np.abs(signal).max()
    return scaled


@pytest.fixture(scope="session")
def make_conversation() -> Callable[..., Audio]:
    """Return a function that makes speech between pauses with faint noise, 16 kHz: ``make(n_voices, seed, pitch)``.

    The network of the speech detection takes it for speech, which it does not do with `make_voice`.
    """
    from scipy.signal import lfilter

    def resonance(block: Audio, hertz: float, width: float) -> Audio:
        radius = np.exp(-np.pi * width / 16_000)
        return np.asarray(lfilter([1 - radius], [1, -2 * radius * np.cos(np.pi * hertz / 8_000), radius**2], block))

    def syllables(random: np.random.Generator, pitch: float) -> Audio:
        """Pulses of 1.2 s through three resonances, which change at each of 10 syllables."""
        time = np.arange(19_200) / 16_000
        pulses = np.diff(np.floor(np.cumsum(pitch + 15 * np.sin(2 * np.pi * 1.1 * time)) / 16_000), prepend=0.0)
        parts = []
        for block in np.split(lfilter([1.0], [1.0, -0.95], pulses), 10):
            for lowest, highest, width in ((300, 800, 80), (900, 1_800, 110), (2_200, 2_900, 160)):
                block = resonance(block, random.uniform(lowest, highest), width)
            parts.append(block / (np.abs(block).max() + 1e-9))
        voice = 0.3 * np.concatenate(parts) * np.clip(np.sin(2 * np.pi * 4 * time), 0.05, None)
        return np.asarray(voice - lfilter([0.01], [1.0, -0.99], voice))  # without an offset

    def make(n_voices: int = 2, seed: int = 0, pitch: float = 120.0) -> Audio:
        random = np.random.default_rng(seed)
        parts = []
        for number in range(n_voices):
            parts += [0.001 * random.standard_normal(8_000 + 4_800 * number), syllables(random, pitch)]
        return np.concatenate(parts)

    return make


@pytest.fixture(autouse=True)
def _own_log_levels() -> Iterator[None]:
    """Undo the log levels that a script sets, so that the tests after it can run in any order."""
    yield
    for room in ROOMS:
        logging.getLogger(room).setLevel(logging.NOTSET)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the user's cache folders out of the tests, and the tests out of them."""
    os.environ["XDG_CACHE_HOME"] = os.environ["HF_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def write_audio() -> Callable[..., Path]:
    """Return a function that writes a seeded recording: ``write_audio(path, seconds, rate, channels, seed, ...)``."""

    def write(
        path: Path, seconds: float = 1.0, rate: int = 16_000, channels: int = 1, seed: int = 0, **options: Any
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = [make_voice(seconds, rate, seed + 1000 * channel) for channel in range(channels)]
        soundfile.write(path, np.stack(columns, axis=1), rate, **options)
        return path

    return write


def write_corpus(root: Path, n_speakers: int = 4, n_chapters: int = 2, n_utterances: int = 5) -> Path:
    """Write a corpus in LibriSpeech's layout whose speakers differ in pitch and in spectral tilt."""
    for speaker in range(n_speakers):
        for chapter in range(n_chapters):
            name = f"{101 + speaker}-{10 * (101 + speaker) + chapter}"
            folder = root / name.replace("-", "/")
            folder.mkdir(parents=True)
            for number in range(n_utterances):
                seed = 100 * speaker + 10 * chapter + number
                voice = make_voice(0.6 + 0.05 * number, 16_000, seed, pitch=90 + 35 * speaker, tilt=0.5 + 0.4 * speaker)
                soundfile.write(folder / f"{name}-{number:04d}.flac", voice, 16_000)
    return root


@pytest.fixture(scope="session")
def corpus_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four speakers, two chapters each, five utterances a chapter. Read it; copy it to change it."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "dev-small")


@pytest.fixture(scope="session")
def corpus(corpus_root: Path) -> Corpus:
    return load_corpus(corpus_root)


@pytest.fixture(scope="session")
def subsets(corpus_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the small corpus as three subsets, each with other speakers."""
    root = tmp_path_factory.mktemp("subsets") / "LibriSpeech"
    for subset, speakers in (("train-small", ("101", "102")), ("dev-small", ("103",)), ("test-small", ("104",))):
        for speaker in speakers:
            shutil.copytree(corpus_root / speaker, root / subset / speaker)
    return root


@pytest.fixture(scope="session")
def spectral() -> Encoder:
    return load_encoder("spectral", device="cpu")


@pytest.fixture(scope="session")
def clap_state() -> Callable[..., dict[str, Tensor]]:
    """Return a function that makes the audio half of a CLAP checkpoint: real names, random weights, a small network."""
    from benchmarks.laion_reference import ReferenceClap

    def make(
        width: int = 16,
        depths: tuple[int, ...] = (1, 2, 1, 1),
        heads: tuple[int, ...] = (1, 2, 2, 2),
        dim: int = 24,
        n_classes: int = 3,
        scale: float = 0.2,
        seed: int = 0,
    ) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        network = ReferenceClap(width, depths=depths, heads=heads, dim=dim, n_classes=n_classes)
        state: dict[str, Tensor] = dict(network.state_dict())
        for name, tensor in state.items():
            if "extractor" in name or not tensor.is_floating_point() or name.endswith("attn_mask"):
                continue  # what the front end and the masks are is given
            noise = torch.randn(tensor.shape, generator=generator)
            is_scale = name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "bn0.weight", "running_var"))
            state[name] = 1 + 0.2 * noise.abs() if is_scale else (0.02 if tensor.ndim == 1 else scale) * noise
        state["audio_branch.bn0.running_mean"] = -30 + state["audio_branch.bn0.running_mean"]
        state["audio_branch.bn0.running_var"] = 200 * state["audio_branch.bn0.running_var"]
        return state

    return make


@pytest.fixture(scope="session")
def clap_weights(clap_state: Callable[..., dict[str, Tensor]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small checkpoint in the form of LAION's files."""
    path = tmp_path_factory.mktemp("weights") / "music_speech_audioset_epoch_15_esc_89.98.pt"
    state = {f"module.{name}": tensor for name, tensor in clap_state().items()}
    # The numbers of LAION's training are numpy scalars; the text tower is there and is not needed.
    state["module.text_branch.weight"] = torch.zeros(2)
    numbers = {"epoch": np.int64(15), "best": np.float64(0.9), "lr": np.float32(1e-4), "name": "HTSAT-base"}
    torch.save({**numbers, "state_dict": state}, path)
    return path


@pytest.fixture(scope="session")
def campplus_state() -> Callable[..., dict[str, Tensor]]:
    """Return a function that makes a checkpoint of 3D-Speaker's CAM++ with random weights and statistics."""
    from speakerlab.models.campplus.DTDNN import CAMPPlus

    def make(dim: int = 192, seed: int = 0) -> dict[str, Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = CAMPPlus(embedding_size=dim)
            for name, tensor in network.state_dict().items():
                if name.endswith(("running_var", "bn1.weight", "bn2.weight", "batchnorm.weight")):
                    tensor.uniform_(0.5, 1.5)
                elif name.endswith(("running_mean", "bias")):
                    tensor.normal_(0, 0.1)
        state: dict[str, Tensor] = dict(network.state_dict())
        return state

    return make


@pytest.fixture(scope="session")
def campplus_weights(
    campplus_state: Callable[..., dict[str, Tensor]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("campplus") / "campplus_random.pt"
    torch.save(campplus_state(), path)
    return path


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that saves a small ONNX graph: the mean over time of ReLU(spectrogram @ ``onnx_weights``)."""
    import onnx
    from onnx import helper, numpy_helper

    def save(
        metadata: dict[str, str] | None = None,
        names: tuple[str, str] = ("feats", "embs"),
        shape: tuple[str | int, ...] = ("B", "T", 80),
        change: Callable[[Any], object] = lambda model: None,
    ) -> Path:
        (source, target), dim = names, onnx_weights().shape[1]
        nodes = [
            helper.make_node("MatMul", [source, "weights"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("ReduceMean", ["active"], [target], axes=[1], keepdims=0),
        ]
        given = helper.make_tensor_value_info(source, onnx.TensorProto.FLOAT, shape)
        found = helper.make_tensor_value_info(target, onnx.TensorProto.FLOAT, (shape[0], dim))
        weights = numpy_helper.from_array(onnx_weights().numpy(), "weights")
        graph = helper.make_graph(nodes, "speaker", [given], [found], [weights])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, metadata or {})
        change(model)
        path = tmp_path_factory.mktemp("onnx") / "speaker.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return save


def onnx_weights() -> Tensor:
    """Make the weights of the graphs of `onnx_file` (80, 8)."""
    return torch.randn(80, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def real_campplus_weights() -> Path:
    """Return the published weights of CAM++, which ``make weights`` downloads."""
    from encoders.campplus import DEFAULT_WEIGHTS

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XDG_CACHE_HOME") if USER_CACHE is None else patch.setenv("XDG_CACHE_HOME", USER_CACHE)
        found = DEFAULT_WEIGHTS.find(download=False)
    if found is None:
        pytest.skip("the weights of CAM++ are not on this machine; make weights downloads them")
    return found


@pytest.fixture(scope="session")
def ecapa_state() -> Callable[..., dict[str, Tensor]]:
    """Return a function that makes a checkpoint of SpeechBrain's ECAPA-TDNN with random weights and statistics."""

    def make(seed: int = 0, **sizes: int) -> dict[str, Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = ECAPATDNN(**sizes)
            for name, tensor in network.state_dict().items():
                if name.endswith(("running_var", "norm.weight")):
                    tensor.uniform_(0.5, 1.5)
                elif name.endswith(("running_mean", "bias")):
                    tensor.normal_(0, 0.1)
        state: dict[str, Tensor] = dict(network.state_dict())
        return state

    return make


@pytest.fixture(scope="session")
def ecapa_weights(ecapa_state: Callable[..., dict[str, Tensor]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ecapa") / "embedding_model.ckpt"
    torch.save(ecapa_state(), path)
    return path


@pytest.fixture(scope="session")
def resemblyzer_weights() -> Path:
    """Return the published weights of Resemblyzer, which lie inside its package."""
    spec = importlib.util.find_spec("resemblyzer")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name("pretrained.pt")


@pytest.fixture(scope="session")
def speech_weights(_own_cache: None) -> Path:
    """Put the weights of the speech detection, which lie inside the package silero-vad, into the cache of the tests."""
    spec = importlib.util.find_spec("silero_vad")  # this imports nothing
    if spec is None or spec.origin is None:
        pytest.skip("the package silero-vad is not installed: pip install --no-deps -r requirements-parts.txt")
    path = Path(os.environ["XDG_CACHE_HOME"]) / "voxprobe" / "weights" / "silero_vad.jit"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(spec.origin).with_name("data") / path.name, path)
    return path


@pytest.fixture(scope="session")
def audiosep(clap_weights: Path) -> Encoder:
    return load_encoder("audiosep", clap_weights, device="cpu")


@pytest.fixture(scope="session")
def scratch_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that saves a small random BiLSTM in the form of SpeakerRecognitionFromScratch's checkpoints."""

    def save(hidden: int = 12, layers: int = 2, bidirectional: bool = True, seed: int = 0) -> Path:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            lstm = torch.nn.LSTM(40, hidden, layers, batch_first=True, bidirectional=bidirectional)
        state = {f"lstm.{name}": tensor for name, tensor in lstm.state_dict().items()}
        path = tmp_path_factory.mktemp("scratch") / "saved_model.pt"
        torch.save({"encoder_state_dict": state, "losses": [0.5, 0.25], "training_time": 12.5}, path)
        return path

    return save


@pytest.fixture(scope="session")
def published_transformer(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that saves a small random Transformer in the form of SpeakerRecognitionFromScratch."""

    def save(width: int = 16, layers: int = 2, feed_forward: int = 24, seed: int = 0) -> Path:
        nn = torch.nn
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            encoder = nn.TransformerEncoder(
                nn.TransformerEncoderLayer(width, 8, feed_forward, batch_first=True), layers
            )
            decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(width, 8, feed_forward), 1)
            linear = nn.Linear(40, width)
            torch.nn.init.normal_(linear.weight, 0, 0.02)  # MFCC are large; the sigmoid is not to be 0 or 1
            for module in (encoder, decoder):  # PyTorch copies the first layer, so that all are equal
                for parameter in module.parameters():
                    parameter.data += 0.2 * torch.randn_like(parameter)
        parts = {"linear_layer": linear, "encoder": encoder, "decoder": decoder}
        state = {f"{part}.{name}": tensor for part, each in parts.items() for name, tensor in each.state_dict().items()}
        path = tmp_path_factory.mktemp("scratch") / "saved_model.pt"
        torch.save({"encoder_state_dict": state, "losses": [0.5, 0.25], "training_time": 12.5}, path)
        return path

    return save


@pytest.fixture(scope="session")
def trained_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that saves a network with random weights in the form of `train_encoder.py`."""

    def save(network: str = "conv1d", seed: int = 0, window: tuple[int, int] | None = None, **settings: Any) -> Path:
        defaults = default_settings(network)
        front_end = create_front_end(defaults["front_end"], **defaults["front_end_options"])
        options = settings.pop("network_options", {})
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            tensors = create_network(network, front_end.n_features, **options).state_dict()
        trained = TrainedNetwork(
            network=network,
            network_options=options,
            front_end=defaults["front_end"],
            window=window,
            tensors=dict(tensors),
            **{
                "front_end_options": defaults["front_end_options"],
                "speakers": ("101", "102"),
                "corpora": ("librispeech",),
                **settings,
            },
        )
        return trained.save(tmp_path_factory.mktemp("trained") / f"encoder_{network}.pt")

    return save


@pytest.fixture(scope="session")
def speech_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that saves a small random model of the wav2vec2 family as the hub's files hold one."""
    transformers: Any = importlib.import_module("transformers")

    def save(family: str = "Wav2Vec2", do_normalize: bool | None = True, form: str = "", **settings: Any) -> Path:
        sizes = {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "conv_dim": [16] * 7,
            "num_conv_pos_embeddings": 5 if family == "Data2VecAudio" else 16,
            "num_conv_pos_embedding_groups": 4,
            "vocab_size": 7,
        }
        folder = tmp_path_factory.mktemp("speech_model")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            config = getattr(transformers, f"{family}Config")(**{**sizes, **settings})
            model = getattr(transformers, f"{family}{form or 'Model'}")(config)
            for name, buffer in model.named_buffers():
                if "batch_norm.running" in name:  # as after training
                    buffer.uniform_(0.5, 2)
        model.save_pretrained(folder)
        if do_normalize is not None:
            transformers.Wav2Vec2FeatureExtractor(do_normalize=do_normalize).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def features_path(corpus: Corpus, spectral: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the finished features file of the corpus."""
    path = tmp_path_factory.mktemp("features") / "librispeech_features_spectral.pt"
    extract(corpus, spectral, path, progress=False)
    return path


@pytest.fixture(scope="session")
def features(features_path: Path) -> FeatureSet:
    return FeatureSet.load(features_path)


@pytest.fixture(scope="session")
def blobs() -> Callable[..., tuple[torch.Tensor, NDArray[np.int64]]]:
    """Return a function that makes rows (n, dim) around one centre for each class, shuffled, and their classes."""

    def make(
        n_classes: int = 5, n_each: int = 20, dim: int = 8, spread: float = 4.0, seed: int = 0
    ) -> tuple[torch.Tensor, NDArray[np.int64]]:
        random = np.random.default_rng(seed)
        labels = random.permutation(np.repeat(np.arange(n_classes), n_each))
        centres = random.normal(0, spread, (n_classes, dim))
        rows = centres[labels] + random.standard_normal((len(labels), dim))
        return torch.from_numpy(rows).float(), labels

    return make


@pytest.fixture(scope="session")
def run_script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a script as a user does, with the repository as the current folder."""

    def run(script: str, *arguments: object, cwd: Path = ROOT, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / script), *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False, **options)

    return run


@pytest.fixture(scope="session")
def run_python() -> Callable[[str], str]:
    """Return a function that runs some lines in a Python of their own and returns what they print."""

    def run(code: str) -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def call_script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that does what `run_script` does within this process, without seconds of imports a call."""

    def call(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / script), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(command[0], run_name="__main__")
        printed = capsys.readouterr()
        code = stop.value.code
        return subprocess.CompletedProcess(command, code if isinstance(code, int) else 0, printed.out, printed.err)

    return call


@pytest.fixture(scope="session")
def made_up() -> Callable[..., FeatureSet]:
    """Return a function that makes overlapping speakers, each with sessions that shift its rows."""

    def make(
        n_speakers: int = 12,
        n_each: int = 20,
        n_sessions: int = 4,
        seed: int = 0,
        noise: float = 1.0,
        shift: float = 1.0,
        encoder: str = "made up",
    ) -> FeatureSet:
        random = np.random.default_rng(seed)
        speaker = np.repeat(np.arange(n_speakers), n_each)
        session = speaker * n_sessions + np.tile(np.arange(n_each) % n_sessions, n_speakers)
        rows = random.normal(0, 1.2, (n_speakers, 10))[speaker]
        rows = rows + random.normal(0, shift, (n_speakers * n_sessions, 10))[session]
        rows = rows + noise * random.standard_normal(rows.shape)
        return FeatureSet(
            features=torch.from_numpy(rows).float(),
            labels=torch.from_numpy(speaker),
            speakers=tuple(f"speaker {number:02d}" for number in range(n_speakers)),
            sessions=torch.from_numpy(session),
            session_names=tuple(f"session {number}" for number in range(n_speakers * n_sessions)),
            ids=tuple(f"{number}.wav" for number in range(len(rows))),
            durations=torch.ones(len(rows)),
            encoder={"name": encoder, "dim": 10, "layers": [], "options": {}},
            corpus="hard",
        )

    return make
