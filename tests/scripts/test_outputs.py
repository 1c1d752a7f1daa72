"""Outputs never destroy a file: what each setting reads and writes, and the refusal before any work."""

import os
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

import config
from config import (
    ComparisonConfig,
    DescribeConfig,
    EnrollConfig,
    EvaluateConfig,
    ExtractionConfig,
    IdentifyConfig,
    InferenceConfig,
    MergeConfig,
    ReportConfig,
    ScoreConfig,
    ScriptConfig,
    SegmentsConfig,
    TrainingConfig,
    TrainVerifierConfig,
)
from configs.paths import (
    COMPARISON_FILES,
    DESCRIPTION_FILES,
    EVALUATION_FILES,
    REPORT_FILES,
    SEGMENTS_FILES,
    TRAINING_FILES,
    Writes,
    WritesInto,
    marks_of,
)
from files import OutputError
from sample.make_sample import check_output_dir

Call = Callable[..., Any]
Check = Callable[..., None]
ROOT = Path(__file__).parents[2]
CONFIGS = [each for each in vars(config).values() if isinstance(each, type) and issubclass(each, ScriptConfig)]


def has_path(annotation: Any) -> bool:
    return annotation is Path or any(map(has_path, get_args(annotation)))


@pytest.mark.parametrize("config_class", CONFIGS)
def test_every_setting_with_a_path_says_what_is_done_with_it(config_class: type[ScriptConfig]) -> None:
    for name, annotation in get_type_hints(config_class, include_extras=True).items():
        expected = 1 if has_path(annotation) or name in ("encoder_weights", "init_weights") else 0
        assert len(marks_of(annotation)) == expected, name
        if name.startswith("output"):
            assert isinstance(marks_of(annotation)[0], Writes | WritesInto), name


@pytest.mark.parametrize("config_class", CONFIGS)
def test_files_are_found_in_the_other_unicode_form(config_class: type[ScriptConfig], tmp_path: Path) -> None:
    given, on_disk = (tmp_path / unicodedata.normalize(form, "Zoë") / "x.pt" for form in ("NFC", "NFD"))
    on_disk.parent.mkdir()
    on_disk.touch()
    inputs: dict[str, Any] = {each.name: () for each in fields(config_class) if each.default is MISSING}
    for name, annotation in get_type_hints(config_class, include_extras=True).items():
        if marks_of(annotation):
            paths = [path if has_path(annotation) else str(path) for path in (given, on_disk)]
            values = [(path,) if get_origin(annotation) is tuple else path for path in paths]
            found, expected = (config_class(**{**inputs, name: value}) for value in values)
            assert found == expected, name
            assert getattr(found, name) == values[1], name


FOLDERS = [
    (lambda folder: ComparisonConfig(corpus=(), output_dir=folder), COMPARISON_FILES),
    (lambda folder: EvaluateConfig(output_dir=folder, triplets=50), EVALUATION_FILES),
    (lambda folder: ReportConfig(folder=(folder,)), REPORT_FILES),
    (lambda folder: TrainingConfig(corpus=(), output_dir=folder), TRAINING_FILES),
    (lambda folder: SegmentsConfig(output_dir=folder), SEGMENTS_FILES),
    (lambda folder: DescribeConfig(corpus=(), output_dir=folder), DESCRIPTION_FILES),
]


@pytest.mark.parametrize(("make", "kinds"), FOLDERS)
def test_no_file_of_the_user_is_overwritten_in_a_folder(
    make: Callable[[Path], ScriptConfig], kinds: dict[str, str], tmp_path: Path
) -> None:
    make(tmp_path).check_outputs(corpus="calls")
    for pattern in kinds:
        path = tmp_path / pattern.format(corpus="calls").replace("*", "_2")
        path.write_text("my notes\n")
        with pytest.raises(OutputError) as refused:
            make(tmp_path).check_outputs(corpus="calls")
        assert str(refused.value).startswith(f"{path}: this is ")
        assert "give another --" in str(refused.value)
        path.write_text("")  # an empty file has nothing to lose
        make(tmp_path).check_outputs(corpus="calls")
        path.unlink()


