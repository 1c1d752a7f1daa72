"""Recognise what a file is, for the error message about a file of another kind. Nothing in the file is run."""

import csv
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from files.paths import is_utf8

FEATURES = "a features file, for --features_path"
ARRAYS = "an .npz file of features, for --features_path with a name that ends in .npz"
CLASSIFIER = "a speaker classifier, for --classifier of speaker_recognition_inference.py"
VERIFIER = "a speaker verifier, for --verifier of speaker_verification.py"
STORE = "a store of speakers, for --store of speaker_verification.py"
VOICES = "a file of exported speakers, for --features_path of speaker_verification.py enroll"
SCALER = "a scaler, which other programs can use"
RESULTS = "a file of results, which make_report.py reads from its folder --output_dir"
VERIFICATION_RESULTS = "a file of verification results, which make_report.py reads from its folder --output_dir"
TRAINING_RESULTS = "a file of training results, which make_report.py reads from its folder --output_dir"
TABLE = "a table of results, an output of the scripts"
REPORT = "a report, an output of the scripts"
PICTURE = "a picture of a report, an output of the scripts"
PREDICTIONS = "a file of predictions, an output of the scripts"
SCORES = "a file of scores, an output of speaker_verification.py score"
TRIALS = "a list of trials, for --trials of speaker_verification.py evaluate"
MANIFEST = "a manifest of a corpus, for --data_dir"
SEGMENTS = "a manifest of segments, for --data_dir"
CUTS = "a list of segments that prepare_data.py cut from recordings"
DESCRIPTION = "a description of a corpus, an output of prepare_data.py describe"
SETTINGS = "a YAML file of settings, for --config"
RTTM = "an RTTM file, for --rttm of speaker_verification.py enroll, and --segments of identify"
TURNS = "a list of turns, an output of speaker_verification.py identify"
AUDIO = "an audio file, for --audio_path (for --data_dir, give the folder that contains it)"
WEIGHTS = "a checkpoint of a network, for --encoder_weights"
ONNX = "an ONNX file of a network, for --encoder onnx --encoder_weights"
TRAINED = "a trained encoder, for --encoder trained --encoder_weights"
TRAINING = "a checkpoint of train_encoder.py, from which the same command continues"

