"""Runs that fine-tune pretrained networks: what is saved, what does not move, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audio import read_audio
from corpora import Corpus, Utterance, split
from encoders import EncoderError, Pretrained, TrainedNetwork, lazy_encoder, load_encoder
from heads import SpeakerClassifier
from networks import create_front_end
from training import TrainedEncoder, TrainingError, TrainingSettings
from training.crop_reader import CropReader, CropRequest
from training.data import TrainingData
from training.schedule import learning_rate
from training.training_run import TrainingRun

Train = Callable[..., TrainedEncoder]
SaveModel = Callable[..., Path]
# Without dropout a step in several parts computes the same.
WITHOUT_DROPOUT = dict.fromkeys(
    ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop"), 0.0
)


def ids_of_test(corpus: Corpus) -> set[str]:
    """Return the ids of the test part of the default split."""
    return {corpus.utterances[row].id for row in split([each.speaker for each in corpus])[2]}


@pytest.fixture(scope="module")
def folder(speech_model: SaveModel) -> Path:
    return speech_model(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True, **WITHOUT_DROPOUT)


@pytest.fixture
def fine_tune(train: Train, folder: Path) -> Train:
    """Return a function that fine-tunes the small model on crops of 0.25 s."""

    def run(**settings: Any) -> TrainedEncoder:
        given = {"init_weights": folder, "n_frames": 4_000, "freeze_layers": 1, "lr": 1e-2, **settings}
        return train(given.pop("network", "wav2vec2"), **given)

    return run


@pytest.mark.parametrize("head", ["linear", "bn_mlp"])
def test_saved_encoder_and_classifier_are_those_of_the_run(
    head: str, fine_tune: Train, corpus: Corpus, folder: Path
) -> None:
    trained = fine_tune(head=head, network_options={"pooling": "mean+std"})
    assert trained.classifier is not None
    classifier = SpeakerClassifier.load(trained.classifier)
    assert [member.name for member in classifier.members] == [head]
    tested = [each for each in corpus if each.id in ids_of_test(corpus)]
    answers = classifier.predict([each.path for each in tested], device="cpu")  # finds the encoder beside it
    right = [answer.speakers[0] == each.speaker for answer, each in zip(answers, tested, strict=True)]
    assert trained.figures["accuracy"] == pytest.approx(sum(right) / len(right))
    known = [dict(zip(answer.speakers, answer.probabilities, strict=True)) for answer in answers]
    logs = [torch.tensor(one[each.speaker]).log() for one, each in zip(known, tested, strict=True)]
    assert trained.figures["loss"] == pytest.approx(-float(torch.stack(logs).mean()), abs=1e-4)


def test_only_trained_tensors_are_stored_and_frozen_ones_do_not_move(fine_tune: Train, folder: Path) -> None:
    [path] = fine_tune(epochs=1).paths
    trained, pretrained = TrainedNetwork.load(path), Pretrained.find("wav2vec2", folder)
    assert lazy_encoder("trained", path).spec["pretrained_on"] == "unknown"
    assert trained.pretrained is not None
    assert trained.pretrained.digest == pretrained.digest
    before: Any = pretrained.create()
    before.freeze(n_layers=1)
    frozen, old = before.frozen_names(), before.state_dict()
    assert trained.tensors.keys() == old.keys() - frozen
    moved = {name for name, tensor in trained.tensors.items() if not torch.equal(tensor, old[name])}
    assert {name for name in moved if name.startswith("encoder.layers.")}
    _, network = trained.build()
    assert all(torch.equal(network.state_dict()[name], old[name]) for name in frozen)


def test_the_network_in_training_keeps_its_frozen_tensors_to_the_bit(
    fine_tune: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[TrainingRun] = []
    original = TrainingRun.fit

    def fit(run: TrainingRun) -> None:
        runs.append(run)
        before = {name: tensor.clone() for name, tensor in run.members[0].model.state_dict().items()}
        original(run)
        after = run.members[0].model.state_dict()
        kept = before.keys() - run.members[0].weights().keys()
        assert len(kept) > 10
        assert all(torch.equal(after[name], before[name]) for name in kept)

    monkeypatch.setattr(TrainingRun, "fit", fit)
    fine_tune(epochs=1, freeze_feature_extractor=True, gradient_checkpointing=True)
    assert runs


def test_a_network_that_was_moved_is_found_beside_the_trained_file(
    fine_tune: Train, speech_model: SaveModel, corpus: Corpus, tmp_path: Path
) -> None:
    folder = speech_model(**WITHOUT_DROPOUT)
    path = fine_tune(epochs=1, init_weights=folder).paths[0]
    waveforms = [read_audio(corpus.utterances[0].path, 16_000)]
    expected = load_encoder("trained", path, device="cpu").encode(waveforms)
    aside = folder.rename(tmp_path / "aside")
    with pytest.raises(EncoderError, match=r"are not found \(nothing at .*\)\. A trained file holds only what"):
        load_encoder("trained", path, device="cpu")
    aside.rename(path.parent / folder.name)
    assert torch.equal(load_encoder("trained", path, device="cpu").encode(waveforms), expected)


def test_a_trained_file_has_the_tensors_that_were_trained_and_no_others(fine_tune: Train, folder: Path) -> None:
    path = fine_tune(epochs=1).paths[0]
    content: dict[str, Any] = torch.load(path, weights_only=True)
    frozen = Pretrained.find("wav2vec2", folder).create().state_dict()["encoder.layers.0.attention.k_proj.weight"]
    name = "encoder.layers.2.attention.k_proj.weight"
    for tensors, problem in (
        ({key: tensor for key, tensor in content["tensors"].items() if key != name}, f"it lacks {name}"),
        ({**content["tensors"], "encoder.layers.0.attention.k_proj.weight": frozen}, "it has frozen or unknown"),
        ({**content["tensors"], "encoder.layers.9.bias": frozen}, "it has frozen or unknown encoder.layers.9.bias"),
    ):
        torch.save({**content, "tensors": tensors}, path)
        with pytest.raises(EncoderError, match=rf"^{path}: this is not a trained encoder.*damaged \({problem}"):
            load_encoder("trained", path, device="cpu")


def test_campplus_is_fine_tuned(fine_tune: Train, campplus_weights: Path, corpus: Corpus) -> None:
    settings = {"init_weights": campplus_weights, "n_frames": 40, "freeze_layers": 0, "epochs": 1}
    trained = fine_tune(network="campplus", freeze_feature_extractor=True, **settings)
    saved = torch.load(trained.paths[0], weights_only=True)
    assert not any(name.startswith("network.head.") for name in saved["tensors"])
    assert saved["corpora"] == ["unknown", corpus.name]
    waveforms = [read_audio(each.path, 16_000) for each in corpus.utterances[:2]]
    vectors = load_encoder("trained", trained.paths[0], device="cpu").encode(waveforms)
    assert not torch.allclose(vectors, load_encoder("campplus", campplus_weights, device="cpu").encode(waveforms))


def test_utterances_are_evaluated_in_batches_of_limited_length(
    fine_tune: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = fine_tune(epochs=1).figures
    read: list[int] = []
    original = CropReader.__getitem__

    def read_batch(reader: CropReader, request: CropRequest) -> Any:
        read.append(len(request.crops))
        return original(reader, request)

    monkeypatch.setattr("training.evaluate.BATCH_SECONDS", 0.1)
    monkeypatch.setattr(CropReader, "__getitem__", read_batch)
    alone = fine_tune(epochs=1).figures  # the finished run is evaluated again
    assert read[-4:] == [1, 1, 1, 1]
    assert alone["loss"] == pytest.approx(together["loss"], abs=1e-5)


@pytest.mark.parametrize("class_weight", [False, True])
def test_a_step_in_several_parts_gives_the_same_weights(class_weight: bool, fine_tune: Train, tmp_path: Path) -> None:
    found = [
        torch.load(
            fine_tune(
                accumulate=n, batch_size=8, epochs=1, class_weight=class_weight, lr=1e-3, output_dir=tmp_path / str(n)
            ).paths[0],
            weights_only=True,
        )["tensors"]
        for n in (1, 3)
    ]
    # Adam divides by the size of a gradient, so rounding of tiny gradients moves weights by a part of the rate.
    differences = [float((found[0][name] - found[1][name]).abs().max()) for name in found[0]]
    assert max(differences) < 1e-4


def test_a_run_that_is_killed_and_continued_ends_with_the_same_weights(
    fine_tune: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    undisturbed = fine_tune(head="bn_mlp", output_dir=tmp_path / "undisturbed")
    original = TrainingRun._end_epoch

    def end(run: TrainingRun, curves: Any) -> None:
        if run.state.epoch == 1:
            raise KeyboardInterrupt
        original(run, curves)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "_end_epoch", end)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(head="bn_mlp")
    continued = fine_tune(head="bn_mlp")
    expected, found = (torch.load(each.paths[0], weights_only=True)["tensors"] for each in (undisturbed, continued))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_run_continues_with_gradient_checkpointing_but_not_with_other_dropout(
    fine_tune: Train, folder: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(folder, tmp_path / "model")
    fine_tune(epochs=1, init_weights=own)
    fine_tune(epochs=1, init_weights=own, gradient_checkpointing=True)
    path = own / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_dropout": 0.25}))
    with pytest.raises(TrainingError, match=r"other settings: hidden_dropout was 0\.0, now it is 0\.25\."):
        fine_tune(epochs=1, init_weights=own)


def test_the_checkpoint_of_a_finished_run_has_the_best_weights_alone(fine_tune: Train, tmp_path: Path) -> None:
    trained = fine_tune(epochs=1)
    content = torch.load(tmp_path / "run/training.ckpt", weights_only=True)
    assert content["members"][0]["optimizer"] is None
    tensors = content["best"]["tensors"][0]
    assert all(content["members"][0]["model"][name].data_ptr() == each.data_ptr() for name, each in tensors.items())
    assert fine_tune(epochs=1).figures["accuracy"] == trained.figures["accuracy"]


def test_a_checkpoint_of_an_earlier_version_is_continued(train: Train, tmp_path: Path) -> None:
    trained = train()
    path = tmp_path / "run/training.ckpt"
    content = torch.load(path, weights_only=True)
    for name in ("head", "accumulate", "freeze_layers", "freeze_feature_extractor", "gradient_checkpointing"):
        del content["identity"][name]
    torch.save(content, path)
    assert train().figures["accuracy"] == trained.figures["accuracy"]


def test_single_crops_are_joined_for_batch_normalisation(fine_tune: Train) -> None:
    # In steps of 2, an odd number of utterances would leave one alone.
    assert fine_tune(head="bn_mlp", batch_size=2, epochs=1, fractions=(0.9, 0.1, 0.0)).figures["loss"] > 0


def test_the_rate_falls_in_steps_of_epochs() -> None:
    settings = TrainingSettings(networks=("conv1d",), schedule="step", lr=1.0, step_epochs=2, step_factor=0.5, epochs=5)
    rates = [learning_rate(settings, step, 15) for step in range(0, 15, 3)]
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_training_does_not_start_from_a_fine_tuned_network(fine_tune: Train, train: Train, tmp_path: Path) -> None:
    path = fine_tune(epochs=1).paths[0]
    with pytest.raises(TrainingError, match="this network was fine-tuned; training starts from its pretrained weights"):
        train(start_from=path, output_dir=tmp_path / "second")
    with pytest.raises(TrainingError, match="starts from --init_weights; leave out --start_from"):
        fine_tune(start_from=path, output_dir=tmp_path / "second")


@pytest.mark.parametrize("name", ["waveform", "fbank"])
def test_crops_are_stretches_of_the_recording(name: str, write_audio: Callable[..., Path], tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=0.5)
    front_end = create_front_end(name)
    data = TrainingData(
        (Utterance(path, "a", "1"),), np.array([8_000]), {},
        sample_rate=16_000, hop=front_end.hop, unpadded=front_end.unpadded,
    )  # fmt: skip
    reader = CropReader(16_000, front_end.hop, front_end.n_fft, unpadded=front_end.unpadded, front_end=front_end)
    assert data.n_frames(np.array([0])).tolist() == [8_000 if name == "waveform" else 48]
    crops = [data.crop(0), data.crop(0, 0.5, 20)]
    batch = reader[CropRequest(tuple(crops))]
    assert not batch.faults
    waveform = read_audio(path, 16_000)
    first, samples = crops[1].first * front_end.hop, 19 * front_end.hop + front_end.n_fft
    for row, n, stretch in zip(
        batch.inputs, batch.n_frames.tolist(), (waveform, waveform[first : first + samples]), strict=True
    ):
        stretch = stretch - stretch.mean() if abs(float(stretch.mean())) > 1e-3 else stretch  # as every offset is
        expected, n_frames = front_end(stretch[None], torch.tensor([len(stretch)]))
        assert n == n_frames.item()
        torch.testing.assert_close(row[:n], expected[0], atol=2e-3, rtol=1e-4)
        assert not row[n:].any()


def test_utterances_that_are_too_short_for_the_network_are_listed(
    fine_tune: Train, campplus_weights: Path, corpus: Corpus, write_audio: Callable[..., Path], tmp_path: Path
) -> None:
    short = Utterance(write_audio(tmp_path / "short.wav", seconds=719 / 16_000), corpus.speakers[0], "1")
    longer = Corpus((*corpus.utterances, short), corpus.root, corpus.name)
    settings = {"init_weights": campplus_weights, "n_frames": 40, "freeze_layers": 0, "epochs": 1}
    trained = fine_tune(network="campplus", corpus=longer, steps_per_epoch=1, **settings)
    assert [reason for _, reason in trained.failures] == ["it has 0.04494 s; the network needs 0.045 s"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"init_weights": None}, "fine-tuned from pretrained weights. Give them with --init_weights, as a folder"),
        ({"network": "conv1d", "freeze_layers": 0}, "--init_weights is for a pretrained network"),
        ({"network": "conv1d", "init_weights": None}, "--freeze_layers is for a pretrained network"),
        ({"network": ["wav2vec2", "conv1d"]}, "A pretrained network is trained alone"),
        ({"front_end": "mfcc"}, "has its own front end"),
        ({"mask_probability": 0.5}, "takes waveforms"),
        ({"freeze_layers": 4}, "it has 3 transformer layers, fewer than the 4 to freeze"),
        ({"accumulate": 17}, "cannot be computed in 17 parts"),
        ({"head": "bn_mlp", "accumulate": 9}, "in 9 parts of at least 2"),
        ({"head": "bn_mlp", "batch_size": 1}, "--head bn_mlp needs a --batch_size of 2 or more"),
        ({"step_epochs": 5}, "--step_epochs and --step_factor are for --schedule step"),
        ({"schedule": "cosine", "step_factor": 0.5}, "--step_epochs and --step_factor are for --schedule step"),
        ({"head": "bn_mlp", "objective": "triplet"}, "are for the objective classification"),
        (
            {"network": "campplus", "n_frames": 2},
            "needs 3 frames. Its frames are 160 samples apart at 16 kHz: 3 s are 300",
        ),
        ({"n_frames": 300}, "needs 400 frames. Its frames are samples at 16 kHz: 3 s are 48000 frames"),
        ({"window": 399}, "--window is 399; the network 'wav2vec2' needs 400 frames"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(
    settings: dict[str, Any], sentence: str, fine_tune: Train, campplus_weights: Path
) -> None:
    if settings.get("network") == "campplus":
        settings = {**settings, "init_weights": campplus_weights}
    with pytest.raises(TrainingError, match=sentence):
        fine_tune(**settings)
