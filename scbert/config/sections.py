"""Every section of the configuration, its meaning, types and bounds: here all of them together.

Values live only in config/*.yaml, with unit and source as comments; nothing has a default here.
"""

from typing import Self

from pydantic import model_validator

from scbert.config.base import DeviceName, Section, Sequence
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
from scbert.config.inputs import Corpus, Download
from scbert.config.training import Finetune, Network, Pretrain


class Config(Section):
    """Everything that a run can be told."""

    device: DeviceName  # of networks; auto: CUDA if there is one, else cpu
    download: Download
    corpus: Corpus
    datasets: str  # table of labelled datasets, see class Dataset
    sequence: Sequence  # tokens of a cell
    counts: Counts
    vocabulary: Vocabulary
    normalization: Normalization
    binning: Binning
    pairs: Pairs
    gene2vec: Gene2vec
    gene2vec_quality: Gene2vecQuality
    network: Network
    pretrain: Pretrain
    split: Split
    finetune: Finetune
    annotate: Annotate
    evaluate: Evaluate
    compare: Compare
    explain: Explain

    @model_validator(mode="after")
    def _vectors_fit(self) -> Self:
        if self.gene2vec.dim != self.network.dim:
            raise ValueError(
                f"gene2vec.dim is {self.gene2vec.dim} and network.dim is {self.network.dim}, but "
                "the gene vectors are added to the token vectors: make them equal"
            )
        return self
