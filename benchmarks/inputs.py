"""Labels by `scbert annotate` of the same cells in 200 kinds of files: docs/results/inputs.md.

Run: python benchmarks/inputs.py [CELLS.h5ad] [--to PAGE]. The kinds are those of tests/inputs,
where each is also a test. CELLS holds counts of blood in X; without it, cells that celltypist ships
are taken.
"""

import argparse
import importlib
import logging
import math
import os
import re
import sys
import tempfile
from collections import Counter
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/results/inputs.md"
LONGEST = 200  # characters of a message


def of_tests(name: str) -> Any:
    """Import a module of tests/inputs; packages of others may be called tests, too."""
    if "tests" not in sys.modules:
        sys.modules["tests"] = ModuleType("tests")
        sys.modules["tests"].__path__ = [str(ROOT / "tests")]
    return importlib.import_module(f"tests.inputs.{name}")


def main() -> None:
    """Read every kind and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", type=Path, nargs="?")
    parser.add_argument("--to", type=Path, default=PAGE)
    options = parser.parse_args()
    logging.getLogger("scbert").addHandler(logging.NullHandler())
    if options.cells:
        os.environ["SCBERT_INPUTS"] = str(options.cells)
    options.to.write_text(page(options.cells.name if options.cells else ""))


def page(cells: str) -> str:
    """Return the page."""
    every, lines = of_tests("all").VARIANTS, list[str]()
    verdicts: Counter[str] = Counter()
    for group, variants in groupby(every, attrgetter("group")):
        lines += [f"\n## {group[0].upper()}{group[1:]}\n", *HEAD]
        for variant in variants:
            verdict, row = row_of(variant)
            verdicts[verdict] += 1
            lines.append(row)
    taken, genes = of_tests("variant").original().shape
    source = cells or "celltypist's sample_cell_by_gene.csv"
    counted = ", ".join(f"{verdict} {n}" for verdict, n in sorted(verdicts.items()))
    intro = INTRO.format(n=len(every), cells=taken, genes=genes, source=source, counted=counted)
    return intro + "\n".join(lines) + "\n"


INTRO = """# What happens with other kinds of files

Written by `make bench-inputs`. The same {cells} cells of {source} ({genes:,} genes, counts) in {n}
kinds of files, each given to `scbert annotate` with the blood model, labels of a reference to the
reading of `scbert finetune`. Agreement is the share of cells with the label that the unchanged
file gets. The rule, and a test of each row (tests/inputs): it agrees in 98 % of the cells, or a
warning says with a number why not, or it is refused with advice that works; where a command or an
option follows from the advice, it was followed ("then ...").

Verdicts: {counted}. "Silent" rows break the rule.
"""
HEAD = ["| file | agreement | unknown | verdict | said |", "|---|---|---|---|---|"]


def row_of(variant: Any) -> tuple[str, str]:
    """Return the verdict of a variant and its line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        first, then = of_tests("variant").outcomes(variant, Path(folder), SHARED)
    said = " / ".join(filter(None, [first.error, *first.warnings]))
    verdict = first.verdict + (f", then {then.verdict}" if then else "")
    shown = then or first
    name = f"{variant.name} ({how(variant.options)})" if variant.options else variant.name
    cells = [name, share(shown.agreement), share(shown.unknown), verdict, short(said)]
    return verdict, "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def how(options: dict[str, str]) -> str:
    """Return options as the command has them."""
    return " ".join(f"--{key.replace('_', '-')} {value}" for key, value in options.items())


def share(value: float) -> str:
    """Return a share, or nothing where there is none."""
    return "" if math.isnan(value) else f"{value:.3f}"


def short(text: str) -> str:
    """Return the beginning and the end of a message, where the advice is, on one line."""
    text = re.sub(r"\s+", " ", text)
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return text[:half].rsplit(" ", 1)[0] + " ... " + text[-half:].split(" ", 1)[-1]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as shared:
        SHARED = Path(shared)
        main()
