"""Settings of the data made from cells: counts, vocabulary, tokens, gene vectors, dataset parts."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scbert.config.base import Count, Fraction, Section, Seed

TRANSCRIPTOME_GENES = 10_000  # a file with fewer is a subset; GENCODE v44 has 62,700


class Counts(Section):
    """Reading and quality control."""

    min_genes: int = Field(ge=0)  # expressed genes a cell needs, over all genes of its file
    ensembl_prefix: str = Field(pattern=r"^ENS[A-Z]*G$")  # of the species; samples of others go
    max_fractional: float = Field(gt=0, le=1)  # of the different values of a cell that are no whole
    max_rdata_gb: float = Field(gt=0)  # of an R file, decompressed


class Vocabulary(Section):
    """Which genes the model knows."""

    gene_table: str  # HGNC's complete set: .txt, .tsv or .parquet, or package:NAME/FILE
    genes: str  # a list that decides alone, one symbol or Ensembl id per line; empty: chosen
    gene_types: tuple[str, ...]  # HGNC's locus types; empty: all, also genes unknown to HGNC
    min_cells: Count  # of the corpus, that express the gene
    min_samples: Count  # of the corpus, with a cell that expresses the gene
    max_genes: int = Field(ge=1, le=65_535)  # uint16 in the token store


class Normalization(Section):
    """Expression = log2(1 + counts per target_sum)."""

    target_sum: float = Field(gt=0)
    denominator: Literal["library", "vocabulary"]  # all counts of the cell, or those of known genes


class Binning(Section):
    """Expression -> bin."""

    n_bins: int = Field(ge=1, le=15)  # above bin 0; the token store has a byte for a level


class Pairs(Section):
    """Co-expressed pairs of genes within one sample."""

    cells_per_metacell: Count  # similar cells averaged into one; 1: single cells
    max_metacells: int = Field(ge=3)  # of one sample; larger samples get larger metacells
    min_metacells: int = Field(ge=3)  # fewer: the sample gives no pairs
    min_cells: int = Field(ge=3)  # that express a gene before it can be correlated
    min_correlation: float = Field(ge=-1, lt=1)  # Pearson, over the metacells of one sample
    max_partners: Count  # strongest partners kept for each gene
    seed: Seed  # of the metacells


class Gene2vec(Section):
    """Gene vectors from co-expression (Du et al. 2019), or from a file."""

    source: Literal["train", "import"]
    file: str  # vectors as text; used if source is import
    method: Literal["skipgram", "svd"]  # used if source is train
    dim: Count
    epochs: Count
    learning_rate: float = Field(gt=0)
    seed: Seed

    @model_validator(mode="after")
    def _import_needs_a_file(self) -> Self:
        if self.source == "import" and not self.file:
            raise ValueError(
                "source is import, but file is empty: name a file of vectors, a line for each gene"
            )
        return self


class Gene2vecQuality(Section):
    """Judging gene vectors by what is known about genes."""

    gene_sets: tuple[str, ...]  # GMT files; empty: not measured
    max_genes_per_set: int = Field(ge=2)  # larger sets say little
    labelled_pairs: str  # files, with {part} and {kind}; empty: not measured
    random_vectors: Count  # how often random vectors are drawn
    c_grid: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)  # inverse penalty
    bootstrap_samples: int = Field(ge=100)
    confidence_level: Fraction
    seed: Seed

    @model_validator(mode="after")
    def _pattern_names_the_files(self) -> Self:
        if self.labelled_pairs and not (
            "{part}" in self.labelled_pairs and "{kind}" in self.labelled_pairs
        ):
            raise ValueError(
                f"labelled_pairs is {self.labelled_pairs!r}, but it must hold {{part}} (train, "
                "valid, test) and {kind} (text, label), as in pairs/{part}_{kind}.txt"
            )
        return self


class Split(Section):
    """Train / validation / test."""

    method: Literal["holdout", "k_fold", "leave_one_out"]  # leave_one_out: a batch is the test
    n_folds: int = Field(ge=2)  # of k_fold
    fold: int | str  # that is the test: a number from 0 (k_fold) or a batch (leave_one_out)
    test_fraction: Fraction  # of holdout
    validation_fraction: Fraction  # of all (holdout), or of what the test leaves
    validation_by: Literal["cell", "batch"]  # batch: whole batches, where cells have any
    seed: Seed

    @model_validator(mode="after")
    def _leave_cells_to_train(self) -> Self:
        if self.test_fraction + self.validation_fraction >= 1:
            raise ValueError("test_fraction + validation_fraction must leave cells to train on")
        return self
