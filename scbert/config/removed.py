"""Options that were removed: an older configuration or model is told so, not only that it is wrong.

What each did, and what it measured beside the default, is in docs/results/deleted.md.
"""

WITH_THEM = "27f9023"  # the last commit that knew them
KEYS = (
    "compare.c_grid",
    "compare.class_weights",
    "compare.neighbours_grid",
    "counts.transcriptome_genes",
    "evaluate.reliability_bins",
    "explain.heat_map_genes",
    "explain.max_genes_per_set",
    "gene2vec.negative",
    "gene2vec.window",
    "gene2vec_quality.held_out_genes",
    "finetune.linear",
    "finetune.linear_rate",
    "finetune.encoder_loss",
    "finetune.c_grid",
    "finetune.class_weights",
    "finetune.last_layers",
    "finetune.lora",
    "finetune.loss",
    "finetune.focal_gamma",
    "finetune.effective_beta",
    "finetune.label_smoothing",
)
VALUES = {
    "annotate.novelty_score": ("distance", "cosine", "combined"),
    "finetune.gene_identity": ("residual",),
    "finetune.train": ("last", "lora"),
    "finetune.class_balance": ("effective",),
    "finetune.head": ("pooled", "hybrid", "hybrid_conv"),
}


def about_key(key: str) -> str:
    """Return what to say of a key that is not known; empty: it never was."""
    return f"It was removed: leave it out. {_where()}" if key in KEYS else ""


def about_value(key: str, value: object) -> str:
    """Return what to say of a value that is not allowed; empty: it never was."""
    return f"'{value}' was removed. {_where()}" if value in VALUES.get(key, ()) else ""


def _where() -> str:
    return (
        f"docs/results/deleted.md says what it measured; commit {WITH_THEM} (scbert 0.1.0) is the "
        "last that has it."
    )
