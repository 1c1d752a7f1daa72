"""What encoders were trained on: specs name it, and comparisons warn if it is the corpus at hand."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from corpora import Corpus
from encoders import corpora_with_speakers_of, lazy_encoder, load_encoder, spec_differences, spec_digest
from evaluation import compare_backends, compare_heads
from features import FeatureSet, extract

SaveModel = Callable[..., Path]
MadeUp = Callable[..., FeatureSet]


def test_published_models_are_known_by_id_and_by_folder(
    speech_model: SaveModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain, speaker = speech_model(family="WavLM"), speech_model(family="WavLM", form="ForXVector")
    shutil.copytree(plain, "pretrained_models/wavlm-base-plus")
    shutil.copytree(speaker, "pretrained_models/microsoft/wavlm-base-plus-sv")
    shutil.copytree(plain, "wavlm-base-plus-of-mine")
    pretraining = ["libri-light", "gigaspeech", "voxpopuli"]
    for weights, corpora in {
        "microsoft/wavlm-base-plus": pretraining,
        "pretrained_models/wavlm-base-plus": pretraining,
        "microsoft/wavlm-base-plus-sv": [*pretraining, "voxceleb1"],
        "pretrained_models/microsoft/wavlm-base-plus-sv": [*pretraining, "voxceleb1"],
        "wavlm-base-plus-of-mine": "unknown",
    }.items():
        assert lazy_encoder("wav2vec2", weights).spec["trained_on"] == corpora, weights
    monkeypatch.chdir("pretrained_models/wavlm-base-plus")
    assert lazy_encoder("wav2vec2", ".").spec["trained_on"] == pretraining


def test_published_files_are_known_by_their_name(
    clap_weights: Path,
    scratch_weights: Callable[..., Path],
    campplus_weights: Path,
    onnx_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    files = {
        "audiosep": (clap_weights, "music_speech_audioset_epoch_15_esc_89.98.pt", "audioset"),
        "scratch": (scratch_weights(), "saved_model.bilstm.mean.all.specaug.gpu100000.pt", "librispeech"),
        "campplus": (campplus_weights, "campplus_voxceleb.bin", "voxceleb2"),
        "onnx": (onnx_file(), "cnceleb_resnet34_LM.onnx", "cnceleb"),
    }
    for encoder, (weights, name, corpus) in files.items():
        given = lazy_encoder(encoder, shutil.copy(weights, tmp_path / "weights.pt")).spec
        published = lazy_encoder(encoder, shutil.copy(weights, tmp_path / name)).spec
        assert given["trained_on"] == "unknown"
        assert corpus in published["trained_on"]
        # The same weights give the same vectors, whatever is known about them.
        assert spec_differences(given, published) == []
        assert spec_digest(given) == spec_digest(published)
    assert lazy_encoder("spectral").spec["trained_on"] == []


RELATED = {
    ("librispeech", "librispeech"): True,
    ("LibriSpeech", "libri-speech"): True,
    ("voxceleb", "voxceleb1"): True,
    ("VoxCeleb_2", "voxceleb"): True,
    ("librispeech", "libri-light"): True,  # both are from LibriVox
    ("LibriTTS", "librispeech"): True,
    ("librivox", "librispeech"): False,
    ("aishell4", "aishell1"): False,
    ("vox", "voxceleb1"): False,
    ("voxceleb1", "voxceleb2"): False,
    ("voices", "voices of mine"): False,
    ("", "librispeech"): False,
    ("--", "2"): False,
}


@pytest.mark.parametrize(("names", "is_related"), RELATED.items(), ids=map(" and ".join, RELATED))
def test_corpora_are_compared_by_name(names: tuple[str, str], is_related: bool) -> None:
    corpus, trained_on = names
    assert corpora_with_speakers_of(corpus, {"trained_on": ["x", trained_on]}) == ([trained_on] if is_related else [])


def test_results_name_the_corpora_of_fine_tuned_weights(made_up: MadeUp) -> None:
    features = replace(made_up(n_sessions=1), corpus="librispeech")
    spec = {"trained_on": ["own"], "trained_speakers": ["speaker 01"], "pretrained_on": ["libri-light"]}
    features.encoder.update(spec)
    expected = (
        "the pretrained weights of the encoder were trained on libri-light, so the figures on librispeech may be "
        "optimistic; test it on other speakers"
    )
    assert expected in compare_heads(features, ["centroid"]).notes
    features.encoder.update({**spec, "pretrained_on": "unknown"})
    assert not any("optimistic" in note for note in compare_heads(features, ["centroid"]).notes)


def test_comparisons_warn_in_one_line_if_the_corpus_trained_the_encoder(made_up: MadeUp) -> None:
    features = replace(made_up(n_sessions=1), corpus="librispeech")
    expected = (
        "the encoder was trained on {}, so the figures on librispeech may be optimistic; test it on other speakers"
    )
    for trained_on, named in (
        (["librispeech"], "librispeech"),
        (["libri-light", "gigaspeech", "librispeech"], "libri-light, librispeech"),
        (["voxceleb1"], None),
        ("unknown", None),
        ([], None),
        (None, None),
    ):
        features.encoder.pop("trained_on", None)
        if trained_on is not None:  # files of earlier versions have no such key
            features.encoder["trained_on"] = trained_on
        for notes in (compare_heads(features, ["centroid"]).notes, compare_backends(features, "cosine").notes):
            warnings = [note for note in notes if "was trained on" in note]
            assert warnings == ([] if named is None else [expected.format(named)])


def test_file_without_training_corpora_is_continued_and_gets_them(
    speech_model: SaveModel, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(speech_model(), "wav2vec2-base")
    encoder: Any = load_encoder("wav2vec2", folder, device="cpu", layers="last")
    few = Corpus(corpus.utterances[:3], corpus.root, corpus.name)
    path = tmp_path / "features.pt"
    first = extract(few, encoder, path, progress=False)
    content = torch.load(path, weights_only=True)
    assert content["encoder"].pop("trained_on") == ["librispeech"]
    torch.save(content, path)
    assert "trained_on" not in FeatureSet.load(path).encoder
    monkeypatch.setattr(encoder, "forward", None)  # nothing is computed
    again = extract(few, encoder, path, progress=False)
    assert again.encoder["trained_on"] == ["librispeech"]
    assert torch.equal(again.features, first.features)
