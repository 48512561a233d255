"""What each step must know: parts of the configuration, passed to its script as JSON."""

from typing import Literal, TypeVar

from scbert.config.base import Name, Section, Seed, Sequence
from scbert.config.cells import Binning, Counts, Normalization
from scbert.config.inputs import Dataset, Download, HowCellsAreRead, PanglaoDB, Sha256
from scbert.config.load import Config
from scbert.config.training import Annotate, Compare, Evaluate, Finetune, Network, Pretrain

Settings = TypeVar("Settings", bound=Section)


class PretrainSettings(Section):
    """What the pretraining step must know."""

    sequence: Sequence
    normalization: Normalization  # of the tokens; kept in the bundle, for `scbert embed`
    binning: Binning
    network: Network
    pretrain: Pretrain


class ReadSettings(Section):
    """What the reading step must know."""

    sample: str
    source: str  # where the file comes from, for the report
    counts: Counts
    normalization: Normalization
    matrix: str  # auto, X, raw.X or layers/NAME
    scale: Literal["auto", "counts", "expected_counts", "log1p"]  # what the matrix must hold
    dataset: Dataset | None  # None: unlabelled cells of the corpus
    leave_out: bool  # unusable content: write no cells and the reason (PanglaoDB); else an error


class SourceSettings(Section):
    """What the fetching step must know."""

    source: str  # package:NAME/FILE, or http(s)://
    sha256: Sha256  # of the file at that address; empty: not known beforehand
    download: Download


class PanglaoDBSettings(Section):
    """What the downloads of PanglaoDB's tables must know."""

    panglaodb: PanglaoDB
    download: Download


class SampleSettings(PanglaoDBSettings):
    """What the downloads of a PanglaoDB sample must know."""

    sample: Name  # SRA_SRS, or SRA_notused


class FinetuneSettings(Section):
    """What the fine-tuning step must know."""

    seed: Seed
    normalization: Normalization
    finetune: Finetune
    annotate: Annotate


class QuerySettings(HowCellsAreRead):
    """What the steps that annotate a query must know."""


class CompareSettings(Section):
    """What the comparison step must know."""

    evaluate: Evaluate
    compare: Compare


def settings_for(step: type[Settings], config: Config, **more: object) -> Settings:
    """Return the part of the configuration that a step must know, and what is given."""
    shared = {key: getattr(config, key) for key in step.model_fields if key in Config.model_fields}
    return step.model_validate(shared | more)
