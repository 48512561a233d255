"""scBERT end to end: annotate single cells with a pretrained Performer.

>>> import scbert
>>> annotated = scbert.annotate(adata, "results/models/pbmc68k_reduced/seed0")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scbert.steps.annotate import annotate
    from scbert.steps.embed import embed
    from scbert.steps.reference import finetune_reference as finetune
    from scbert.steps.score import evaluate_model as evaluate

__version__ = "0.1.0"
__all__ = ["__version__", "annotate", "embed", "evaluate", "finetune"]

FUNCTIONS = {
    "annotate": ("scbert.steps.annotate", "annotate"),
    "embed": ("scbert.steps.embed", "embed"),
    "evaluate": ("scbert.steps.score", "evaluate_model"),
    "finetune": ("scbert.steps.reference", "finetune_reference"),
}


def __getattr__(name: str) -> Any:
    """Import torch only when it is needed: the data steps run in environments without it."""
    if name in FUNCTIONS:
        module, function = FUNCTIONS[name]
        return getattr(import_module(module), function)
    raise AttributeError(f"module 'scbert' has no attribute {name!r}")
