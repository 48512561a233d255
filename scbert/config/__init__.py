"""The configuration, typed. What the rest of the package and the workflow use of it."""

from scbert.config.arguments import (
    step_arguments,
)
from scbert.config.base import DeviceName, Precision, Section
from scbert.config.cells import (
    Binning,
    Counts,
    Gene2vec,
    Gene2vecQuality,
    Normalization,
    Pairs,
    Split,
    Vocabulary,
)
from scbert.config.evidence import Annotate, Compare, Evaluate, Explain
from scbert.config.inputs import (
    Corpus,
    CorpusSample,
    Dataset,
    Download,
    PanglaoDB,
    PanglaoDBAddresses,
)
from scbert.config.load import (
    default_config_file,
    load_config,
    load_datasets,
    load_samples,
)
from scbert.config.sections import Config
from scbert.config.steps import (
    CompareSettings,
    FinetuneSettings,
    PanglaoDBSettings,
    PretrainSettings,
    ReadSettings,
    SampleSettings,
    SourceSettings,
    settings_for,
)
from scbert.config.training import (
    Checkpoints,
    Finetune,
    Head,
    Network,
    Optimizer,
    Pretrain,
    Restarts,
)

__all__ = [
    "Annotate",
    "Binning",
    "Checkpoints",
    "Compare",
    "CompareSettings",
    "Config",
    "Corpus",
    "CorpusSample",
    "Counts",
    "Dataset",
    "DeviceName",
    "Download",
    "Evaluate",
    "Explain",
    "Finetune",
    "FinetuneSettings",
    "Gene2vec",
    "Gene2vecQuality",
    "Head",
    "Network",
    "Normalization",
    "Optimizer",
    "Pairs",
    "PanglaoDB",
    "PanglaoDBAddresses",
    "PanglaoDBSettings",
    "Precision",
    "Pretrain",
    "PretrainSettings",
    "ReadSettings",
    "Restarts",
    "SampleSettings",
    "Section",
    "SourceSettings",
    "Split",
    "Vocabulary",
    "default_config_file",
    "load_config",
    "load_datasets",
    "load_samples",
    "settings_for",
    "step_arguments",
]
