"""Training that starts from given weights, and networks that are saved in the published form."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from audio import read_audio
from corpora import Corpus
from encoders import EncoderError, TrainedNetwork, load_encoder
from files import InputError, count_of
from training import TrainedEncoder, TrainingError
from training.training_run import TrainingRun

Train = Callable[..., TrainedEncoder]
TRIPLETS = {"network": "bilstm", "objective": "triplet", "split_by": "utterance", "batch_size": 8, "n_frames": 15}
OPTIONS = {"hidden": 12, "n_layers": 2}


@pytest.fixture
def weights_at_start(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Return a list to which each run adds its weights before the first step."""
    found: list[dict[str, torch.Tensor]] = []
    original = TrainingRun.fit

    def fit(run: TrainingRun) -> None:
        found.append({name: tensor.clone() for name, tensor in run.members[0].model.state_dict().items()})
        original(run)

    monkeypatch.setattr(TrainingRun, "fit", fit)
    return found


def test_training_starts_from_a_trained_encoder_and_its_classifier(
    train: Train, tmp_path: Path, weights_at_start: list[dict[str, torch.Tensor]]
) -> None:
    first = train()
    saved = torch.load(first.paths[0], weights_only=True)
    second = train(start_from=first.paths[0], output_dir=tmp_path / "second", seed=5)
    start = weights_at_start[1]
    assert all(torch.equal(start[f"network.{name}"], tensor) for name, tensor in saved["tensors"].items())
    assert torch.equal(start["objective.linear.weight"], saved["classifier"]["weight"])
    assert torch.equal(start["objective.linear.bias"], saved["classifier"]["bias"])
    again = torch.load(second.paths[0], weights_only=True)
    assert any(not torch.equal(tensor, saved["tensors"][name]) for name, tensor in again["tensors"].items())


def test_classifier_of_other_speakers_is_not_used(
    train: Train, corpus: Corpus, tmp_path: Path, weights_at_start: list[dict[str, torch.Tensor]]
) -> None:
    few = Corpus(tuple(each for each in corpus if each.speaker != "104"), corpus.root, "three")
    first = train(corpus=few)
    second = train(start_from=first.paths[0], output_dir=tmp_path / "second")
    assert weights_at_start[1]["objective.linear.weight"].shape == (4, 512)
    saved = torch.load(second.paths[0], weights_only=True)
    assert saved["corpora"] == ["three", corpus.name]
    assert saved["speakers"] == ["101", "102", "103", "104"]
    assert saved["earlier_speakers"] == ["101", "102", "103"]
    spec = load_encoder("trained", second.paths[0], device="cpu").spec
    assert spec["trained_on"] == ["three", corpus.name]
    assert spec["trained_speakers"] == ["101", "102", "103", "104"]


def test_training_starts_from_a_published_checkpoint(
    train: Train, scratch_weights: Callable[..., Path], weights_at_start: list[dict[str, torch.Tensor]]
) -> None:
    path = scratch_weights()
    trained = train(**TRIPLETS, network_options=OPTIONS, start_from=path)
    published = torch.load(path, weights_only=True)["encoder_state_dict"]
    assert all(torch.equal(weights_at_start[0][f"network.{name}"], tensor) for name, tensor in published.items())
    assert torch.load(trained.paths[0], weights_only=True)["corpora"][0] == "unknown"


def test_training_starts_from_a_published_transformer(
    train: Train, published_transformer: Callable[..., Path], weights_at_start: list[dict[str, torch.Tensor]]
) -> None:
    path = published_transformer()
    settings = {**TRIPLETS, "network": "query_transformer"}
    train(**settings, network_options={"width": 16, "feed_forward": 24}, start_from=path)
    published = torch.load(path, weights_only=True)["encoder_state_dict"]
    assert all(torch.equal(weights_at_start[0][f"network.{name}"], tensor) for name, tensor in published.items())


def test_the_start_is_part_of_the_identity_of_a_run(
    train: Train, scratch_weights: Callable[..., Path], tmp_path: Path
) -> None:
    settings = {**TRIPLETS, "network_options": OPTIONS, "epochs": 1}
    train(**settings, start_from=scratch_weights())
    copy = tmp_path / "copy.pt"
    copy.write_bytes(scratch_weights().read_bytes())
    train(**settings, start_from=copy)  # the same weights: the run is finished, and not refused
    for other in (scratch_weights(seed=1), None):
        with pytest.raises(TrainingError, match="holds a training run with other settings: start_from was"):
            train(**settings, start_from=other)


