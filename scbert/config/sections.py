"""Every setting: its meaning, type and bounds.

Values live only in config/*.yaml, with unit and source as comments; nothing has a default here.
"""

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from scbert.config.sources import WEB, fetched_suffix, is_fetched

Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]
Sequence = Literal["expressed_genes", "all_genes", "paper"]  # see training.batches.CellBatches
Sha256 = Annotated[str, StringConstraints(pattern=r"^([0-9a-fA-F]{64})?$")]


def _known_source(file: str) -> str:
    if is_fetched(file):
        fetched_suffix(file)
    return file


Source = Annotated[str, AfterValidator(_known_source)]


class Section(BaseModel):
    """A frozen part of the configuration in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


Addresses = Annotated[tuple[str, ...], Field(min_length=1)]


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


class Counts(Section):
    """Reading and quality control."""

    min_genes: int = Field(ge=0)  # expressed genes a cell needs, over all genes of its file
    min_cells_per_type: int = Field(ge=3)  # one for each of train, validation and test
    ensembl_prefix: str = Field(pattern=r"^ENS[A-Z]*G$")  # of the species; samples of others go
    max_fractional: float = Field(gt=0, le=1)  # of the different values of a cell that are no whole
    transcriptome_genes: Count  # a file with fewer is called a subset in the table of quality
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

    n_bins: int = Field(ge=1, le=250)  # above bin 0; uint8 in the token store


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
    window: Count
    negative: Count
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
    held_out_genes: Share  # of the genes, for testing the classifier of pairs
    c_grid: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)  # inverse penalty
    bootstrap_samples: int = Field(ge=100)
    confidence_level: Share
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
    qk_rms: float | None = Field(gt=0)  # of each query and key of a head; null: as they come
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


class Restarts(Section):
    """The original's learning rate: one value per epoch, in cycles of warm-up and cosine."""

    first_cycle: Count  # epochs
    warmup: int = Field(ge=0)  # epochs, of each cycle
    cycle_factor: float = Field(ge=1)  # a cycle's epochs after warm-up / those of the one before
    peak_factor: float = Field(gt=0, le=1)  # a cycle's peak / that of the one before
    minimum: float = Field(ge=0)  # learning rate

    @model_validator(mode="after")
    def _cycles_fall(self) -> Self:
        if self.first_cycle <= self.warmup:
            raise ValueError(
                f"first_cycle is {self.first_cycle} and warmup {self.warmup}, but a cycle must be "
                "longer than its warm-up: choose a longer first_cycle"
            )
        return self


class Checkpoints(Section):
    """When the state of a training is written; at the end of each epoch it always is."""

    steps: int = Field(ge=0)  # optimizer steps from one to the next; 0: not by steps
    minutes: float = Field(ge=0)  # from one to the next; 0: not by time
    keep: Count  # the newest so many, and the best


class Optimizer(Section):
    """AdamW; per step a linear warm-up, then a cosine to zero, or per epoch `restarts`."""

    epochs: Count
    learning_rate: float = Field(gt=0)  # peak
    warmup: float = Field(ge=0, lt=1)  # share of all steps; not used with restarts
    restarts: Restarts | None
    weight_decay: float = Field(ge=0)
    clip_norm: float = Field(gt=0)
    tokens_per_batch: Count  # padding included
    accumulation: Count  # batches per optimizer step, of each process
    precision: Literal["no", "bf16"]  # of accelerate's autocast
    explosion: float = Field(gt=1)  # a step's loss / that of the first step, that stops the run
    log_steps: Count  # optimizer steps from one line of progress to the next
    checkpoints: Checkpoints


class Pretrain(Section):
    """Masked-expression pretraining."""

    mask_prob: Share  # share of the expressed genes of a cell
    replace_prob: float = Field(gt=0, le=1)  # share of those that the network sees as MASK
    validation_by: Literal["cell", "sample"]  # hold out cells of each sample, or whole studies
    validation_fraction: Share  # of the cells
    bootstrap_samples: int = Field(ge=100)  # of the held-out cells, for the interval of the skill
    confidence_level: Share
    redraw_interval: int = Field(ge=0)  # optimizer steps between new projections; 0: never
    optimizer: Optimizer
    seed: Seed


class Split(Section):
    """Train / validation / test."""

    method: Literal["holdout", "k_fold", "leave_one_out"]  # leave_one_out: a batch is the test
    n_folds: int = Field(ge=2)  # of k_fold
    fold: int | str  # that is the test: a number from 0 (k_fold) or a batch (leave_one_out)
    test_fraction: Share  # of holdout
    validation_fraction: Share  # of all (holdout), or of what the test leaves
    validation_by: Literal["cell", "batch"]  # batch: whole batches, where cells have any
    seed: Seed

    @model_validator(mode="after")
    def _leave_cells_to_train(self) -> Self:
        if self.test_fraction + self.validation_fraction >= 1:
            raise ValueError("test_fraction + validation_fraction must leave cells to train on")
        return self


