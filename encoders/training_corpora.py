"""What published weights were trained on, as far as it is known."""

import re
from pathlib import Path
from typing import Any

from encoders.spec import Spec

UNKNOWN = "unknown"
# 94,000 hours of English: the pre-training of WavLM's and UniSpeech-SAT's larger models.
MIX_94K = ("libri-light", "gigaspeech", "voxpopuli")
XLSR_53 = ("multilingual-librispeech", "commonvoice", "babel")
XLS_R = (*XLSR_53, "voxpopuli", "voxlingua107")
# The authors name neither the music nor the speech that they added to the first two.
CLAP_MUSIC_SPEECH = ("audioset", "laion-audio-630k", "unnamed music", "unnamed speech")
# Id on the Hugging Face hub, or name of a file -> corpora.
CORPORA: dict[str, tuple[str, ...]] = {
    "facebook/wav2vec2-base": ("librispeech",),
    "facebook/wav2vec2-base-100h": ("librispeech",),
    "facebook/wav2vec2-base-960h": ("librispeech",),
    "facebook/wav2vec2-large": ("librispeech",),
    "facebook/wav2vec2-large-960h": ("librispeech",),
    "facebook/wav2vec2-large-lv60": ("libri-light",),
    "facebook/wav2vec2-large-960h-lv60": ("libri-light", "librispeech"),
    "facebook/wav2vec2-large-960h-lv60-self": ("libri-light", "librispeech"),
    "facebook/wav2vec2-large-xlsr-53": XLSR_53,
    "jonatasgrosman/wav2vec2-large-xlsr-53-chinese-zh-cn": (*XLSR_53, "css10", "st-cmds"),
    "facebook/wav2vec2-xls-r-300m": XLS_R,
    "facebook/wav2vec2-xls-r-1b": XLS_R,
    "facebook/wav2vec2-xls-r-2b": XLS_R,
    "anton-l/wav2vec2-base-superb-sv": ("librispeech", "voxceleb1"),
    "facebook/hubert-base-ls960": ("librispeech",),
    "facebook/hubert-large-ll60k": ("libri-light",),
    "facebook/hubert-xlarge-ll60k": ("libri-light",),
    "facebook/hubert-large-ls960-ft": ("libri-light", "librispeech"),
    "facebook/data2vec-audio-base": ("librispeech",),
    "facebook/data2vec-audio-base-960h": ("librispeech",),
    "microsoft/wavlm-base": ("librispeech",),
    "microsoft/wavlm-base-plus": MIX_94K,
    "microsoft/wavlm-large": MIX_94K,
    "microsoft/wavlm-base-sv": ("librispeech", "voxceleb1"),
    "microsoft/wavlm-base-plus-sv": (*MIX_94K, "voxceleb1"),
    "microsoft/unispeech-sat-base": ("librispeech",),
    "microsoft/unispeech-sat-base-plus": MIX_94K,
    "microsoft/unispeech-sat-large": MIX_94K,
    "microsoft/unispeech-sat-base-sv": ("librispeech", "voxceleb1"),
    "microsoft/unispeech-sat-base-plus-sv": (*MIX_94K, "voxceleb1"),
    "microsoft/unispeech-sat-large-sv": (*MIX_94K, "voxceleb1"),
    "speechbrain/spkrec-ecapa-voxceleb": ("voxceleb1", "voxceleb2"),
    "LanceaKing/spkrec-ecapa-cnceleb": ("cnceleb",),
    "campplus_voxceleb.bin": ("voxceleb2",),
    "voxceleb_resnet34.onnx": ("voxceleb2",),
    "voxceleb_resnet34_LM.onnx": ("voxceleb2",),
    "wespeaker_en_voxceleb_CAM++.onnx": ("voxceleb2",),
    "wespeaker_en_voxceleb_CAM++_LM.onnx": ("voxceleb2",),
    "wespeaker_en_voxceleb_resnet34.onnx": ("voxceleb2",),
    "wespeaker_en_voxceleb_resnet34_LM.onnx": ("voxceleb2",),
    "cnceleb_resnet34.onnx": ("cnceleb",),
    "cnceleb_resnet34_LM.onnx": ("cnceleb",),
    "wespeaker_zh_cnceleb_resnet34.onnx": ("cnceleb",),
    "wespeaker_zh_cnceleb_resnet34_LM.onnx": ("cnceleb",),
    "3dspeaker_speech_campplus_sv_en_voxceleb_16k.onnx": ("voxceleb2",),
    "3dspeaker_speech_eres2net_sv_en_voxceleb_16k.onnx": ("voxceleb2",),
    "3dspeaker_speech_eres2net_base_sv_zh-cn_3dspeaker_16k.onnx": ("3d-speaker",),
    "music_speech_audioset_epoch_15_esc_89.98.pt": CLAP_MUSIC_SPEECH,
    "saved_model.bilstm.mean.all.gpu100000.pt": ("librispeech",),
    "saved_model.bilstm.mean.all.specaug.gpu100000.pt": ("librispeech",),
    "saved_model.bilstm.mean.clean100.gpu100000.pt": ("librispeech",),
    "saved_model.bilstm.mean.clean100.specaug.gpu100000.pt": ("librispeech",),
    "saved_model.transformer.clean100.specaug.gpu100000.pt": ("librispeech",),
}
# Digest -> corpora: of published files and tensors that have other names, or none of their own.
DIGESTS: dict[str, tuple[str, ...]] = {
    # SHA-256 of SpeechBrain's file, which is called embedding_model.ckpt for every corpus
    "0575cb64845e6b9a10db9bcb74d5ac32b326b8dc90352671d345e2ee3d0126a2": ("voxceleb1", "voxceleb2"),
    # `tensors_digest` of Resemblyzer's network, whose file is called pretrained.pt
    "f3df6f9679bfb702c41f5ea2cf995db1388bdcad40409011578f30a7195f573d": ("librispeech", "voxceleb1", "voxceleb2"),
}
# Corpora that are cut from one collection of recordings, LibriVox: a speaker may be in all of them.
LIBRIVOX = {"librispeech", "librilight", "multilinguallibrispeech", "libritts", "librittsr"}


