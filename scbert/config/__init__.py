"""The configuration, typed. What the rest of the package and the workflow use of it."""

from scbert.config.arguments import (
    step_arguments,
)
from scbert.config.load import (
    load_config,
    load_datasets,
)
from scbert.config.sections import (
    Annotate,
    Binning,
    Compare,
    Config,
    Corpus,
    Counts,
    Dataset,
    Evaluate,
    Finetune,
    Gene2vec,
    Network,
    Normalization,
    Optimizer,
    PanglaoDB,
    Pretrain,
    Section,
    Split,
    Vocabulary,
)
from scbert.config.steps import (
    CompareSettings,
    FinetuneSettings,
    PretrainSettings,
    ReadSettings,
    SampleSettings,
    SourceSettings,
    settings_for,
)

__all__ = [
    "Annotate",
    "Binning",
    "Compare",
    "CompareSettings",
    "Config",
    "Corpus",
    "Counts",
    "Dataset",
    "Evaluate",
    "Finetune",
    "FinetuneSettings",
    "Gene2vec",
    "Network",
    "Normalization",
    "Optimizer",
    "PanglaoDB",
    "Pretrain",
    "PretrainSettings",
    "ReadSettings",
    "SampleSettings",
    "Section",
    "SourceSettings",
    "Split",
    "Vocabulary",
    "load_config",
    "load_datasets",
    "settings_for",
    "step_arguments",
]