class Head(Section):
    """What names the cell types: all that is needed to build it again."""

    head: Literal["pooled", "conv", "hybrid", "hybrid_conv"]  # attention pooling; the paper's; a
    # linear model of expression and one of these
    hidden: tuple[Count, ...] = Field(min_length=1)  # widths of the hidden layers
    dropout: float = Field(ge=0, lt=1)


class Lora(Section):
    """Low-rank additions to the encoder's weights (Hu et al. 2022)."""

    rank: Count
    alpha: float = Field(gt=0)  # the addition is multiplied by alpha / rank


class Finetune(Head):
    """Supervised fine-tuning."""

    train: Literal["all", "last", "head", "lora", "original"]  # of the encoder, beside the head
    last_layers: Count  # used if train is last
    lora: Lora  # used if train is lora
    gene_identity: Literal["keep", "frozen", "trainable", "residual"]  # the gene vectors; keep: as
    # network.gene_identity says if train is all, else frozen
    linear: Literal["frozen", "trainable"]  # the linear half of the hybrid head
    linear_rate: float = Field(gt=0, le=1)  # its learning rate / that of the rest
    encoder_loss: float = Field(ge=0, le=1)  # part of the hybrid's loss that is its encoder half's
    variable_genes: Count | None  # genes that may be tokens, chosen on training cells; null: all
    loss: Literal["cross_entropy", "focal"]
    focal_gamma: float = Field(ge=0)  # used if loss is focal
    class_balance: Literal["none", "balanced", "effective"]  # weights of the cells by their type
    effective_beta: Share  # used if class_balance is effective
    logit_adjustment: float = Field(ge=0)  # tau of Menon et al. 2021; 0: none
    label_smoothing: float = Field(ge=0, lt=1)
    c_grid: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)  # inverse penalty of
    # the logistic regression that is fitted beside the model
    class_weights: tuple[Literal["none", "balanced"], ...] = Field(min_length=1)  # of its types
    optimizer: Optimizer
    patience: Count  # epochs without a better validation macro F1
    seeds: tuple[Seed, ...] = Field(min_length=1)  # one model each


class Annotate(Section):
    """Annotation of new cells."""

    tokens_per_batch: Count
    novelty_score: Literal["max_probability", "energy", "distance", "cosine", "combined"]
    false_unknown_rate: Share  # share of validation cells that the novelty threshold may refuse
    label_error_rate: Share  # of validation cells, that a label of either level may have
    min_gene_overlap: float = Field(ge=0, le=1)  # share of the model's genes in the query


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
    class_weights: tuple[Literal["none", "balanced"], ...] = Field(
        min_length=1
    )  # of linear methods
    neighbours_grid: tuple[Count, ...] = Field(min_length=1)
    seed: Seed


class Explain(Section):
    """Which genes speak for each cell type, and whether that is true of the model."""

    cells_per_type: int = Field(ge=2)  # at most, drawn at random; half of them rank, half test
    steps: int = Field(ge=2)  # points from the mask to the cell, of integrated gradients
    tokens_per_batch: Count  # padding included; memory as in training
    min_expressed: Share  # of a type's cells that express a gene, for it to be ranked there
    top_genes: Count  # of a type, that are held against markers and gene sets
    heat_map_genes: Count  # of a type, in the figure
    deletions: tuple[Count, ...] = Field(min_length=1)  # numbers of genes to remove
    random_draws: Count  # of other genes for each removal
    gene_sets: tuple[str, ...]  # GMT files; empty: none
    max_genes_per_set: int = Field(ge=2)  # larger sets say little
    markers: str  # PanglaoDB's list of markers; empty: none
    marker_types: str  # table of labels and the list's cell types; empty: by name, or the best
    bootstrap_samples: int = Field(ge=100)
    confidence_level: Share
    seed: Seed


class Config(Section):
    """Everything that a run can be told."""

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


class CorpusSample(Section):
    """A line of the table of the corpus: a file of unlabelled cells."""

    sample: Name
    file: Source  # a path, package:NAME/FILE, or http(s)://
    matrix: str  # auto, X, raw.X or layers/NAME
    scale: Literal["auto", "counts", "expected_counts", "log1p"]  # what the matrix must hold
    sha256: Sha256  # of the file; empty: not known beforehand


class Dataset(Section):
    """A line of the table of datasets."""

    dataset: Name
    file: Source  # .h5ad, .h5 or folder of 10x, .csv, .RData; as path, package:NAME/FILE or http(s)://
    matrix: str  # auto, X, raw.X or layers/NAME
    scale: Literal["auto", "counts", "expected_counts", "log1p"]  # what the matrix must hold
    label_key: str  # column of obs: the cell type
    batch_key: str  # column of obs: donor, laboratory, ...; empty: split cells, not batches
    library_size_key: str  # column of obs: all counts of the cell; empty: the sum over the matrix
    in_corpus: Literal["yes", "no"]  # do the training cells, without labels, join the corpus?
    ontology: str  # table cell_type -> Cell Ontology id; empty: none

    @property
    def joins_corpus(self) -> bool:
        """Whether the training cells join the corpus."""
        return self.in_corpus == "yes"
