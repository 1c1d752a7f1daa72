"""Behaviour that the scripts share: help, version, settings from a file, refusals, interruptions."""

import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from command_line import parse
from config import ComparisonConfig, EnrollConfig, InferenceConfig
from encoders import Encoder
from files import VERSION

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Check = Callable[..., None]
EXTRACT = "extract_features.py"
COMPARE = "speaker_recognition_librispeech.py"
INFER = "speaker_recognition_inference.py"
REPORT = "make_report.py"
VERIFY = "speaker_verification.py"
VERIFICATION_COMMANDS = (
    "evaluate",
    "train",
    "verify",
    "enroll",
    "remove",
    "list",
    "export",
    "merge",
    "identify",
    "score",
)
SCRIPTS = [[script] for script in (EXTRACT, COMPARE, INFER, REPORT)]
PREPARE = "prepare_data.py"
PREPARATION_COMMANDS = ("segments", "download", "describe")
COMMANDS = [
    *SCRIPTS,
    *([VERIFY, command] for command in VERIFICATION_COMMANDS),
    *([PREPARE, command] for command in PREPARATION_COMMANDS),
]
# Runs a script, and prints the heavy libraries that it imported to stderr.
PROBE = """
import runpy, sys
sys.argv = sys.argv[1:]
code = None
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as stop:
    code = stop.code
heavy = {"torch", "torchaudio", "numpy", "scipy", "sklearn", "soundfile", "av", "transformers", "matplotlib"}
print(code, sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


def assert_light(script: str, *arguments: str) -> str:
    """Check that a script exits with 0 without importing a heavy library; return its output."""
    command = [sys.executable, "-c", PROBE, str(ROOT / script), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "0 []"
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_imports_no_heavy_library(command: list[str]) -> None:
    assert "--log_level" in assert_light(*command, "--help")


@pytest.mark.parametrize(
    ("script", "commands", "line"),
    [
        (VERIFY, VERIFICATION_COMMANDS, "evaluate    Score trials"),
        (PREPARE, PREPARATION_COMMANDS, "describe    Describe what is in a corpus"),
    ],
)
def test_help_of_a_script_lists_its_commands(script: str, commands: tuple[str, ...], line: str) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        printed = assert_light(script, *arguments)
        assert tuple(line.split()[0] for line in printed.splitlines()[2:]) == commands
        assert line in printed


@pytest.mark.parametrize(
    "command", [*SCRIPTS, [VERIFY], [VERIFY, "enroll"], [VERIFY, "verify"], [PREPARE]], ids=" ".join
)
def test_version_imports_no_heavy_library(command: list[str]) -> None:
    printed = assert_light(*command, "--version")
    assert re.fullmatch(rf"Voxprobe {re.escape(VERSION)}( \([0-9a-f]{{12}}(-dirty)?\))?\n", printed)


def test_help_and_version_exit_with_0(run_script: Run) -> None:
    for flag, text in (("--help", "--data_dir"), ("--version", VERSION)):
        done = run_script(EXTRACT, flag)
        assert (done.returncode, done.stderr) == (0, "")
        assert text in done.stdout


def test_flags_override_the_settings_of_a_yaml_file(trained_features: Path, call_script: Run, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("heads: [lda, linear]\nseed: 7\nepochs: 3\nmax_duration: null\nfractions: [0.5, 0.25, 0.25]\n")
    flags = ["--features_path", trained_features, "--seed", 8, "--output_dir", tmp_path / "out"]
    done = call_script(COMPARE, "--config", settings, *flags)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "metrics.json").read_text())["rows"]
    assert [(row["head"], row["seed"]) for row in rows] == 2 * [("lda", 8), ("linear", 8)]


def test_bad_yaml_files_are_refused(call_script: Run, assert_refused: Check, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    for text, *words in (
        ("# heads\n  \nepoch: 3\n", "line 3, column 1: ", "'epoch'", "perhaps you meant 'epochs'"),
        ("output_dir:\n", "line 1, column 12: output_dir is empty"),
        ("seed: 1\nepochs: many\n", "line 2, column 9: epochs is 'many'; expected a whole number."),
        ("heads:\n  - lda\n  - lad\n", "line 2, column 3: There is no head 'lad'; perhaps you meant 'lda'."),
        ("tune: 3\n", "line 1, column 7: tune is 3; expected true or false."),
        ("pooling: max\n", "line 1, column 10: pooling is 'max'; expected mean or mean+std or last or none."),
        ("fractions: [1, 2]\n", "line 1, column 12: fractions is [1, 2]; expected a list of 3, each a number."),
        ("patience: 12:30\n", "line 1, column 11: patience is '12:30'; expected a whole number."),
        ("seed: 0x1F\n", "line 1, column 7: seed is '0x1F'; expected a whole number."),
        ("fractions: [1:30, 0.1, 0.1]\n", "fractions is ['1:30', 0.1, 0.1]; expected a list of 3, each a number."),
        ("lr: 1e-3\nepochs: 0\n", "line 2, column 9: --epochs is 0; expected 1 to 1e+06."),
        ("epochs: 3\nseed: 1\nepochs: 4\n", "line 3, column 1: epochs is given twice"),
        ("- 3\n", "settings.yaml: ", "found a list"),
        ("50\n", "settings.yaml: ", "found one value"),
        ("epochs: 2024-30-01\n", "line 1, column 9: epochs is '2024-30-01', which cannot be read (month must be"),
        ("tune: !!bool maybe\n", "line 1, column 7: tune is 'maybe', which cannot be read"),
        ("? [2024-30-01]\n: 3\n", "line 1, column 3: There is no setting"),
        ("pattern: {a: b}\n", "line 1, column 10: pattern is {'a': 'b'}; expected text or none."),
        ("epochs: " + 5000 * "[" + 5000 * "]", "settings.yaml: its values are nested too deeply"),
        ("heads: &again [*again]\n", "settings.yaml: its values are nested too deeply"),
        ("seed: 1\nheads: [lda\n", "line 3, column 1: this cannot be read as a YAML file"),
        ("seed: 1\nheads: lda: 3\n", "line 2, column 11: this cannot be read as a YAML file"),
        ("seed: !!python/object/apply:os.getcwd []\n", "line 1, column 7: this cannot be read as a YAML file"),
    ):
        settings.write_text(text)
        assert_refused(call_script(COMPARE, "--config", settings), *words)
    assert_refused(call_script(COMPARE, "--config", tmp_path / "none.yaml"), "none.yaml")


def test_a_flag_that_overrides_the_settings_is_refused_without_their_place(
    call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("epochs: 3\n")
    done = call_script(COMPARE, "--config", settings, "--epochs", 0)
    assert_refused(done, "ERROR --epochs is 0; expected 1 to 1e+06.")


@pytest.mark.parametrize("name", ["007", "1.10", "12_3", "12:30", "No", "2024-30-01", "0x1F", "Anna Bell"])
def test_texts_of_a_settings_file_are_read_as_they_are_written(name: str, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"name: {name}\nstore: {name}\nencoder: ~\n")
    config = parse(EnrollConfig, ["a.wav", f"--config={settings}"])
    assert (config.name, config.store, config.encoder) == (name, Path(name), None)
    settings.write_text(f"encoder_weights: [{name}]\n")
    assert parse(ComparisonConfig, [f"--config={settings}"]).encoder_weights == (name,)


def test_numbers_of_a_settings_file_are_read_as_those_of_flags(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("seed: 010\npatience: 1_000\nlr: 1.0e-3\nmax_duration: 08.50\nfractions: [0.5, .25, 2.5e-1]\n")
    config = parse(ComparisonConfig, [f"--config={settings}"])
    assert (config.seed, config.patience, config.lr, config.max_duration) == (10, 1000, 0.001, 8.5)
    assert config.fractions == (0.5, 0.25, 0.25)


def test_a_settings_file_is_found_in_the_other_unicode_form(tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "Zoë.yaml") for form in ("NFC", "NFD"))
    (tmp_path / nfd).write_text("seed: 7\n")
    config = parse(ComparisonConfig, [f"--config={tmp_path / nfc}"])
    assert (config.seed, config.config) == (7, tmp_path / nfd)


def test_a_settings_file_of_another_program_is_read_or_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_bytes("pattern: Zoë_*\r\nseed: 3\r\n".encode("utf-8-sig"))
    config = parse(ComparisonConfig, [f"--config={settings}"])
    assert (config.pattern, config.seed) == ("Zoë_*", 3)
    for encoding, message in (
        ("utf-16", "this text is in UTF-16; expected a text in UTF-8. Save"),
        ("latin-1", "0xeb"),
    ):
        settings.write_bytes("pattern: Zoë_*\n".encode(encoding))
        with pytest.raises(SystemExit) as refused:
            parse(ComparisonConfig, [f"--config={settings}"])
        assert refused.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("config_class", [ComparisonConfig, InferenceConfig])
def test_a_list_at_the_end_of_a_settings_file_leaves_the_inputs(
    config_class: type[ComparisonConfig | InferenceConfig], tmp_path: Path
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("encoder_weights: [auto]\n")
    for arguments in (["flat", "--config", str(settings)], ["--config", str(settings), "flat"]):
        config = parse(config_class, arguments)
        assert config.encoder_weights == ("auto",)
        assert getattr(config, "corpus" if config_class is ComparisonConfig else "audio") == (Path("flat"),)


def test_inputs_override_those_of_a_settings_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("data_dir: other\nseed: 7\n")
    config = parse(ComparisonConfig, ["corpus", "--config", str(settings)])
    assert (config.data_dir, config.seed) == (Path("corpus"), 7)
    assert parse(ComparisonConfig, ["--config", str(settings)]).data_dir == Path("other")
    with pytest.raises(SystemExit):
        parse(ComparisonConfig, ["corpus", "--config", str(settings), "--data_dir", "third"])
    assert capsys.readouterr().err.startswith("ERROR The corpus is given as an argument and with --data_dir;")
    settings.write_text("audio_path: other.wav\n")
    assert parse(InferenceConfig, ["a.wav", "--config", str(settings)]).recordings == (Path("a.wav"),)
    settings.write_text("store: s.db\ndata_dir: other\n")
    with pytest.raises(SystemExit):
        parse(EnrollConfig, ["--config", str(settings), "--features_path", "x.pt"])
    assert f"{settings}, line 2, column 11: --features_path and --data_dir both" in capsys.readouterr().err


@pytest.mark.parametrize(("script", "words"), [(COMPARE, ["--heads", "lda"]), (INFER, ["--encoder_weights", "auto"])])
def test_an_input_that_a_list_took_is_named(
    script: str, words: list[str], call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    done = call_script(script, *words, tmp_path)
    assert_refused(done, f" If {tmp_path} is an input, write it before {words[0]}.")
    assert "is an input" not in call_script(script, *words, tmp_path / "none").stderr


def test_the_encoders_of_this_project_are_not_given_to_a_verifier(call_script: Run, assert_refused: Check) -> None:
    done = call_script(VERIFY, "verify", "a.wav", "b.wav", "--encoder", "spectral")
    assert_refused(done, "the encoder of this project that was saved is found by name, without --encoder.")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ([INFER, "a.wav", "--channel", "left"], "--channel is 'left'; expected a whole number or mean."),
        ([INFER, "a.wav", "--top_k=x"], "--top_k is 'x'; expected a whole number."),
        ([EXTRACT, "x", "--max_duration", "long"], "--max_duration is 'long'; expected a number or auto or none."),
        ([COMPARE, "--fractions", "0.8", "x", "0"], "--fractions is '0.8', 'x', '0'; expected a list of 3, each a num"),
    ],
)
def test_values_of_another_type_are_refused_in_a_sentence(
    command: list[str], sentence: str, call_script: Run, assert_refused: Check
) -> None:
    assert_refused(call_script(*command), f"ERROR {sentence}")


def test_unknown_flags_are_refused_with_a_similar_one(call_script: Run) -> None:
    done = call_script(COMPARE, "--head", "linear")
    assert done.returncode == 2
    assert "--heads" in done.stderr + done.stdout


def test_unknown_commands_are_refused_with_a_similar_one(call_script: Run, assert_refused: Check) -> None:
    assert_refused(call_script(VERIFY, "evalate"), "no command 'evalate'", "perhaps you meant 'evaluate'")


@pytest.mark.parametrize("script", [EXTRACT, COMPARE, INFER])
def test_missing_input_is_asked_for(script: str, call_script: Run, assert_refused: Check) -> None:
    assert_refused(call_script(script), "--audio_path" if script == INFER else "--data_dir")


def test_corpus_is_an_argument_or_a_flag(
    corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    settings = ["--encoder", "spectral", "--output_dir", tmp_path]
    for given in ([corpus_root], ["--data_dir", corpus_root], [corpus_root, "--data_dir", corpus_root]):
        done = call_script(EXTRACT, *given, *settings)
        assert done.returncode == 0, done.stderr
        assert "40 utterances, 4 speakers" in done.stdout
    done = call_script(COMPARE, corpus_root, *settings, "--heads", "lda")
    assert done.returncode == 0, done.stderr
    assert "Saved" in done.stdout
    for script in (EXTRACT, COMPARE):
        assert_refused(call_script(script, corpus_root, "--data_dir", tmp_path), "in one of the two ways")
        assert_refused(call_script(script, corpus_root, tmp_path), "Expected one corpus; found 2")
    in_file = tmp_path / "settings.yaml"
    in_file.write_text(f"corpus: {corpus_root}\n")
    assert_refused(call_script(EXTRACT, "--config", in_file), "no setting 'corpus'", "data_dir")


def test_recordings_are_arguments_or_a_flag(
    classifier: Path, corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    files = sorted((corpus_root / "102").rglob("*.flac"))
    settings = ["--classifier", classifier, "--output", tmp_path / "predictions.csv"]
    for given, n_files in (
        ([corpus_root / "102"], 10),
        ([*files[:2], corpus_root / "101"], 12),
        (["--audio_path", files[0]], 1),
    ):
        done = call_script(INFER, *given, *settings)
        assert done.returncode == 0, done.stderr
        assert len((tmp_path / "predictions.csv").read_text().splitlines()) == n_files + 1
    assert_refused(call_script(INFER, files[0], "--audio_path", files[1]), "in one of the two ways")
    done = call_script(INFER, files[0], tmp_path / "gone.wav", *settings)
    assert done.returncode == 3
    assert f"failed: {tmp_path / 'gone.wav'}: no such file" in done.stdout


def test_refusal_reaches_the_shell(run_script: Run, assert_refused: Check, tmp_path: Path) -> None:
    done = run_script(INFER, "--audio_path", tmp_path / "none")
    assert_refused(done, "none", "no such file or folder")
    assert done.stdout == ""


def test_names_that_the_terminal_cannot_show_are_escaped(
    classifier: Path, corpus_root: Path, run_script: Run, tmp_path: Path
) -> None:
    path = Path(shutil.copy(sorted((corpus_root / "102").rglob("*.flac"))[0], tmp_path / "Ω š.flac"))
    arguments = ["--audio_path", path, "--classifier", classifier, "--output", tmp_path / "p.csv"]
    done = run_script(INFER, *arguments, env={**os.environ, "PYTHONIOENCODING": "cp1252"}, encoding="cp1252")
    assert done.returncode == 0, done.stderr
    assert "Ω š.flac" in (tmp_path / "p.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("absent", "command"),
    [
        ("tyro", [EXTRACT]),
        ("tyro", [VERIFY, "list", "--help"]),
        ("yaml", [REPORT, "--config", "settings.yaml"]),
        ("torch", [EXTRACT, "--data_dir", "sample/LibriSpeech"]),
        ("scipy", [INFER, "--audio_path", "sample"]),
    ],
)
def test_an_absent_requirement_is_named_in_a_sentence(absent: str, command: list[str], assert_refused: Check) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.modules[{absent!r}] = None\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"sys.argv = {command!r}\n"
        f"runpy.run_path({str(ROOT / command[0])!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    package = {"yaml": "PyYAML"}.get(absent, absent)
    assert_refused(done, f"The package {package} is not installed; the Python that runs is {sys.executable}.")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_interrupted_extraction_is_continued_by_the_same_command(
    corpus_root: Path,
    call_script: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    encode, calls = Encoder.encode, iter(range(100))

    def encode_some(*arguments: Any, **options: Any) -> torch.Tensor:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return encode(*arguments, **options)

    data = ["--data_dir", corpus_root, "--encoder", "spectral", "--output_dir", tmp_path]
    command = [EXTRACT, *data, "--encoder_batch_size", 5, "--num_workers", 0]
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode", encode_some)
        done = call_script(*command)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Interrupted. Run the same command again to continue."
    done = call_script(*command)
    assert done.returncode == 0, done.stderr
    computed = re.search(r"40 utterances, (\d+) of them computed now", caplog.messages[-1])
    assert computed is not None
    assert 0 < int(computed[1]) < 40


@pytest.mark.parametrize(
    ("patched", "command", "advice"),
    [
        (
            "evaluation.compare_heads",
            [COMPARE, "--features_path", "FEATURES"],
            " The same command keeps finished embeddings, and trains all heads again.",
        ),
        ("verification.SpeakerVerifier.load", [VERIFY, "verify", "a.wav", "b.wav", "--verifier", "v.pt"], ""),
        ("features.FeatureSet.load", [VERIFY, "train", "--features_path", "FEATURES"], ""),
        ("heads.SpeakerClassifier.load", [INFER, "--audio_path", ROOT / "sample" / "held_out"], ""),
        ("reports.write_report", [REPORT], ""),
    ],
)
def test_interrupted_commands_say_if_they_can_continue(
    patched: str,
    command: list[object],
    advice: str,
    trained_features: Path,
    call_script: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(patched, interrupt)
    done = call_script(*(trained_features if word == "FEATURES" else word for word in command))
    assert done.returncode == 1
    assert done.stderr == f"Interrupted.{advice}\n"


@pytest.mark.parametrize("words", [["--encoder_options", "n_mfcc=20"], ["--window", "2"], ["--max_bandwidth", "4000"]])
def test_options_of_the_encoder_are_refused_with_a_finished_features_file(
    words: list[str], trained_features: Path, call_script: Run, assert_refused: Check
) -> None:
    done = call_script(COMPARE, "--features_path", trained_features, *words)
    assert_refused(done, f"{words[0]} has no effect on a finished features file")


def test_sigterm_interrupts_a_script_as_ctrl_c_does() -> None:
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['x.py']\n"
        "from command_line import run\nfrom config import ExtractionConfig\n"
        "def main(config):\n    print('begins', flush=True)\n    time.sleep(60)\nrun(ExtractionConfig, main)"
    )
    sleeper = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert sleeper.stdout is not None
    assert sleeper.stdout.readline() == "begins\n"
    sleeper.terminate()
    _, printed = sleeper.communicate(timeout=30)
    assert sleeper.returncode == 1
    assert printed == "Interrupted. Run the same command again to continue.\n"


def test_help_into_a_pipe_that_is_closed_prints_no_traceback() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as closed:
        done = subprocess.run(
            [sys.executable, str(ROOT / COMPARE), "--help"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.stderr == ""