# The first 12 bytes of audio files.
AUDIO_START = re.compile(
    rb"RIFF....WAVE|RIFX....WAVE|RF64....WAVE|riff\x2e\x91\xcf\x11|fLaC|OggS\x00|FORM....(?:AIFF|AIFC|8SVX)|\.snd\x00"
    rb"|caff\x00\x01|NIST_1A\n|Creative Voi|ID3[\x02-\x04]|\xff[\xe2\xe3\xf1\xf2\xf3\xf9\xfa\xfb]"
    rb"|....ftyp(?:M4[ABV] |3g[p2]|mp4|iso|qt  |dash)|\x1a\x45\xdf\xa3|#!AMR|0&\xb2u\x8ef\xcf\x11",
    re.DOTALL,
)
# First bytes of other files -> what they are.
STARTS = {b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture", b"%PDF": "a PDF file", b"\x1f\x8b": "a gzip archive"}
# An ONNX file begins with the version of its format, and then the next field.
ONNX_START = re.compile(rb"\x08[\x03-\x1f][\x12\x1a\x22\x28\x32\x3a\x42]")
# Text that matplotlib writes into its pictures; their beginnings are those of `STARTS`, and SVG.
DRAWN = re.compile(rb"Matplotlib (v|version)")
# Title of the reports of this and of earlier versions.
REPORT_TITLE = re.compile(r"<title>.*: speaker(s| recognition)</title>")
TABLE_START = re.compile(r"% Needs \\usepackage\{booktabs\}|(\*\*\\\[.*\n+)?\| .*\n\|(---|--:)")
# Bytes 68 to 71 of an SQLite file: the program that it belongs to. These are those of a store.
STORE_ID = b"VXPS"
# The keys of a saved dict -> what it is. The first set of which all keys are there decides.
KEYS = (
    ({"backend", "calibration", "open_set"}, VERIFIER),
    ({"head", "scaler", "speakers"}, CLASSIFIER),
    ({"members", "speakers"}, CLASSIFIER),
    ({"features", "labels", "models"}, VOICES),
    ({"features", "labels"}, FEATURES),
    ({"network", "front_end", "tensors"}, TRAINED),
    ({"identity", "epoch", "step", "members"}, TRAINING),
    ({"corpus", "root", "summary"}, DESCRIPTION),
    ({"rows", "summary"}, RESULTS),
    ({"rows", "selected_epoch"}, TRAINING_RESULTS),
    ({"rows", "notes", "command"}, VERIFICATION_RESULTS),
    ({"slope", "offset"}, "a calibration of scores, a part of a speaker verifier"),
    ({"name", "mean", "scale"}, SCALER),
    ({"model_type"}, "the settings of a model of the Hugging Face hub, whose folder is for --encoder_weights"),
)
# A part of a tensor's name -> the encoder that it belongs to.
TENSORS = {
    "xvector.dense.linear.weight": "campplus",
    "asp.tdnn.conv.conv.weight": "ecapa",
    "audio_branch.patch_embed.proj.weight": "audiosep",
    "feature_extractor.conv_layers.0.conv.weight": "wav2vec2",
    "similarity_weight": "resemblyzer",
    "lstm.weight_ih_l0": "scratch",
    "decoder.layers.0.multihead_attn.in_proj_weight": "scratch",
}
# Columns of a table -> what it is.
COLUMNS = (
    ({"path", "speaker", "probability", "error"}, PREDICTIONS),
    ({"path", "speaker", "session", "start", "duration", "channel", "name"}, SEGMENTS),
    ({"path", "speaker"}, MANIFEST),
    ({"file", "source", "source_bytes"}, CUTS),
    ({"id", "speaker", "session", "rate", "problem"}, DESCRIPTION),
    ({"id", "speaker", "score"}, SCORES),
    ({"start", "end", "speaker", "probability", "label"}, TURNS),
    ({"id", "speaker", "named"}, RESULTS),
    ({"id", "speaker", "pca_x"}, RESULTS),
    ({"speaker", "n_test", "accuracy"}, RESULTS),
    ({"speaker", "predicted", "count"}, RESULTS),
    ({"features", "backend"}, VERIFICATION_RESULTS),
    ({"features", "encoder"}, RESULTS),
    ({"backend", "false_accept", "miss"}, VERIFICATION_RESULTS),
    ({"backend", "targets", "nontargets"}, VERIFICATION_RESULTS),
    ({"epoch", "part", "network"}, TRAINING_RESULTS),
    ({"speaker", "train", "validation", "test"}, TRAINING_RESULTS),
    ({"quantity", "part", "low"}, TRAINING_RESULTS),
    ({"session", "epoch", "train_loss"}, TRAINING_RESULTS),
    ({"session", "speakers", "train_utterances"}, TRAINING_RESULTS),
    ({"network", "false_accept", "miss"}, TRAINING_RESULTS),
)
TRIAL = re.compile(r"[01]\s+\S+\s+\S+|\S+\s+\S+\s+(target|nontarget)")
# Names of settings that other files with lines like 'note: call anna' do not have.
SETTINGS_NAMES = (
    "audio_path", "backend", "batch_size", "classifier", "data_dir", "device", "download_weights",
    "encoder", "encoder_batch_size", "encoder_options", "encoder_weights", "ensemble", "epochs",
    "features_path", "fractions", "head_options", "heads", "log_level", "lr", "max_bandwidth", "max_duration",
    "num_workers", "output_dir", "patience", "p_known", "p_target", "picture_formats", "pooling", "precision",
    "reject", "rttm", "rttm_speaker", "scaler", "seed", "seeds", "split_by", "store", "store_dtype", "table_format",
    "top_k", "train_features", "trials", "tune", "tune_budget", "verifier",
)  # fmt: skip
SETTING = re.compile(rf"({'|'.join(SETTINGS_NAMES)}):(\s|$)")
TEXT_BYTES, JSON_BYTES, PICKLE_BYTES, PICTURE_BYTES = 65_536, 1 << 26, 1 << 26, 1 << 26


def other_kind(path: Path, expected: str, content: Any = None) -> str | None:
    """Return the error message for a file of a known kind that is not the expected one, otherwise None.

    Parameters
    ----------
    path : Path
        The file.
    expected : str
        Expected kind, such as ``a speaker verifier, as speaker_verification.py train saves one``.
    content : optional
        Content of the file, if it is loaded already.
    """
    found = describe_file(path) if content is None else describe_content(content)
    if found is None or found.partition(",")[0] in expected:
        return None
    return f"{path}: this is not {expected}; it is {found}."


def describe_file(path: Path) -> str | None:
    """Return what a file is and what it is for; None if it is of no known kind or cannot be read."""
    try:
        with open(path, "rb") as file:
            start = file.read(TEXT_BYTES)
        if start.startswith(b"SQLite format 3\x00"):
            return STORE if start[68:72] == STORE_ID else "an SQLite database of another program"
        if AUDIO_START.match(start):
            return AUDIO
        for magic, kind in STARTS.items():
            if start.startswith(magic):
                return PICTURE if _is_drawn(path) else kind
        if ONNX_START.match(start):
            return ONNX
        if start[8:9] == b"{" and b'"dtype"' in start:  # safetensors
            return _describe_names(start.decode("utf-8", "replace")) or WEIGHTS
        if zipfile.is_zipfile(path) or start.startswith(b"\x80"):  # a pickle
            return _describe_tensors(path)
        return None if b"\x00" in start else _describe_text(path, start.decode("utf-8", "replace"))
    except OSError:
        return None


def describe_content(content: Any) -> str | None:
    """Return what the content of a file of tensors or of a JSON file is, and what it is for; None if not known."""
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return PREDICTIONS if {"path", "predictions"} <= content[0].keys() else None
    if not isinstance(content, Mapping):
        return None
    for keys, kind in KEYS:
        if keys <= content.keys():
            return kind
    if "format" in content:  # a file of this project, which may be damaged
        return None
    states = [each for each in (content, *content.values()) if isinstance(each, Mapping)]
    names = "\n".join(str(name) for state in states for name in state)
    # The names of a network's tensors have the names of its parts before a point.
    is_state = any(
        any("." in str(name) for name in state) and all(hasattr(value, "shape") for value in state.values())
        for state in states
    )
    return _describe_names(names) or (WEIGHTS if is_state else None)


def _describe_names(text: str) -> str | None:
    """Return which encoder a checkpoint is for, from a text that has the names of its tensors."""
    encoders = [encoder for name, encoder in TENSORS.items() if name in text]
    return f"a checkpoint of a network, for --encoder {encoders[0]} --encoder_weights" if encoders else None


def _describe_tensors(path: Path) -> str | None:
    """Describe a file of `torch.save`, which is opened with ``weights_only=True``, or another archive."""
    import torch

    encoder = None
    try:
        is_archive = zipfile.is_zipfile(path)
        if is_archive:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                if {"features.npy", "labels.npy", "models.npy"} <= set(names):
                    return VOICES
                if {"features.npy", "labels.npy"} <= set(names):
                    return ARRAYS
                pickles = [name for name in names if name.endswith("/data.pkl")]
                if not pickles:
                    return "a zip archive"
                if archive.getinfo(pickles[0]).file_size > PICKLE_BYTES:
                    return None
                # Checkpoints with objects, which are not loaded, are recognised by the names of their tensors.
                encoder = _describe_names(archive.read(pickles[0]).decode("utf-8", "replace"))
        is_mapped = is_archive and is_utf8(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped)
    except Exception:  # on arbitrary bytes, the archive and the unpickler can raise any error
        return encoder
    is_own = isinstance(content, Mapping) and "format" in content  # its tensors may be those of any encoder's network
    return describe_content(content) or (None if is_own else encoder)


def _describe_text(path: Path, text: str) -> str | None:
    """Describe a text file by its first lines; JSON by its content."""
    stripped = text.lstrip("\ufeff \t\r\n")
    if stripped.startswith(("{", "[")):
        if path.stat().st_size > JSON_BYTES:
            return None
        try:
            kind = describe_content(json.loads(path.read_text(encoding="utf-8-sig")))
            return "the ready verifier as JSON, for --verifier ready" if kind == VERIFIER else kind
        except (ValueError, RecursionError):  # YAML may begin like this too
            return None
    if stripped[:14].lower().startswith(("<!doctype html", "<html")):
        return REPORT if REPORT_TITLE.search(text) else "a web page"
    if stripped.startswith(("<?xml", "<svg")):
        return PICTURE if _is_drawn(path) else None
    if TABLE_START.match(stripped):
        return TABLE
    lines = [line for line in stripped.splitlines() if line.strip() and not line.startswith("#")]
    first = lines[0] if lines else ""
    if first.startswith("SPEAKER "):
        return RTTM
    if len(lines) > 1 and all(TRIAL.fullmatch(line.strip()) for line in lines[:2]):  # one line may be a sentence
        return TRIALS
    if any(SETTING.match(line) for line in lines):
        return SETTINGS
    return _describe_columns(next(csv.reader([first])) if "," in first else ())


def _is_drawn(path: Path) -> bool:
    """Return whether matplotlib made a picture; a PDF file says so at its end."""
    return path.stat().st_size <= PICTURE_BYTES and DRAWN.search(path.read_bytes()) is not None


def _describe_columns(columns: Sequence[str]) -> str | None:
    for names, kind in COLUMNS:
        if names <= {column.strip() for column in columns}:
            return kind
    return None
