"""Known relations of genes: sets that work together, and pairs labelled as sharing a function."""

from pathlib import Path

import numpy as np

from scbert.files import DAMAGE, open_decompressed

LARGEST = 500_000_000  # bytes of text; more is no table of genes, and may be a hostile archive


def read_gene_sets(path: Path, max_genes: int) -> dict[str, list[str]]:
    """Read a GMT file, plain or gzipped: name, description and genes of a set, split by tabs.

    Parameters
    ----------
    max_genes
        Sets with more genes are left out.

    Returns
    -------
    For each set its genes, each once. Weights behind a gene ("TP53,1.0"), as Enrichr writes them,
    are dropped.

    Raises
    ------
    ValueError
        Naming the line that is wrong, or if no set is left.
    """
    sets: dict[str, list[str]] = {}
    for number, line in enumerate(_read_lines(path), start=1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) < 3:
            raise ValueError(
                f"{path}, line {number}: {len(fields)} fields, but a line of a GMT file holds the "
                "name of a set, a description and genes, split by tabs."
            )
        if fields[0] in sets:
            raise ValueError(
                f"{path}, line {number}: the set {fields[0]!r} is there twice. Remove one."
            )
        genes = (gene.split(",")[0].strip() for gene in fields[2:])
        sets[fields[0]] = list(dict.fromkeys(gene for gene in genes if gene))
    kept = {name: genes for name, genes in sets.items() if len(genes) <= max_genes}
    if not kept:
        raise ValueError(
            f"{path} holds {len(sets)} sets, but none of {max_genes} genes or fewer: "
            "larger ones say little. Give another GMT file, or, to judge gene vectors, raise "
            "gene2vec_quality.max_genes_per_set."
        )
    return kept


def read_labelled_pairs(text: Path, label: Path) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Read pairs of genes and whether each shares a function, as published with GGIPNN.

    Parameters
    ----------
    text, label
        Two genes in each line, and 0 or 1 in each line; plain or gzipped.

    Raises
    ------
    ValueError
        Naming the line that is wrong.
    """
    pairs = []
    for number, line in enumerate(_read_lines(text), start=1):
        words = line.split()
        if len(words) != 2:
            raise ValueError(f"{text}, line {number}: {line[:60]!r}, but two genes are needed.")
        pairs.append((words[0], words[1]))
    labels = [line.strip() for line in _read_lines(label)]
    wrong = next((n for n, word in enumerate(labels, start=1) if word not in {"0", "1"}), None)
    if wrong is not None:
        raise ValueError(
            f"{label}, line {wrong}: {labels[wrong - 1][:60]!r}, but it must be 0 or 1."
        )
    if len(pairs) != len(labels):
        raise ValueError(
            f"{text} has {len(pairs)} lines and {label} has {len(labels)}, but each pair needs its "
            "label. Restore the files."
        )
    return pairs, np.array(labels, dtype=np.int64) == 1


def _read_lines(path: Path) -> list[str]:
    with open_decompressed(path) as handle:
        try:
            content = handle.read(LARGEST + 1)
        except DAMAGE as error:
            raise ValueError(f"{path} is not a text file, plain or gzipped ({error}).") from None
    if len(content) > LARGEST:
        raise ValueError(f"{path} holds more than {LARGEST:,} bytes of text. Give a smaller file.")
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file, plain or gzipped ({error}).") from None
