"""scBERT end to end: annotate single cells with a pretrained Performer.

>>> import scbert
>>> annotated = scbert.annotate(adata, "results/models/pbmc68k_reduced/seed0")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scbert.steps.annotate_file import annotate
    from scbert.steps.embed_file import embed
    from scbert.steps.evaluate_file import evaluate_file as evaluate
    from scbert.steps.finetune_file import finetune_file as finetune

__version__ = "0.1.0"
__all__ = ["__version__", "annotate", "embed", "evaluate", "finetune"]

FUNCTIONS = {
    "annotate": ("scbert.steps.annotate_file", "annotate"),
    "embed": ("scbert.steps.embed_file", "embed"),
    "evaluate": ("scbert.steps.evaluate_file", "evaluate_file"),
    "finetune": ("scbert.steps.finetune_file", "finetune_file"),
}


def __getattr__(name: str) -> Any:
    """Import torch only when it is needed: the data steps run in environments without it."""
    if name in FUNCTIONS:
        module, function = FUNCTIONS[name]
        return getattr(import_module(module), function)
    raise AttributeError(f"module 'scbert' has no attribute {name!r}")
