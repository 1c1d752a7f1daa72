"""Networks for images, torchvision's, on spectrograms of a fixed size."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import pad

from files import optional_imports
from networks.speaker_network import SpeakerNetwork


class ImageNetwork(SpeakerNetwork):
    """Base class: a network for images on a spectrogram that is cut or zero-padded to a number of frames.

    Parameters
    ----------
    n_features : int
        Number of values in a frame.
    n_frames : int
        Width of the image. Padding is a part of it, so the embedding depends on it alone.
    """

    front_end_options: ClassVar[Mapping[str, Any]] = {"n_mels": 128, "n_fft": 2048, "hop": 512, "normalize": "unit"}
    crop_frames: ClassVar[int] = 256

    def __init__(self, n_features: int, n_frames: int = 256) -> None:
        super().__init__()
        if min(n_features, n_frames) < 32:
            raise ValueError(f"the image is {n_features} x {n_frames}; expected at least 32 x 32")
        self.n_frames = n_frames
        self.image, self.dim = self._build()

    def _build(self) -> tuple[nn.Module, int]:
        """Return a network from an image (batch, 1, features, time) to an embedding, and the length of that."""
        raise NotImplementedError

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        frames = pad(frames[:, : self.n_frames], (0, 0, 0, max(self.n_frames - frames.shape[1], 0)))
        embeddings: Tensor = self.image(frames.transpose(1, 2)[:, None])
        return embeddings


class ResNet18(ImageNetwork):
    """ResNet-18 (He et al., 2016) without its last layer, on one channel; the embedding has 512 values."""

    def _build(self) -> tuple[nn.Module, int]:
        with optional_imports():
            from torchvision.models import resnet18

        network = resnet18()
        network.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        dim, network.fc = network.fc.in_features, nn.Identity()
        return network, dim


class DenseNet121(ImageNetwork):
    """DenseNet-121 (Huang et al., 2017) without its last layer, on one channel; the embedding has 1,024 values."""

    def _build(self) -> tuple[nn.Module, int]:
        with optional_imports():
            from torchvision.models import densenet121

        network = densenet121()
        network.features.conv0 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        dim, network.classifier = network.classifier.in_features, nn.Identity()
        return network, dim