def test_files_that_are_not_outputs_stay_beside_them(tmp_path: Path) -> None:
    for name in ("manifest.csv", "metrics.txt", "speakers.jpg", "other_scaler.pt", "speaker_classifier_other.pt"):
        (tmp_path / name).write_text("path,speaker\n")
    ComparisonConfig(corpus=(), data_dir=tmp_path, output_dir=tmp_path).check_outputs(corpus="calls")


def test_own_files_are_overwritten_and_those_of_another_command_are_not(
    trained: Path, trained_features: Path, call_script: Call, assert_refused: Check, tmp_path: Path
) -> None:
    evaluated = tmp_path / "evaluated"
    formats = ["--table_format", "markdown", "--picture_formats", "png", "pdf", "svg"]
    evaluate = ["speaker_verification.py", "evaluate", "--features_path", trained_features, "--output_dir", evaluated]
    done = call_script(*evaluate, *formats, "--triplets", 50)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in evaluated.iterdir()} == {*EVALUATION_FILES} - {"table.tex"}
    outputs = Path(shutil.copytree(trained, tmp_path / "trained"))
    done = call_script("make_report.py", outputs, "--table_format", "latex", "--picture_formats", "pdf", "svg")
    assert done.returncode == 0, done.stderr
    written = {path.name for path in outputs.iterdir()} - {trained_features.name}
    expected = {name.format(corpus="librispeech") for name in COMPARISON_FILES if "*" not in name}
    assert written == expected - {"table.md"}
    own = [
        EvaluateConfig(output_dir=evaluated),
        ReportConfig(folder=(evaluated,)),
        ReportConfig(folder=(outputs,)),
        ComparisonConfig(corpus=(), output_dir=outputs),
    ]
    for each in own:
        each.check_outputs(corpus="librispeech")
    for other in (EvaluateConfig(output_dir=outputs), ComparisonConfig(corpus=(), output_dir=evaluated)):
        with pytest.raises(OutputError, match=r"metrics\.(json|csv): this is a file of (verification )?results"):
            other.check_outputs(corpus="librispeech")


def test_a_refused_output_costs_no_work_and_changes_nothing(
    corpus_root: Path, trained: Path, trained_features: Path, call_script: Call, assert_refused: Check, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "results"))
    notes = {name: tmp_path / "results" / name for name in ("answers.csv", "report.html")}
    for path in notes.values():
        path.write_text("my notes\n")
    manifest, settings = tmp_path / "manifest.csv", tmp_path / "settings.yaml"
    manifest.write_text("path,speaker\na.wav,anna\n")
    settings.write_text("top_k: 3\n")
    before = {path: path.read_bytes() for path in [*folder.iterdir(), manifest, settings]}
    verify = "speaker_verification.py"
    identify = [verify, "identify", corpus_root / "101", "--store", tmp_path / "none.db"]
    for arguments, found in (
        (["extract_features.py", corpus_root, "--encoder", "spectral", "--features_path", manifest], "a manifest"),
        (["speaker_recognition_librispeech.py", corpus_root, "--encoder", "spectral", "--output_dir", folder], ".csv"),
        (["speaker_recognition_inference.py", corpus_root / "101", "--output", manifest], "a manifest of a corpus"),
        (["speaker_recognition_inference.py", corpus_root, "--config", settings, "--output", settings], "ends in .csv"),
        ([*identify, "--output", manifest], "this is a manifest of a corpus"),
        ([verify, "evaluate", "--features_path", trained_features, "--output_dir", folder], "metrics.json: this is"),
        ([verify, "enroll", "--data_dir", manifest, "--store", manifest], "this is an input"),
        ([verify, "enroll", "--verifier", "ready", "--data_dir", corpus_root, "--store", manifest], "a manifest"),
        (["make_report.py", folder], "report.html: this is a file of an unknown kind"),
    ):
        assert_refused(call_script(*arguments), found)
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(tmp_path.iterdir()) == sorted([folder, manifest, settings])


