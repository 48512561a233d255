"""What a model says of cells, and how that is judged."""

from typing import Literal

from pydantic import Field

from scbert.config.base import Count, Section, Seed, Share


class Annotate(Section):
    """Annotation of new cells."""

    tokens_per_batch: Count
    novelty_score: Literal["max_probability", "energy", "expression_distance"]
    false_unknown_rate: Share  # share of validation cells that the novelty threshold may refuse
    label_error_rate: Share  # of validation cells, that a label of either level may have
    min_gene_overlap: float = Field(ge=0, le=1)  # share of the model's genes in the query


class Evaluate(Section):
    """Scores and their intervals."""

    bootstrap_samples: int = Field(ge=100)
    confidence_level: Share
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
    min_expressed: Share  # of a type's cells that express a gene, for it to be ranked there
    top_genes: Count  # of a type, that are compared with markers and gene sets
    deletions: tuple[Count, ...] = Field(min_length=1)  # numbers of genes to remove
    random_draws: Count  # of other genes for each removal
    gene_sets: tuple[str, ...]  # GMT files; empty: none
    markers: str  # PanglaoDB's list of markers; empty: none
    marker_types: str  # table of labels and the list's cell types; empty: by name, or the best
    bootstrap_samples: int = Field(ge=100)
    confidence_level: Share
    seed: Seed
