"""Does a trained network ever diverge? Draws, seeds and threads, on eight labelled files.

Run: python benchmarks/stability.py DATA [--seeds 5] (prints the table). Each run learns a head and
all weights of the encoder, as in the paper, from CELLS drawn cells of each type, by the default
settings, in a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import anndata as ad
import numpy as np
import yaml

CELLS = 10  # of each type
THREADS = (1, 2)
STUDIES = {
    "pbmc3k": ("pbmc3k_labelled.h5ad", "cell_type"),
    "pbmc8k": ("pbmc8k_labelled.h5ad", "cell_subtype"),
    "kang": ("kang_ctrl12261x1287_labelled.h5ad", "cell_type"),
    "zheng68k_165": ("zheng68k_165_labelled.h5ad", "cell_type"),
    "kidney_immune": ("corpora/kidney_immune_1000.h5ad", "cell_type"),
    "baron_human1": ("corpora/baron_human1.h5ad", "cell_type"),
    "geact": ("corpora/geact_fetal_7organs.h5ad", "cell_type_coarse"),
    "wu2020_tcells": ("corpora/wu2020_tcells200.h5ad", "cell_subtype"),
}
WENT_BACK = "Training now continues after step"  # as the log says it
HEADS = ("study", "runs", "ended with a model", "setbacks", "accuracy on validation cells")
TRAINED = {"finetune": {"experts": ["encoder"], "head": "conv"}}


def main() -> None:
    """Print the table, a line per study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    print(f"| {' | '.join(HEADS)} |\n|---|{'---:|' * 4}", flush=True)
    for study, (file, key) in STUDIES.items():
        cells = ad.read_h5ad(options.data / file)
        cells.obs["cell_type"] = cells.obs[key].astype(str).where(cells.obs[key].notna())
        runs = [one_run(cells, *given) for given in product(range(options.seeds), THREADS)]
        ended = [right for right, _ in runs if right is not None]
        scores = f"{min(ended):.2f} to {max(ended):.2f}" if ended else "none"
        setbacks = sum(number for _, number in runs)
        print(f"| {study} | {len(runs)} | {len(ended)} | {setbacks} | {scores} |", flush=True)


def one_run(cells: ad.AnnData, seed: int, threads: int) -> tuple[float | None, int]:
    """Return the accuracy on validation cells, None without a model, and how often it went back."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(cells, seed).write_h5ad(folder / "cells.h5ad")
        (folder / "config.yaml").write_text(yaml.safe_dump(TRAINED))
        command = [
            *(sys.executable, "-c", "from scbert.cli import app; app()", "finetune", "--no-test"),
            str(folder / "cells.h5ad"),
            *("--label-key", "cell_type", "--config", str(folder / "config.yaml")),
            *("--seed", str(seed), "--out", str(folder / "model")),
        ]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if run.returncode:
            print(run.stderr[-800:], file=sys.stderr, flush=True)
            return None, run.stderr.count(WENT_BACK)
        epochs = (folder / "model/history.jsonl").read_text().splitlines()
        right = [json.loads(line).get("validation_accuracy") for line in epochs]
        return max(one for one in right if one is not None), run.stderr.count(WENT_BACK)


def draw(cells: ad.AnnData, seed: int) -> ad.AnnData:
    """Return CELLS cells of each type that has as many."""
    rng = np.random.default_rng(seed)
    label = cells.obs.cell_type.astype(object).to_numpy()
    counts = cells.obs.cell_type.value_counts()
    rows = [
        rng.choice(np.flatnonzero(label == name), CELLS, replace=False)
        for name in counts.index[counts >= CELLS]
    ]
    return cells[np.sort(np.concatenate(rows))].copy()


if __name__ == "__main__":
    main()
