"""Settings of a training run: what takes the place of ``auto``."""

import pytest

from training import TrainingSettings


@pytest.mark.parametrize(("device", "precision"), [("cpu", "fp32"), ("mps", "fp32"), ("cuda", "fp16")])
def test_precision_auto_is_mixed_on_a_gpu(device: str, precision: str) -> None:
    assert TrainingSettings(networks=("conv1d",), precision="auto").resolve(device).precision == precision
    assert TrainingSettings(networks=("conv1d",), precision="bf16").resolve(device).precision == "bf16"


def test_width_of_an_image_is_the_length_of_a_crop() -> None:
    settings = TrainingSettings(networks=("resnet18", "conv1d"), n_frames=160, network_options={}).resolve()
    assert settings.options_of("resnet18") == {"n_frames": 160}
    assert settings.options_of("conv1d") == {}
    assert TrainingSettings(networks=("resnet18",)).resolve().options_of("resnet18") == {"n_frames": 256}
    assert TrainingSettings(networks=("resnet18",), n_frames=None).resolve().options_of("resnet18") == {}
