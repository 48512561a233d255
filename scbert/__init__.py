"""scBERT end to end: annotate single cells with a pretrained Performer.

>>> import scbert
>>> annotated = scbert.annotate(adata, "results/models/pbmc68k_reduced/seed0")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scbert.steps.annotate import annotate
    from scbert.steps.embed import embed

__version__ = "0.1.0"
__all__ = ["__version__", "annotate", "embed"]


def __getattr__(name: str) -> Any:
    """Import torch only when it is needed: the data steps run in environments without it."""
    if name == "annotate":
        from scbert.steps.annotate import annotate  # noqa: PLC0415

        return annotate
    if name == "embed":
        from scbert.steps.embed import embed  # noqa: PLC0415

        return embed
    raise AttributeError(f"module 'scbert' has no attribute {name!r}")
