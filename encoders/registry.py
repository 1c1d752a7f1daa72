"""Encoders by name."""

import logging
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, get_type_hints

import torch
from torch import Tensor

from audio import SpeechDetector, SpeechError, SpeechSettings
from encoders.base import Encoder, EncoderError
from encoders.device import resolve_device
from encoders.own_encoder import Create, add_own_weights, check_encoder_class, check_own_spec
from encoders.speaker_encoder import SpeakerEncoder
from encoders.spec import Spec
from encoders.trained_file import find_beside
from files import check_options, is_reference, load_choice, load_plugin, short_repr, unknown_choice

logger = logging.getLogger(__name__)

# Lowest value of `max_bandwidth` (Hz); below, little of a voice is left.
MIN_BANDWIDTH = 1_000

# Name -> "module:Class".
ENCODERS: dict[str, str] = {
    "campplus": "encoders.campplus:CampPlusEncoder",
    "ecapa": "encoders.ecapa:EcapaEncoder",
    "resemblyzer": "encoders.resemblyzer:ResemblyzerEncoder",
    "audiosep": "encoders.audiosep:AudioSepEncoder",
    "wav2vec2": "encoders.wav2vec2:Wav2Vec2Encoder",
    "spectral": "encoders.spectral:SpectralEncoder",
    "scratch": "encoders.scratch:ScratchEncoder",
    "trained": "encoders.trained:TrainedNetworkEncoder",
    "onnx": "encoders.onnx_encoder:OnnxEncoder",
}

# Alias -> name in `ENCODERS`.
ALIASES = {"clap": "audiosep"}

# Classes that `register_encoder` added, by their own name and, once it is known, by the name in their spec.
OWN_ENCODERS: dict[str, type[Encoder]] = {}


def register_encoder(encoder: str | type[Encoder]) -> str:
    """Add an own encoder, so that it can be loaded by name and found for saved classifiers, verifiers and stores.

    Parameters
    ----------
    encoder : str or subclass of Encoder
        The class, or ``FILE.py:CLASS`` or ``MODULE:CLASS``, which is imported. The name of a known encoder is returned
        as it is.

    Returns
    -------
    str
        The name for `load_encoder`: that of the class, or the one in `ENCODERS`.

    Raises
    ------
    EncoderError
        There is no such encoder, file or class, or the class is not a complete encoder.
    """
    if isinstance(encoder, str):
        if not is_reference(encoder):
            _resolve(encoder)
            return encoder
        encoder = load_plugin(encoder, error_class=EncoderError)
    check_encoder_class(encoder, _registry())
    for name, listed in ENCODERS.items():
        if listed == f"{encoder.__module__}:{encoder.__name__}":
            return name
    OWN_ENCODERS[encoder.__name__] = encoder
    return encoder.__name__


def load_encoder(
    name: str | type[Encoder],
    weights: str | Path | None = None,
    device: str = "auto",
    *,
    precision: str = "auto",
    max_bandwidth: int | None = None,
    speech_detection: Mapping[str, float] | None = None,
    **options: Any,
) -> Encoder:
    """Build an encoder.

    Parameters
    ----------
    name : str or subclass of Encoder
        A name of `ENCODERS` or `ALIASES`, or an own encoder, as `register_encoder` takes it.
    weights : path-like, optional
        File or folder of the weights, if the encoder has weights. The published weights are the default: they are
        searched for in ``pretrained_models/`` and in the Hugging Face cache, then downloaded.
    device : str
        ``auto`` (CUDA if available, else the CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    precision : str
        ``auto``, which is fp32 on every device, or a precision that the encoder supports (fp32, bf16, fp16).
    max_bandwidth : int, optional
        Highest frequency that is kept when files are read for this encoder (Hz). It becomes a part of the spec, so that
        extraction, training and inference use the same. `Encoder.encode` does not apply it; `audio.read_audio` does.
        Half the encoder's sampling rate or more has no effect.
    speech_detection : mapping, optional
        Settings of `audio.SpeechSettings` by name, with which pauses are left out when files are read for this encoder;
        ``{}`` for their defaults, None to embed recordings with their pauses. It is a part of the spec, as
        `max_bandwidth` is, and is not applied by `Encoder.encode`.
    **options
        Options of the encoder: the fields of its ``Options``.

    Returns
    -------
    Encoder
        In eval mode, without gradients, on the device.

    Raises
    ------
    EncoderError
        The name, the device, the precision or an option is not valid (the message lists what is), or the weights cannot
        be used.
    """
    return lazy_encoder(
        name,
        weights,
        device,
        precision=precision,
        max_bandwidth=max_bandwidth,
        speech_detection=speech_detection,
        **options,
    ).build()


def encoder_options(name: str | type[Encoder]) -> tuple[str, ...]:
    """Return the names of an encoder's options."""
    return tuple(field.name for field in fields(_resolve(register_encoder(name)).Options))


