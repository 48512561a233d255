"""The tables of docs/scaling.md, from what was measured once, on one GPU and one core.

Run: python benchmarks/scaling.py, which writes them anew between the marks in the page; with --to
FILE, the page there.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from gpu_found import Results, table

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/scaling.md"
MARK = "<!-- tables: python benchmarks/scaling.py -->"
SIZES = (1_000_000, 10_000_000, 100_000_000)  # cells
TOKENS = 900  # of a cell of PanglaoDB
GPUS_OF_NODE = 8
EFFICIENCY = {1: 1.0, 8: 0.9, 64: 0.8}  # of several GPUs: assumed, nothing was measured
BYTES_PER_TOKEN = 3.04  # docs/results/corpus.md, make bench-corpus, as the next three
TOKENIZED, BINNED = 4_928, 34_625  # cells/s of a core: all three steps; the last, which is one job
OPENED = 581_562  # cells/s, each byte hashed
HOST_MB = (10_000, 509.0), (1_000_000, 553.0)  # docs/results/training.md, make bench-training
PLANNED = 4.4e6  # cells/s: an epoch's shuffling and cutting, on one core (docs/scaling.md says how)
HOUR, GB, PAGE_BYTES = 3600.0, 1e9, 4096


def pretraining() -> dict[str, Any]:
    """Return the settings of the full run."""
    found = yaml.safe_load((ROOT / "config/panglaodb.yaml").read_text())["pretrain"]
    default = yaml.safe_load((ROOT / "config/config.yaml").read_text())["pretrain"]
    return default | found | {"optimizer": default["optimizer"] | found["optimizer"]}


def tables(results: Results) -> list[str]:
    """Return all tables of the page."""
    settings = pretraining()
    ours = results("D", "exact, packed, training")
    forward = results("D", "exact, packed, forward")["tokens_per_s"]
    return [
        *hours(settings, ours["tokens_per_s"]),
        *around(),
        *constant(settings, ours, forward, results.one("E")["weights_count"]),
    ]


def hours(settings: dict[str, Any], rate: float) -> list[str]:
    """Return hours and steps of a whole pretraining."""
    optimizer = settings["optimizer"]
    share = optimizer["epochs"] * (1 - settings["validation_fraction"]) * TOKENS
    rows = []
    for cells in SIZES:
        row = [f"{cells:,}"]
        for gpus, efficiency in EFFICIENCY.items():
            took = cells * share / (rate * gpus * efficiency) / HOUR
            steps = cells * share / (optimizer["tokens_per_batch"] * gpus)
            time = f"{took:.1f} h" if took >= 1 else f"{60 * took:.1f} min"
            row.append(f"{time}, {steps:,.0f} steps")
        rows.append(row)
    names = [f"GPUs: {gpus}, at {part:g}" for gpus, part in EFFICIENCY.items()]
    return table(["cells", *names], rows)


def around() -> list[str]:
    """Return what else grows with the corpus."""
    (few, least), (many, most) = HOST_MB
    per_cell = (most - least) / (many - few)
    rows = [
        [
            f"{cells:,}",
            f"{cells * TOKENS * BYTES_PER_TOKEN / GB:,.1f} GB",
            f"{cells / TOKENIZED / 60:,.0f} min",
            f"{cells / BINNED / 60:.1f} min",
            f"{cells / OPENED:,.0f} s",
            f"{cells / PLANNED:.1f} s",
            f"{(least + per_cell * cells) / 1e3:.1f} GB",
        ]
        for cells in SIZES
    ]
    columns = ["cells", "token store", "tokenizing, one core", "of it one job"]
    return table([*columns, "opening", "planning an epoch", "memory, a process"], rows)


def constant(
    settings: dict[str, Any], ours: dict[str, Any], forward: float, weights: int
) -> list[str]:
    """Return what does not grow with the corpus."""
    rate = ours["tokens_per_s"] / TOKENS
    scored, pages = settings["validation_cells"], 2 + TOKENS * BYTES_PER_TOKEN / PAGE_BYTES
    rows = [
        ["cells that a GPU takes", f"{rate:,.0f} cells/s of {TOKENS} tokens"],
        [
            "batches that one thread makes",
            f"{1e3 * ours['cells'] / ours['make_ms'] / ours['cells_per_s']:.1f} times as many",
        ],
        [
            f"read by a node of {GPUS_OF_NODE} GPUs",
            f"{GPUS_OF_NODE * ours['tokens_per_s'] * BYTES_PER_TOKEN / 1e6:.0f} MB/s of tokens in "
            f"{GPUS_OF_NODE * rate:,.0f} cells/s, {GPUS_OF_NODE * rate * pages:,.0f} pages of 4 kB",
        ],
        ["gradients to add up, each step", f"{4 * weights / 1e6:.1f} MB, {ours['ms']:.0f} ms"],
        ["checkpoint (weights, AdamW's two moments)", f"{12 * weights / 1e6:.0f} MB"],
        [
            f"scoring {scored:,} held-out cells",
            f"{scored * TOKENS / forward:.1f} s an epoch on one GPU",
        ],
    ]
    return table(["whatever the corpus", "is"], rows)


def main() -> None:
    """Write the tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=PAGE)
    results = Results(json.loads((ROOT / "docs/results/gpu.json").read_text()))
    before, _, after = PAGE.read_text().split(MARK)
    parser.parse_args().to.write_text(
        "\n".join([before + MARK, *tables(results), "", MARK + after])
    )


if __name__ == "__main__":
    main()
