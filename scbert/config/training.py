"""The network, its training, and how its predictions are judged."""

from typing import Literal, Self

from pydantic import Field, model_validator

from scbert.config.base import Count, Fraction, Precision, Section, Seed


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
        if self.dim % self.heads:
            raise ValueError(
                f"dim is {self.dim}, but it must be a multiple of heads ({self.heads}): "
                "choose another dim or number of heads"
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
    precision: Precision  # of products; auto: bf16 on a GPU, float32 (no) on the CPU
    explosion: float = Field(gt=1)  # recent losses / that of the first step, that stops the run
    log_steps: Count  # optimizer steps from one line of progress to the next
    checkpoints: Checkpoints


class Pretrain(Section):
    """Masked-expression pretraining."""

    mask_prob: Fraction  # share of the expressed genes of a cell
    replace_prob: float = Field(gt=0, le=1)  # share of those that the network sees as MASK
    validation_by: Literal["cell", "sample"]  # hold out cells of each sample, or whole studies
    validation_fraction: Fraction  # of the cells
    validation_cells: Count  # scored at most; held-out cells beyond are not used at all
    bootstrap_samples: int = Field(ge=100)  # of the held-out cells, for the interval of the skill
    confidence_level: Fraction
    compile: bool  # the layers of the network, on a GPU
    redraw_interval: int = Field(ge=0)  # optimizer steps between new projections; 0: never
    optimizer: Optimizer
    seed: Seed


class Head(Section):
    """What names the cell types: all that is needed to build it again."""

    head: Literal["mean", "conv"]  # mean: the encoder stays as it was pretrained, and an expert
    # reads the mean over a cell's tokens; conv: the paper's head, trained
    hidden: tuple[Count, ...] = Field(min_length=1)  # widths of the hidden layers
    dropout: float = Field(ge=0, lt=1)


class Finetune(Head):
    """Supervised fine-tuning: the experts, and how the network is trained unless head is mean."""

    experts: tuple[
        Literal["logistic_regression", "scaled_logistic_regression", "discriminant", "encoder"], ...
    ] = Field(min_length=1)  # encoder alone: the paper's model
    train: Literal["all", "head", "original"]  # of the encoder, beside the head; original: the last
    # layer but one
    gene_identity: Literal["keep", "frozen", "trainable"]  # the gene vectors; keep: as
    # network.gene_identity says if train is all, else frozen
    variable_genes: Count | None  # genes that the network may see; head mean: those that vary most
    # between labelled cells, else those that tell their types apart; null: all
    class_balance: Literal["none", "balanced"]  # weights of the cells by their type
    logit_adjustment: float = Field(ge=0)  # tau of Menon et al. 2021; 0: none
    optimizer: Optimizer
    patience: Count  # epochs without a better validation macro F1
    seeds: tuple[Seed, ...] = Field(min_length=1)  # one model each


class Annotate(Section):
    """Annotation of new cells."""

    tokens_per_batch: Count
    novelty_score: Literal["max_probability", "energy", "expression_distance"]
    false_unknown_rate: Fraction  # share of validation cells that may be called unknown
    label_error_rate: Fraction  # of validation cells, that a label of either level may have
    min_gene_overlap: float = Field(ge=0, le=1)  # share of the model's genes in the query


class Evaluate(Section):
    """Scores and their intervals."""

    bootstrap_samples: int = Field(ge=100)
    confidence_level: Fraction
    seed: Seed


class Compare(Section):
    """Baselines and controls; each has one setting for all datasets."""

    methods: tuple[
        Literal[
            "majority",
            "random",
            "logistic_regression",
            "linear_svm",
            "discriminant",
            "nearest_neighbours",
        ],
        ...,
    ]
    seed: Seed


class Explain(Section):
    """Genes behind each cell type, and whether the model really uses them."""

    cells_per_type: int = Field(ge=2)  # at most, drawn at random; half of them rank, half test
    steps: int = Field(ge=2)  # points from the mask to the cell, of integrated gradients
    tokens_per_batch: Count  # padding included; memory as in training
    min_expressed: Fraction  # of a type's cells that express a gene, for it to be ranked there
    top_genes: Count  # of a type, that are compared with markers and gene sets
    deletions: tuple[Count, ...] = Field(min_length=1)  # numbers of genes to remove
    random_draws: Count  # of other genes for each removal
    gene_sets: tuple[str, ...]  # GMT files; empty: none
    markers: str  # PanglaoDB's list of markers; empty: none
    marker_types: str  # table of labels and the list's cell types; empty: by name, or the best
    bootstrap_samples: int = Field(ge=100)
    confidence_level: Fraction
    seed: Seed