def default_spec(name: str | type[Encoder]) -> Spec | None:
    """Return the spec of an encoder with default options, or None if its weights are not on this machine."""
    encoder_class = _resolve(name) if isinstance(name, str) else name
    try:
        spec = encoder_class.describe(encoder_class.find_weights(None, download=False), encoder_class.Options())
    except EncoderError:
        return None
    return {**spec, "precision": _resolve_precision(encoder_class, str(name), "auto")}


@dataclass(frozen=True)
class LazyEncoder:
    """An encoder whose spec is known, and whose network is built at the first call of `encode`.

    `features.extract` accepts it in place of an `Encoder`; no network is built if the features file is complete.

    Attributes
    ----------
    spec : dict
        Spec of the encoder.
    max_duration : float or None
        Default crop of the encoder (seconds); None reads whole recordings.
    build : callable
        Function that builds the encoder.
    """

    spec: Spec
    max_duration: float | None
    build: Callable[[], Encoder]

    def __repr__(self) -> str:
        return short_repr(self, f"{self.spec['name']}: {self.spec['dim']} dimensions, {self.sample_rate} Hz")

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder, built at the first access."""
        return self.build()

    @property
    def sample_rate(self) -> int:
        """Sampling rate of the input waveforms (Hz)."""
        return int(self.spec["sample_rate"])

    @property
    def clips_per_call(self) -> int:
        """Number of clips to pass to `encode` at a time; accessing it builds the encoder."""
        return self.encoder.clips_per_call

    def encode(self, waveforms: list[Tensor], batch_size: int | None = None) -> Tensor:
        """Embed waveforms, as `Encoder.encode` does."""
        return self.encoder.encode(waveforms, batch_size)

    def merge(self, vectors: Tensor) -> Tensor:
        """Average the vectors of a recording's windows, as `Encoder.merge` does."""
        return self.encoder.merge(vectors)


def without_length_warning(encoder: Encoder | LazyEncoder) -> LazyEncoder:
    """Return the encoder without its warning of short recordings, for pieces whose vectors are averaged."""

    def build() -> Encoder:
        built = copy(encoder.encoder if isinstance(encoder, LazyEncoder) else encoder)
        if isinstance(built, SpeakerEncoder):
            built._has_warned = True
        return built

    return LazyEncoder(encoder.spec, encoder.max_duration, build)


def lazy_encoder(
    name: str | type[Encoder],
    weights: str | Path | None = None,
    device: str = "auto",
    *,
    precision: str = "auto",
    max_bandwidth: int | None = None,
    speech_detection: Mapping[str, float] | None = None,
    **options: Any,
) -> LazyEncoder:
    """Describe an encoder and build it at its first use; arguments and errors are those of `load_encoder`.

    An encoder that describes no weights is built at once: if it has parameters or persistent buffers, they are its
    weights, and their digest is in the spec.
    """
    name = register_encoder(name)
    encoder_class = _resolve(name)
    resolved = resolve_device(device)
    precision = _resolve_precision(encoder_class, name, precision)
    if max_bandwidth is not None and not (isinstance(max_bandwidth, int) and max_bandwidth >= MIN_BANDWIDTH):
        raise EncoderError(f"max_bandwidth is {max_bandwidth!r}; expected whole Hz, {MIN_BANDWIDTH} or more.")
    if precision == "fp16" and resolved.type == "cpu":
        logger.warning("Most CPUs are slower in fp16 than in fp32; bf16 is faster on CPUs that support it.")
    check_options(f"The encoder {name!r}", options, _option_types(encoder_class), error_class=EncoderError)
    checked = encoder_class.Options(**options)
    found = encoder_class.find_weights(weights)  # the last check, because it may download
    spec = {**encoder_class.describe(found, checked), "precision": precision}
    if name in OWN_ENCODERS:
        others = {key for key, kind in OWN_ENCODERS.items() if kind.__name__ != encoder_class.__name__}
        check_own_spec(spec, encoder_class, {*_registry(), *others})
        OWN_ENCODERS[spec["name"]] = encoder_class
        spec["class"] = encoder_class.__name__
    spec, create = add_own_weights(spec, partial(_create, encoder_class, found))
    if max_bandwidth is not None and 2 * max_bandwidth < spec["sample_rate"]:
        spec["max_bandwidth"] = max_bandwidth
    if speech_detection is not None:
        spec["speech_detection"] = detection_spec(speech_detection)
    build = partial(_build, spec, found, create=create, device=resolved)
    return LazyEncoder(spec, encoder_class.max_duration, build)


def detection_spec(settings: Mapping[str, float]) -> Spec:
    """Return the entry ``speech_detection`` of a spec; its weights are downloaded if they are not on this machine.

    Raises
    ------
    EncoderError
        A setting is unknown or not in its range, or the weights cannot be had.
    """
    types = {field.name: float for field in fields(SpeechSettings)}
    check_options("The speech detection", settings, types, error_class=EncoderError)
    try:
        return SpeechDetector(SpeechSettings(**settings)).spec
    except (SpeechError, ValueError) as error:
        raise EncoderError(f"The speech detection cannot be used: {error}") from error