def test_a_list_of_trials_in_the_folder_of_the_results_can_be_scored(tmp_path: Path) -> None:
    trials = tmp_path / "trials.txt"
    trials.write_text("1 a.wav b.wav\n")
    EvaluateConfig(trials=trials, output_dir=tmp_path).check_outputs()
    trials.write_text("my notes\n")  # not written without --triplets
    EvaluateConfig(output_dir=tmp_path).check_outputs()
    with pytest.raises(OutputError, match=r"trials\.txt: this is a file of an unknown kind"):
        EvaluateConfig(output_dir=tmp_path, triplets=50).check_outputs()


def test_links_and_other_spellings_are_the_same_file(tmp_path: Path) -> None:
    features, link = tmp_path / "features.csv", tmp_path / "link.csv"
    features.write_text("")
    link.symlink_to(features)
    os.link(features, tmp_path / "hard.csv")
    for output in (link, tmp_path / "hard.csv", tmp_path / "new" / ".." / "features.csv"):
        with pytest.raises(OutputError, match="this is an input, which the output would overwrite"):
            ScoreConfig(features_path=features, output=output).check_outputs()


def test_each_input_is_protected_from_each_output(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("")
    for made in (
        InferenceConfig(audio=(path,), output=path),
        InferenceConfig(audio=(), classifier=path, output=path),
        InferenceConfig(audio=(), encoder_weights=(str(path),), output=path),
        IdentifyConfig(audio=(path,), output=path),
        IdentifyConfig(audio=(), store=path, output=path),
        ScoreConfig(config=path, output=path),
        TrainVerifierConfig(features_path=path, output=path),
        ExtractionConfig(corpus=(path,), features_path=path),
        EnrollConfig(audio=(path,), name="anna", store=path),
        EnrollConfig(audio=(), rttm=path, store=path),
        MergeConfig(store=path, other=path),
    ):
        with pytest.raises(OutputError, match=r"x\.csv: this is an input"):
            made.check_outputs()


def test_outputs_that_cannot_be_written_are_refused_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for output, reason in (
        (tmp_path / "file" / "x.csv", "Not a directory"),
        (tmp_path / "file" / "below" / "x.csv", "Not a directory"),
        (tmp_path / f"{'x' * 260}.csv", "too long"),
        (tmp_path / ("y" * 300) / "x.csv", "too long"),
        (tmp_path / "nul\0.csv", "null"),
    ):
        with pytest.raises(OutputError, match=reason):
            ScoreConfig(output=output).check_outputs()
        with pytest.raises(OutputError, match=reason):
            EvaluateConfig(output_dir=output).check_outputs()
    with pytest.raises(OutputError, match="too long"):  # that of the temporary file would be
        ScoreConfig(output=tmp_path / f"{'x' * 248}.csv").check_outputs()
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OutputError, match=r"folder\.csv: this is a folder"):
        ScoreConfig(output=tmp_path / "folder.csv").check_outputs()
    with pytest.raises(OutputError, match="this is a file of an unknown kind"):
        TrainVerifierConfig(output=Path(os.devnull)).check_outputs()
    ScoreConfig(output=tmp_path / "new" / "deep" / "x.csv").check_outputs()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_the_sample_does_not_replace_another_librispeech(tmp_path: Path) -> None:
    speakers = tmp_path / "LibriSpeech" / "SPEAKERS.TXT"
    check_output_dir(tmp_path)
    speakers.parent.mkdir()
    speakers.write_text("84   | F | dev-clean        | 8.02  | Christie Nowak\n")
    with pytest.raises(SystemExit, match="this is not the list of the sample; give another --output_dir"):
        check_output_dir(tmp_path)
    check_output_dir(ROOT / "sample")
