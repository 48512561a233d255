"""Rule select_samples: which samples of PanglaoDB join the corpus, and of the others why not."""

import logging
from pathlib import Path

from scbert.config import PanglaoDB
from scbert.download.panglaodb import choose_samples, read_cluster_sizes, read_metadata
from scbert.tables import read_table, write_table

log = logging.getLogger(__name__)


def select_samples(
    metadata: Path, cluster_sizes: Path, exclusions: Path, samples: Path, settings: PanglaoDB
) -> None:
    """Write which samples join the corpus and, of the others, why not.

    Raises
    ------
    ValueError
        If none does.
    """
    excluded = read_table(exclusions, "accession", "reason")
    sizes = read_cluster_sizes(cluster_sizes)
    chosen = choose_samples(read_metadata(metadata), sizes, excluded, settings)
    joined = chosen[chosen.included == "yes"]
    if joined.empty:
        raise ValueError(
            f"none of the {len(chosen)} samples of {metadata} fits the settings of "
            f"corpus.panglaodb ({chosen.reason.value_counts().to_dict()}). Loosen them."
        )
    write_table(samples, chosen)
    log.info("%d of %d samples join the corpus", len(joined), len(chosen))
    log.info("they have %d of %d cells", joined.cells.sum(), chosen.cells.sum())