def encoder_from_spec(
    spec: Spec,
    weights: str | Path | None = None,
    device: str = "auto",
    *,
    precision: str = "auto",
    folder: Path | None = None,
    speech_detection: Mapping[str, float] | Literal[False] | None = None,
) -> LazyEncoder:
    """Find the encoder whose vectors a saved classifier or verifier was trained on.

    Parameters
    ----------
    spec : dict
        Spec of that encoder.
    weights : path-like, optional
        File or folder of the weights, if they are not in a default place.
    device, precision : str
        As in `load_encoder`; the precision ``auto`` is the one in the spec.
    folder : Path, optional
        Folder of the saved file, in which the network of a `trained` encoder is searched if no weights are given.
    speech_detection : mapping or False, optional
        As in `load_encoder`, or False to embed recordings with their pauses; by default as in the spec.

    Raises
    ------
    EncoderError
        The encoder is neither one of this project's encoders nor registered, or its weights are not found.
    """
    name = str(spec.get("name"))
    encoder = name if name in ENCODERS else _own_class(spec)
    if encoder is None:
        given = str(spec.get("class"))
        own = given if "class" in spec and given.isidentifier() else "CLASS"  # a name in a file may be any text
        raise EncoderError(
            f"This was trained on vectors of the encoder {name!r}, which is not one of this project's encoders. Give "
            f"its class with --encoder FILE.py:{own} (in Python, call register_encoder({own}) first). Without the "
            "class, use features files of that encoder; audio cannot be used."
        )
    trained_precision = str(spec.get("precision", "auto"))
    if precision == "auto" and "+" not in trained_precision:  # mixed precisions, such as fp32+bf16: keep auto
        precision = trained_precision
    weights = weights or spec.get("source")  # an id of the hub, or None
    if weights is None and folder is not None and name == "trained":
        weights = find_beside(folder, spec)
    if weights is None and "source" in spec:
        default = default_spec(encoder)
        if default is None or default["weights"] != spec["weights"]:
            raise EncoderError(
                f"This was trained with weights from a file or folder (digest {str(spec['weights'])[:8]}); give it "
                "with --encoder_weights."
            )
    if speech_detection is None and "speech_detection" in spec:
        speech_detection = asdict(SpeechSettings.from_spec(spec["speech_detection"]))
    return lazy_encoder(
        encoder,
        weights,
        device,
        precision=precision,
        max_bandwidth=spec.get("max_bandwidth"),
        speech_detection=None if speech_detection is False else speech_detection,
        **spec.get("options", {}),
    )


def _own_class(spec: Spec) -> type[Encoder] | None:
    """Return the registered class of a spec: by its name, by its class, or the only one if the spec has no class."""
    own = OWN_ENCODERS.get(str(spec.get("name"))) or OWN_ENCODERS.get(str(spec.get("class")))
    if own is None and "class" not in spec and len(set(OWN_ENCODERS.values())) == 1:
        return next(iter(OWN_ENCODERS.values()))
    return own


def _build(spec: Spec, weights: str | Path | None, *, create: Create, device: torch.device) -> Encoder:
    digest = str(spec["weights"] or "none")[:8]
    described = digest if weights is None else f"{weights} ({digest})"
    logger.info("Encoder %s on %s in %s; weights: %s", spec["name"], device, spec["precision"], described)
    return create(spec, device=device)


def _create(encoder_class: type[Encoder], weights: str | Path | None, spec: Spec, *, device: torch.device) -> Encoder:
    return encoder_class(spec, weights, device).to(device).eval().requires_grad_(False)


def _registry() -> dict[str, str]:
    """Return the names and aliases of this project's encoders, with their classes."""
    return {**ENCODERS, **{alias: ENCODERS[encoder] for alias, encoder in ALIASES.items()}}


def _resolve(name: str) -> type[Encoder]:
    """Return the class of a known name; a reference is no name, so names in saved files import nothing."""
    if name in OWN_ENCODERS:
        return OWN_ENCODERS[name]
    encoder_class: type[Encoder] = load_choice("encoder", name, _registry(), error_class=EncoderError)
    return encoder_class


def _option_types(encoder_class: type[Encoder]) -> dict[str, Any]:
    """Return the names of an encoder's options with their types."""
    hints = get_type_hints(encoder_class.Options)  # these include class variables, which are not options
    return {field.name: hints[field.name] for field in fields(encoder_class.Options)}


def _resolve_precision(encoder_class: type[Encoder], name: str, precision: str) -> str:
    choices = ("auto", *encoder_class.precisions)
    if precision not in choices:
        raise EncoderError(unknown_choice("precision", precision, choices, owner=f"The encoder {name!r}"))
    # auto is fp32 on every device, until a measurement on a GPU favours another precision.
    return "fp32" if precision == "auto" else precision