def test_a_start_that_does_not_fit_is_refused(
    train: Train, scratch_weights: Callable[..., Path], write_audio: Callable[..., Path], tmp_path: Path
) -> None:
    path = scratch_weights()
    with pytest.raises(
        TrainingError, match=r"saved_model\.pt: it has weights of the network 'bilstm'; this run trains 'conv1d'\. Give"
    ):
        train(start_from=path)
    with pytest.raises(TrainingError, match="this run trains 'conv1d' and 'conv2d'"):
        train(network=("conv1d", "conv2d"), start_from=path)
    with pytest.raises(
        TrainingError,
        match=r"other sizes .* lstm\.weight_ih_l0 is \(48, 40\) there and \(256, 40\) here\. It was trained with "
        r"--front_end mfcc --front_end_options n_mfcc=40 .* --network_options hidden=12 n_layers=2 bidirectional=True",
    ):
        train(**TRIPLETS, start_from=path)
    with pytest.raises(TrainingError, match="no such file"):
        train(start_from=tmp_path / "none.pt")
    with pytest.raises(InputError, match=r"this is not a trained encoder .*it is an audio file"):
        train(start_from=write_audio(tmp_path / "x.wav"))
    torch.save({"linear.weight": torch.ones(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(EncoderError, match="this is not a checkpoint of a BiLSTM or a Transformer"):
        train(start_from=tmp_path / "other.pt")
    assert not (tmp_path / "run").exists()


def test_a_start_on_other_frames_is_warned_of(train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = train(epochs=1, front_end_options={"normalize": "none"})
    train(epochs=1, start_from=first.paths[0], output_dir=tmp_path / "second")
    assert "other settings of the network or its frames than those of this run: --front_end log_mel" in caplog.text


def test_a_start_with_other_options_of_the_same_shapes_is_warned_of(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = train("transformer", epochs=1, network_options={"width": 16, "n_heads": 2})
    same = {"network": "transformer", "epochs": 1, "start_from": first.paths[0]}
    train(**same, network_options={"width": 16, "n_heads": 2}, output_dir=tmp_path / "second")
    assert "other settings of the network" not in caplog.text
    train(**same, network_options={"width": 16, "n_heads": 4}, output_dir=tmp_path / "third")
    assert "than those of this run: --front_end log_mel" in caplog.text
    assert "n_heads=2" in caplog.text


def test_parts_with_speakers_that_trained_the_start_are_said(train: Train, tmp_path: Path) -> None:
    apart = {"split_by": "speaker", "fractions": (0.5, 0.5, 0.0)}
    settings = {**TRIPLETS, **apart, "network_options": OPTIONS, "epochs": 1}
    first = train(**settings, output_dir=tmp_path / "first").paths[0]
    same = train(**settings, start_from=first, output_dir=tmp_path / "same")
    assert "are too good" not in " ".join(same.notes)
    others = train(**settings, start_from=first, seed=1, output_dir=tmp_path / "others")
    trained = set(json.loads((tmp_path / "others/metrics.json").read_text())["speakers"])
    shared = set(TrainedNetwork.load(first).speakers) - trained  # the other speakers are validated on
    assert len(shared) in (1, 2)
    assert f"were trained on speakers with the names of {count_of(len(shared), 'speaker')} of the validation part" in (
        " ".join(others.notes)
    )


@pytest.mark.parametrize(
    ("network", "options", "given"),
    [
        ("bilstm", {"hidden": 8, "n_layers": 1, "bidirectional": False, "pooling": "last"}, {"pooling": "last"}),
        ("bilstm", {}, {}),
        ("query_transformer", {"n_heads": 4}, {"n_heads": 4}),
    ],
)
def test_the_published_form_gives_equal_embeddings(
    network: str, options: dict[str, Any], given: dict[str, Any], train: Train, corpus: Corpus
) -> None:
    trained = train(**{**TRIPLETS, "network": network}, network_options=options, save_published=True)
    assert [path.name for path in trained.published] == [f"published_{network}.pt"]
    assert trained.published[0] in trained.saved
    ours = load_encoder("trained", trained.paths[0], device="cpu")
    published = load_encoder("scratch", trained.published[0], device="cpu", **given)
    waveforms = [torch.cat([read_audio(each.path, 16_000) for each in corpus.utterances[:n]]) for n in (1, 8)]
    assert torch.equal(published.encode(waveforms), ours.encode(waveforms))
    content = torch.load(trained.published[0], weights_only=True)
    assert content.keys() == {"encoder_state_dict", "losses", "training_time"}
    losses = [row["loss"] for row in trained.rows if row["part"] == "train"]
    assert content["losses"] == losses
    assert len(losses) == 2
    assert content["training_time"] > 0


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"network": "conv1d"}, "the network is conv1d; expected bilstm or query_transformer"),
        ({**TRIPLETS, "front_end": "log_mel"}, "the front end is log_mel; expected mfcc with its defaults"),
        ({**TRIPLETS, "front_end_options": {"hop": 256}}, "the front end is mfcc hop=256; expected mfcc"),
        ({**TRIPLETS, "window": None}, "--window is None; expected 100"),
    ],
)
def test_other_networks_have_no_published_form(
    settings: dict[str, Any], problem: str, train: Train, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=problem):
        train(**settings, save_published=True)
    assert not (tmp_path / "run").exists()
