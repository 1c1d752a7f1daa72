"""Own encoders: their registration, and the digest of weights that are part of their code."""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from corpora import Corpus
from encoders import (
    Encoder,
    EncoderError,
    Spec,
    encoder_from_spec,
    encoder_options,
    lazy_encoder,
    load_encoder,
    register_encoder,
    spec_digest,
)
from encoders.own_encoder import add_own_weights
from encoders.spectral import SpectralEncoder
from features import FeaturesError, FeatureSet, default_file_name, extract

CPU = torch.device("cpu")


@dataclass(frozen=True)
class PowerOptions:
    """Options of the toy encoders."""

    dim: int = 3


class PowerEncoder(Encoder):
    """Constant vectors times the power; it has no tensors."""

    Options = PowerOptions

    @classmethod
    def describe(cls, weights: str | Path | None, options: PowerOptions) -> Spec:
        return {
            "name": "power", "version": 1, "sample_rate": 16_000, "dim": options.dim, "layers": [], "weights": None,
            "options": asdict(options),
        }  # fmt: skip

    def forward(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        power = waveforms.square().sum(1) / lengths
        return power[:, None].expand(-1, self.dim)


def with_tensor(value: float | None = None, *, persistent: bool = True, kind: str = "buffer") -> type[Encoder]:
    """Return a class of encoders that multiply by a tensor; None draws it at random each time."""

    class ScaledEncoder(PowerEncoder):
        scale: torch.Tensor

        def __init__(self, spec: Spec, weights: str | Path | None = None, device: torch.device = CPU) -> None:
            super().__init__(spec, weights, device)
            tensor = torch.rand(1) if value is None else torch.tensor([value])
            if kind == "buffer":
                self.register_buffer("scale", tensor, persistent=persistent)
            else:
                self.scale = torch.nn.Parameter(tensor)

        @classmethod
        def describe(cls, weights: str | Path | None, options: PowerOptions) -> Spec:
            return {**super().describe(weights, options), "name": "scaled"}

        def forward(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return self.scale * super().forward(waveforms, lengths)

    return ScaledEncoder


@pytest.fixture(autouse=True)
def _own_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encoders.registry.OWN_ENCODERS", {})


@pytest.fixture
def in_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that writes an encoder into a file, and returns the file and the class."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(name: str = "level", scale: float = 1.0) -> str:
        (tmp_path / "my_encoder.py").write_text(
            f"""
from dataclasses import dataclass
import torch
from encoders import Encoder

@dataclass(frozen=True)
class Options:
    pass

class LevelEncoder(Encoder):
    Options = Options

    def __init__(self, spec, weights=None, device=torch.device("cpu")):
        super().__init__(spec, weights, device)
        self.scale = torch.nn.Parameter(torch.tensor([{scale}]))

    @classmethod
    def describe(cls, weights, options):
        return dict(name={name!r}, version=1, sample_rate=16000, dim=1, layers=[], weights=None, options=dict())

    def forward(self, waveforms, lengths):
        return self.scale * (waveforms.square().sum(1) / lengths)[:, None]
"""
        )
        return f"{tmp_path}/my_encoder.py:LevelEncoder"

    return write


def test_digest_of_spectral_is_that_of_features_that_users_have() -> None:
    spec = lazy_encoder("spectral").spec
    assert spec["weights"] is None
    assert spec_digest(spec) == "acc37b9b12a0291ffed33b59d22a216ca8c3e8dd6f46783cde8d87db07843243"


@pytest.mark.parametrize("kind", ["buffer", "parameter"])
def test_tensors_of_an_encoder_without_weights_are_its_weights(kind: str) -> None:
    one, same, other = (lazy_encoder(with_tensor(value, kind=kind)).spec for value in (1.0, 1.0, 2.0))
    assert len(one["weights"]) == 64
    assert one == same
    assert one["weights"] != other["weights"]
    assert load_encoder(with_tensor(1.0, kind=kind), device="cpu").spec == one


def test_constants_that_are_not_persistent_are_no_weights() -> None:
    assert lazy_encoder(with_tensor(1.0, persistent=False)).spec["weights"] is None
    assert lazy_encoder(PowerEncoder).spec["weights"] is None


def test_described_weights_are_kept() -> None:
    class Described(PowerEncoder):
        @classmethod
        def describe(cls, weights: str | Path | None, options: PowerOptions) -> Spec:
            return {**super().describe(weights, options), "name": "described", "weights": "0" * 64}

        def __init__(self, *arguments: Any) -> None:
            raise AssertionError("an encoder with weights is built at its first use")

    assert lazy_encoder(Described).spec["weights"] == "0" * 64


def test_digest_is_that_of_the_encoder_that_is_used() -> None:
    lazy = lazy_encoder(with_tensor(None), device="cpu")  # other weights each time
    state = lazy.encoder.state_dict()
    assert lazy.spec == lazy.encoder.spec
    expected, _ = add_own_weights({**lazy.spec, "weights": None}, lambda spec, device: lazy.encoder)
    assert expected["weights"] == lazy.spec["weights"]
    assert torch.equal(lazy.build().state_dict()["scale"], state["scale"])


def test_other_weights_on_another_device_are_refused() -> None:
    """A GPU is only named here: `create` builds on the CPU."""
    spec = {**PowerEncoder.describe(None, PowerOptions()), "precision": "fp32"}
    for kind in (with_tensor(1.0), with_tensor(None)):
        described, create = add_own_weights(spec, lambda spec, device, kind=kind: kind(spec))
        if kind(spec).get_buffer("scale") == 1:
            assert create(described, device=torch.device("cuda")).spec == described
        else:
            with pytest.raises(EncoderError, match="'power' has other weights each time it is created"):
                create(described, device=torch.device("cuda"))


def test_digest_does_not_depend_on_the_precision() -> None:
    class HalfEncoder(with_tensor(0.3)):  # type: ignore[misc]
        precisions = ("fp32", "bf16")

        def __init__(self, spec: Spec, weights: str | Path | None = None, device: torch.device = CPU) -> None:
            super().__init__(spec, weights, device)
            if spec["precision"] == "bf16":
                self.bfloat16()

    exact, half = (load_encoder(HalfEncoder, device="cpu", precision=name) for name in ("fp32", "bf16"))
    assert exact.spec["weights"] == half.spec["weights"]
    assert half.get_buffer("scale").dtype == torch.bfloat16


def test_vectors_of_other_weights_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    before, after = (lazy_encoder(with_tensor(value), device="cpu") for value in (1.0, 2.0))
    names = [default_file_name(corpus.name, encoder, 10.0) for encoder in (before, after)]
    assert names == 2 * [f"{corpus.name}_features_scaled.pt"]
    path = tmp_path / names[0]
    stored = extract(corpus, before, path, progress=False)
    again = extract(corpus, lazy_encoder(with_tensor(1.0), device="cpu"), path, progress=False)
    assert torch.equal(again.features, stored.features)
    with pytest.raises(FeaturesError, match=r"weights is '\w{8}' there, '\w{8}' here"):
        extract(corpus, after, path, progress=False)


def test_features_file_records_the_class(corpus: Corpus, tmp_path: Path) -> None:
    encoder = load_encoder(PowerEncoder, device="cpu")
    extract(corpus, encoder, tmp_path / "f.pt", progress=False)
    spec = FeatureSet.load(tmp_path / "f.pt").encoder
    assert spec["class"] == "PowerEncoder"
    without_class = {key: value for key, value in spec.items() if key != "class"}
    assert spec_digest(spec) == spec_digest(without_class)


def test_class_of_a_file_is_loaded_with_its_options(in_file: Callable[..., str]) -> None:
    reference = in_file()
    encoder = load_encoder(reference, device="cpu")
    assert encoder.encode([torch.ones(800)]).tolist() == [[1.0]]
    assert encoder_options(reference) == ()
    assert register_encoder(reference) == "LevelEncoder"
    assert lazy_encoder("LevelEncoder").spec == encoder.spec


def test_changed_file_gives_another_spec(in_file: Callable[..., str]) -> None:
    before = lazy_encoder(in_file(scale=1.0)).spec
    after = lazy_encoder(in_file(scale=2.0)).spec
    assert before["weights"] != after["weights"]


def test_spec_of_an_own_encoder_finds_its_class_once_it_is_registered(
    in_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = in_file()
    spec = lazy_encoder(reference, device="cpu").spec
    assert encoder_from_spec(spec, device="cpu").spec == spec
    monkeypatch.setattr("encoders.registry.OWN_ENCODERS", {})  # as in a new session
    with pytest.raises(EncoderError, match=r"'level', which is not one.*--encoder FILE\.py:LevelEncoder"):
        encoder_from_spec(spec)
    for found in (spec, {key: value for key, value in spec.items() if key != "class"}):  # of an earlier version
        monkeypatch.setattr("encoders.registry.OWN_ENCODERS", {})
        register_encoder(reference)
        assert encoder_from_spec(found, device="cpu").spec == spec


def test_reference_in_a_spec_imports_nothing(in_file: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')\n")
    for name in (f"{tmp_path}/evil.py:Evil", "evil:Evil", in_file()):
        for spec in ({"name": name}, {"name": "x", "class": name}):
            with pytest.raises(EncoderError, match=r"not one of this project's encoders.*FILE\.py:CLASS "):
                encoder_from_spec({**lazy_encoder("spectral").spec, **spec})


def test_class_of_this_project_has_its_name() -> None:
    assert register_encoder(SpectralEncoder) == "spectral"
    assert lazy_encoder("encoders.spectral:SpectralEncoder").spec == lazy_encoder("spectral").spec


def test_incomplete_classes_are_refused() -> None:
    class Empty(Encoder):
        pass

    with pytest.raises(EncoderError, match=r"Empty does not define describe and forward and Options \(a dataclass\)"):
        register_encoder(Empty)
    with pytest.raises(EncoderError, match="Path is not a subclass of Encoder"):
        load_encoder("pathlib:Path")
    named = type("spectral", (PowerEncoder,), {})
    with pytest.raises(EncoderError, match="spectral has the name of one of this project's encoders"):
        register_encoder(named)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "spectral"}, "has the name 'spectral' in its spec, which is another encoder"),
        ({"name": "clap"}, "has the name 'clap' in its spec, which is another encoder"),
        ({"name": "power"}, "has the name 'power' in its spec, which is another encoder"),
        ({"name": "a/b"}, "but features files are named after it"),
        ({"dim": None}, "describe returns no dim"),
    ],
)
def test_specs_that_cannot_be_used_are_refused(changes: dict[str, Any], message: str) -> None:
    class BadEncoder(PowerEncoder):
        @classmethod
        def describe(cls, weights: str | Path | None, options: PowerOptions) -> Spec:
            spec = {**super().describe(weights, options), **changes}
            return {key: value for key, value in spec.items() if value is not None or key == "weights"}

    lazy_encoder(PowerEncoder)
    with pytest.raises(EncoderError, match=f"The encoder BadEncoder.*{message}"):
        lazy_encoder(BadEncoder)