def training_corpora(weights: str | Path, digest: str | None = None) -> list[str] | str:
    """Return the corpora that published weights were trained on, by their digest, their id on the hub or their file.

    Parameters
    ----------
    weights : path-like
        An id, a file, or the folder of a model, which has the name of the id or its last part.
    digest : str or None
        Digest of the file or of its tensors.

    Returns
    -------
    list of str, or ``unknown``
    """
    if digest in DIGESTS:
        return list(DIGESTS[digest])
    parts = Path(weights).absolute().parts[-2:]
    for name, corpora in CORPORA.items():
        if name in ("/".join(parts), parts[-1]) or (Path(weights).is_dir() and name.endswith(f"/{parts[-1]}")):
            return list(corpora)
    return UNKNOWN


def corpora_with_speakers_of(corpus: str, spec: Spec) -> list[str]:
    """Return the training corpora of an encoder that may have the speakers of a corpus.

    For a trained network, whose speakers are known, only the corpora of its pretrained weights are returned. They are
    the corpus itself, its numbered parts, such as VoxCeleb1 of VoxCeleb, and for corpora of LibriVox the others of
    LibriVox. Case and punctuation of names do not matter.

    Parameters
    ----------
    corpus : str
        Name of a corpus.
    spec : dict
        Spec of an encoder; specs of earlier versions have no ``trained_on``.
    """
    listed: Any = spec.get("pretrained_on" if "trained_speakers" in spec else "trained_on")
    return [str(name) for name in listed if _are_related(corpus, str(name))] if isinstance(listed, list) else []


def _are_related(corpus: str, other: str) -> bool:
    one, two = (re.sub(r"[\W_]", "", name.lower()) for name in (corpus, other))
    shorter, longer = sorted((one, two), key=len)
    is_part = bool(shorter) and longer.startswith(shorter) and (longer[len(shorter) :] or "0").isdecimal()
    return is_part or {one, two} <= LIBRIVOX
