"""`benchmarks/gpu.py` on the CPU with tiny networks: every encoder, its tables, its time limit and interruptions."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import gpu
from benchmarks.gpu import GpuBenchmark, main
from benchmarks.gpu_tables import Result
from benchmarks.random_weights import LEFT_OUT, MODELS
from command_line import EXIT_DONE
from encoders import ENCODERS, EncoderError, load_encoder

Table = dict[tuple[str, str], dict[str, str]]


def tiny(corpus_root: Path, models: tuple[str, ...] = (), time_budget: float = 10_000.0) -> GpuBenchmark:
    """Return settings of a run of a few seconds, which no time limit shortens unless one is given."""
    return GpuBenchmark(
        data_dir=corpus_root, n_files=4, device="cpu", repeats=1, time_budget=time_budget, models=models, size="tiny",
        seconds=1.0, max_batch=2, point_seconds=0.0,
    )  # fmt: skip


def read_tables(text: str) -> list[Table]:
    """Return the Markdown tables of a report: (model, precision) -> cells by the names of their columns."""
    tables = []
    for block in text.split("\n\n"):
        if block.startswith("| "):
            header, _, *rows = [
                [cell.strip().replace("\\", "") for cell in line.strip("|").split("|")] for line in block.splitlines()
            ]
            tables.append({(row[0], row[1]): dict(zip(header, row, strict=True)) for row in rows})
    return tables


def test_every_encoder_is_measured(corpus_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tiny(corpus_root)) == EXIT_DONE
    printed = capsys.readouterr().out
    stages, batches, parity = read_tables(printed)
    assert "no time" not in printed
    measured = {MODELS[model].encoder for model, _ in stages}
    assert {name for name in ENCODERS if f"- {name} is left out: " in printed} == {*ENCODERS} - measured
    assert {*ENCODERS} - measured <= {*LEFT_OUT}
    assert stages.keys() == batches.keys() == parity.keys()
    for (model, precision), cells in stages.items():
        assert all(float(cells[stage]) > 0 for stage in ("decoding", "transfer", "forward"))
        assert cells["batch"] in ("1", "2")
        assert float(batches[model, precision]["2"]) > 0
        assert batches[model, precision]["1"].endswith("*") == (MODELS[model].encoder != "resemblyzer")
        assert parity[model, precision]["same bits twice"] == "yes"
        assert float(parity[model, precision]["1 - cosine"]) < (1e-6 if precision == "fp32" else 0.01)
        assert float(parity[model, precision]["distance / norm"]) < (1e-4 if precision == "fp32" else 0.1)
    assert ("audiosep", "bf16") in stages
    assert ("audiosep", "fp16") not in stages  # on CPUs, it is slower than fp32


def test_random_weights_are_those_of_the_published_size(tmp_path: Path) -> None:
    path, _ = MODELS["campplus"].weights(tmp_path / "weights", is_tiny=False)
    assert load_encoder("campplus", path, "cpu").dim == 192


def test_it_ends_when_the_time_is_up(corpus_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tiny(corpus_root, ("campplus", "audiosep"), time_budget=0.01)) == EXIT_DONE
    assert "- There was no time to finish: campplus, audiosep." in capsys.readouterr().out


def test_an_interrupted_run_prints_what_it_has(
    corpus_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, result: Result, **__: object) -> None:
        if result.model == "audiosep":
            raise KeyboardInterrupt
        result.rates[1] = 2.0

    monkeypatch.setattr(gpu, "measure_batches", interrupt)
    with pytest.raises(KeyboardInterrupt):
        main(tiny(corpus_root, ("spectral", "audiosep", "campplus")))
    printed = capsys.readouterr().out
    stages, _, parity = read_tables(printed)
    assert stages["spectral", "fp32"]["forward"] == "2"
    assert float(parity["audiosep", "fp32"]["1 - cosine"]) < 1e-6
    assert "- There was no time to finish: audiosep, campplus." in printed


def test_a_model_that_fails_does_not_stop_the_others(
    corpus_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, result: Result, **__: object) -> None:
        if result.model == "audiosep":
            raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr(gpu, "compare", fail)
    assert main(tiny(corpus_root, ("audiosep", "spectral"))) == EXIT_DONE
    printed = capsys.readouterr().out
    assert "- audiosep in bf16: no kernel\n" in printed
    assert float(read_tables(printed)[0]["spectral", "fp32"]["forward"]) > 0


def test_batches_that_do_not_fit_into_memory_are_shown(
    corpus_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(_: object, batch: Tensor, *__: object, **___: object) -> tuple[float, float, float]:
        if len(batch) == 2:
            raise torch.OutOfMemoryError
        return 0.0, 3.0, 4e9

    monkeypatch.setattr(gpu, "measure_forward", measure)
    assert main(tiny(corpus_root, ("spectral",))) == EXIT_DONE
    stages, batches, _ = read_tables(capsys.readouterr().out)
    assert stages["spectral", "fp32"]["memory, GB"] == "4"
    assert (batches["spectral", "fp32"]["1"], batches["spectral", "fp32"]["2"]) == ("3*", "no memory")


def test_an_unknown_model_is_refused(corpus_root: Path) -> None:
    with pytest.raises(EncoderError, match="model 'camplus'"):
        main(tiny(corpus_root, ("camplus",)))


def test_the_best_batch_is_the_smallest_of_nearly_equal_rates() -> None:
    result = Result("campplus", "fp32", "random", sample_rate=16_000, default=64)
    assert result.best == 0
    result.rates = {1: 0.5, 2: 1.0, 4: 1.985, 8: 2.0, 16: 1.9}
    assert result.best == 4
    assert math.isnan(result.transfer)
