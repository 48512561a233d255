"""Rule select_samples: which samples of PanglaoDB join the corpus, and of the others why not."""

import logging
from pathlib import Path

import pandas as pd

from scbert.config import PanglaoDB
from scbert.download.panglaodb import choose_samples, read_cluster_sizes, read_metadata
from scbert.tables import read_table, write_table

ACCESSION = "[SED]R[AS][0-9]+"
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
    known = read_metadata(metadata)
    excluded = _read_exclusions(exclusions, known)
    sizes = read_cluster_sizes(cluster_sizes)
    chosen = choose_samples(known, sizes, excluded, settings)
    joined = chosen[chosen.included == "yes"]
    if joined.empty:
        raise ValueError(
            f"none of the {len(chosen)} samples of {metadata} fits the settings of "
            f"corpus.panglaodb ({chosen.reason.value_counts().to_dict()}). Loosen them."
        )
    write_table(samples, chosen)
    log.info("%d of %d samples join the corpus", len(joined), len(chosen))
    log.info("they have %d of %d cells", joined.cells.sum(), chosen.cells.sum())


def _read_exclusions(path: Path, metadata: pd.DataFrame) -> pd.DataFrame:
    """Read which studies and samples are left out; one that is misspelled would silently join."""
    table = read_table(path, "accession", "reason").map(str.strip)
    table = table[(table != "").any(axis=1)]
    wrong = table.accession[~table.accession.str.fullmatch(ACCESSION)]
    if len(wrong):
        raise ValueError(
            f"{path} has the accession '{wrong.iloc[0]}', but those of a study (SRA716608) or a "
            "sample (SRS3391629) are needed. Correct it: otherwise the intended study would stay "
            "in."
        )
    unknown = sorted(set(table.accession) - {*metadata.sra, *metadata.srs})
    if unknown:
        log.warning("%s: no sample of PanglaoDB has %s", path, ", ".join(unknown))
    return table
