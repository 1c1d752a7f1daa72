"""Every default and choice, as typed frozen dataclasses. The command lines of the scripts are made from them.

Imports nothing heavy: ``--help`` reads these settings alone.
"""

from configs.base import (
    BackendName,
    ClassWeight,
    EncoderName,
    Existing,
    HeadName,
    Layout,
    LogLevel,
    Pooling,
    Precision,
    Range,
    ScalerName,
    ScriptConfig,
    SplitBy,
    StoreDtype,
)
from configs.comparison import (
    ComparisonConfig,
    CorpusConfig,
    ExtractionConfig,
    InferenceConfig,
    ReportConfig,
)
from configs.verification import (
    EmbeddingConfig,
    EnrollConfig,
    EvaluateConfig,
    IdentifyConfig,
    ListConfig,
    MergeConfig,
    RemoveConfig,
    ScoreConfig,
    StoreConfig,
    TrainVerifierConfig,
    VerifyConfig,
)

__all__ = [
    "BackendName",
    "ClassWeight",
    "ComparisonConfig",
    "CorpusConfig",
    "EmbeddingConfig",
    "EncoderName",
    "EnrollConfig",
    "EvaluateConfig",
    "Existing",
    "ExtractionConfig",
    "HeadName",
    "IdentifyConfig",
    "InferenceConfig",
    "Layout",
    "ListConfig",
    "LogLevel",
    "MergeConfig",
    "Pooling",
    "Precision",
    "Range",
    "RemoveConfig",
    "ReportConfig",
    "ScalerName",
    "ScoreConfig",
    "ScriptConfig",
    "SplitBy",
    "StoreConfig",
    "StoreDtype",
    "TrainVerifierConfig",
    "VerifyConfig",
]
