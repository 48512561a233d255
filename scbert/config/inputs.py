"""Sources of cells: the network, PanglaoDB, and the tables of the user."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from scbert.config.base import Count, Name, Section

PACKAGE = "package:"
WEB = ("http://", "https://")
JOINED = "joined:"  # of other lines of the table of datasets
CELLS = (".h5ad", ".h5", ".csv")  # that are fetched; others are paths
TABLES = (".csv", ".gmt", ".gz", ".parquet", ".tsv", ".txt")  # of genes, gene sets, pairs
ARCHIVES = (".tar.gz", ".tgz")
JOINABLE = re.compile(r"[A-Za-z0-9_-]+")  # the name of a line
NOT_IN_PATHS = ("{", "}", ";", "\n")
Sha256 = Annotated[str, StringConstraints(pattern=r"^([0-9a-fA-F]{64})?$")]
Addresses = Annotated[tuple[str, ...], Field(min_length=1)]


def is_fetched(file: str) -> bool:
    """Whether a file must be brought here: from an installed package or from the network."""
    return file.startswith((PACKAGE, *WEB))


def fetched_suffix(file: str, suffixes: tuple[str, ...] = CELLS) -> str:
    """Return the suffix of a fetched file below resources/; empty if it is a folder (10x mtx).

    An address that does not end in the name of its file can be given that name behind a #.

    Raises
    ------
    ValueError
        If the address ends in nothing that is known.
    """
    if file.startswith(PACKAGE):
        return "." + file.rpartition(".")[2]
    parts = urlsplit(file)
    for end in (parts.fragment, parts.path):
        if end.endswith((*ARCHIVES, "/")):
            return ""
        for suffix in suffixes:
            if end.endswith(suffix):
                return suffix
    raise ValueError(
        f"the address {file} ends in none of {', '.join(suffixes)} (a file), {', '.join(ARCHIVES)} "
        "(an archive of a 10x mtx folder) and / (such a folder). If it is one of these under "
        "another name, write that name behind a #: https://site.org/get?id=1#cells.h5ad"
    )


def _plain_path(file: str) -> str:
    found = next((letter for letter in NOT_IN_PATHS if letter in file), None)
    if found:
        raise ValueError(
            f"the name holds '{found}', which means something else to Snakemake or the shell. "
            "Rename the file or folder, or give a link to it with another name"
        )
    return file


def _known_source(file: str) -> str:
    if not is_fetched(file):
        return _plain_path(file)
    fetched_suffix(file)
    return file


def _known_table(file: str) -> str:
    if not is_fetched(file):
        return _plain_path(file)
    fetched_suffix(file, TABLES)
    return file


def _known_dataset(file: str) -> str:
    if not file.startswith(JOINED):
        return _known_source(file)
    names = file.removeprefix(JOINED).split("+")
    if len(set(names)) < 2 or not all(JOINABLE.fullmatch(name) for name in names):
        raise ValueError(
            f"'{file}' must name two or more other lines of this table: {JOINED}baron+muraro"
        )
    return file


PathOfTable = Annotated[str, AfterValidator(_plain_path)]
Source = Annotated[str, AfterValidator(_known_source)]
SourceOfDataset = Annotated[str, AfterValidator(_known_dataset)]
SourceOfTable = Annotated[str, AfterValidator(_known_table)]


class Download(Section):
    """How files are fetched from the network."""

    user_agent: str  # sites answer 403 to scripts
    attempts: Count  # at a file, each over all its addresses
    wait: float = Field(ge=0)  # seconds before the second attempt; doubles each time, with jitter
    max_wait: float = Field(ge=0)  # seconds
    timeout: float = Field(gt=0)  # seconds without a byte
    max_gb: float = Field(gt=0)  # 10^9 bytes of a file, also after decompression
    drop_in: str  # folder in which the user puts files obtained elsewhere; empty: none
    checksums: str  # table: the SHA-256 of each file when it came first


class PanglaoDBAddresses(Section):
    """Where PanglaoDB's files are: mirrors of each, in the order in which they are tried.

    {sra} and {srs} are the accessions of a sample, {sample} is how PanglaoDB names its files:
    {sra}_{srs}, or {sra} if it has no SRS accession (srs is then notused).
    """

    metadata: Addresses  # samples
    cluster_sizes: Addresses  # cells of each cluster
    cell_types: Addresses  # of each cluster
    markers: Addresses  # genes of each cell type
    counts: Addresses  # of one sample
    clusters: Addresses  # of the cells of one sample

    @field_validator("*")
    @classmethod
    def _can_be_filled_in(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            if not address.startswith(WEB):
                raise ValueError(f"{address!r} must start with {' or '.join(WEB)}")
            try:
                address.format(sra="SRA1", srs="SRS1", sample="SRA1_SRS1")
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(
                    f"{address!r} can hold {{sra}}, {{srs}} and {{sample}}, nothing else in braces"
                ) from error
        return addresses


class PanglaoDB(Section):
    """Which PanglaoDB samples become the corpus."""

    urls: PanglaoDBAddresses
    species: str
    protocols: tuple[str, ...]  # as PanglaoDB spells them
    tissues: tuple[str, ...]  # as PanglaoDB spells them; empty: all
    exclude_tissues: tuple[str, ...]
    include_tumour: bool
    include_cell_line: bool
    exclusions: str  # table of accessions that must not enter, with the reason


class Corpus(Section):
    """The unlabelled cells for vocabulary, gene2vec and pretraining."""

    name: Name
    source: Literal["samples", "panglaodb"]
    samples: str  # table of files, see class CorpusSample; used if source is samples
    panglaodb: PanglaoDB


class CorpusSample(Section):
    """A line of the table of the corpus: a file of unlabelled cells."""

    sample: Name
    file: Source  # a path, package:NAME/FILE, or http(s)://
    matrix: str  # auto, X, raw.X or layers/NAME
    scale: Literal["auto", "counts", "expected_counts", "log1p"]  # what the matrix must hold
    sha256: Sha256  # of the file; empty: not known beforehand


class HowCellsAreRead(Section):
    """Settings of a query, from its line in the table of queries."""

    matrix: str  # auto, X, raw.X or layers/NAME
    scale: Literal["auto", "counts", "expected_counts", "log1p"]  # what the matrix must hold
    library_size_key: str  # column of obs: all counts of the cell; empty: the sum over the matrix
    cluster_key: str  # column of obs: clusters, for a vote in each; empty: none


class Query(HowCellsAreRead):
    """A line of the table of queries: a file of cells that a model is to name."""

    query: Name
    file: Source  # cells (docs/running.md); as path, package:NAME/FILE or http(s)://
    model: PathOfTable  # a name that `scbert models` lists, or the folder of a model
    scattered: Literal["yes", "no"]  # over several jobs, for large files

    @field_validator("model")
    @classmethod
    def _is_named(cls, model: str) -> str:
        if not model:
            raise ValueError(
                "a model is needed: blood, results/models/DATASET/seedN of this run, or the folder "
                "of a fine-tuned model"
            )
        return model.rstrip("/")


class Dataset(Section):
    """A line of the table of datasets."""

    dataset: Name
    # cells (docs/running.md), .RData; as path, package:NAME/FILE, http(s):// or joined:NAME+NAME
    file: SourceOfDataset
    matrix: str  # auto, X, raw.X or layers/NAME
    scale: Literal["auto", "counts", "expected_counts", "log1p"]  # what the matrix must hold
    label_key: str  # column of obs: the cell type
    batch_key: str  # column of obs: donor, laboratory, ...; empty: split cells, not batches
    library_size_key: str  # column of obs: all counts of the cell; empty: the sum over the matrix
    in_corpus: Literal["yes", "no"]  # do the training cells, without labels, join the corpus?
    ontology: PathOfTable  # table cell_type -> Cell Ontology id; empty: none
    # Known to the rules, which give a step the files: not among the settings of a step.
    sha256: Sha256 = Field(default="", exclude=True)  # of the file; empty: not known beforehand
    cell_table: SourceOfTable = Field(default="", exclude=True)  # more columns of obs; empty: none
    cell_table_sha256: Sha256 = Field(default="", exclude=True)
    types: PathOfTable = Field(default="", exclude=True)  # cell_type -> common name; empty: as is
    # For readers only: not among the settings of a step, so that an edit makes nothing again.
    licence: str = Field(default="", exclude=True)  # of the data; empty: not stated
    labels_from: str = Field(default="", exclude=True)  # who or what named the types

    @property
    def joins_corpus(self) -> bool:
        """Whether the training cells join the corpus."""
        return self.in_corpus == "yes"

    @property
    def parts(self) -> list[str]:
        """The other lines of the table whose cells these are; empty if they are in a file."""
        return self.file.removeprefix(JOINED).split("+") if self.file.startswith(JOINED) else []
