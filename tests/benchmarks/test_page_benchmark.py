"""`benchmarks/page.py` with an encoder without weights, and few calls."""

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="Gradio, which serves the page, is not installed: see requirements-extra.txt")

from benchmarks.page import PageBenchmark, main
from command_line import EXIT_DONE
from corpora import load_corpus
from encoders import Encoder
from features import FeatureSet, extract
from verification import SpeakerVerifier

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux alone")
def test_everything_is_measured(
    spectral: Encoder, speech_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(load_corpus(ROOT / "sample" / "LibriSpeech"), spectral, tmp_path / "features.pt", progress=False)
    verifier = SpeakerVerifier.train(FeatureSet.load(tmp_path / "features.pt")).save(tmp_path / "verifier.pt")
    assert main(PageBenchmark(verifier=verifier, clients=2, quick=True)) == EXIT_DONE
    rows = dict(re.findall(r"^(\S.*?) {2,}(.+)$", capsys.readouterr().out, re.MULTILINE))
    seconds = [float(rows[f"start until the {name}: first time"].removesuffix(" s")) for name in
               ("page answers", "first recording is identified")]  # fmt: skip
    assert 0 < seconds[0] < seconds[1]
    one, several = (
        next(value for name, value in rows.items() if f"{text}," in name) for text in ("1 client", "2 clients at once")
    )
    for times in (one, several):
        median, high = (float(each.removesuffix(" ms")) for each in times.split(", "))
        assert 0 < median <= high
    for suffix in ("WAV", "FLAC"):
        name = f"timeline of 0.25 minutes, {suffix}: peak memory of the page (before it)"
        peak, before = map(int, re.findall(r"\d+", rows[name]))
        assert peak >= before > 0
    assert float(rows["10 s of audio identified, 2 clients at once: throughput"].split()[0]) > 0
