"""Rule annotate_query: a file of cells + a fine-tuned model -> the annotated file."""

from pathlib import Path

from scbert.cells.how_to_read import HowToRead
from scbert.config import DeviceName, QuerySettings
from scbert.steps.annotate_file import annotate_file


def annotate_query(
    query: Path, model: Path, settings: QuerySettings, annotated: Path, device: DeviceName
) -> None:
    """Annotate a file as `scbert annotate` does."""
    annotate_file(
        query,
        model,
        annotated,
        reading=HowToRead.of(settings),
        cluster_key=settings.cluster_key,
        device=device,
    )
