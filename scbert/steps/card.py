"""Step write_model_card: what made a model and how well it does -> README.md of the bundle."""

from pathlib import Path
from typing import Any

from scbert.cells.splits import PARTS
from scbert.files import publish, read_json

FRONT_MATTER = """---
library_name: scbert-end-to-end
tags: [single-cell, cell-type-annotation, scbert]
---
"""
LIMITS = """## Limits
- The scores hold for cells like the test cells: same tissue, technology and labelling. A new study
  can be harder.
- Types that are not listed above cannot be named. Cells whose novelty score exceeds the threshold
  are flagged as unknown; the threshold refuses {rate:.0%} of known cells and was not tuned to find
  new types.
- Human genes only.
"""


def write_model_card(
    model: Path, evaluation: Path, comparison: Path, quality: Path, card: Path
) -> None:
    """Write the model card: data, sizes, scores per type and beside the baselines', calibration."""
    config = read_json(model / "config.json")
    calibration = read_json(model / "calibration.json")
    scores, rivals, data = (read_json(path) for path in (evaluation, comparison, quality))
    text = "\n".join(
        [
            FRONT_MATTER,
            f"# scBERT for {config['dataset']}, seed {config['seed']}\n",
            _data(data, config, scores),
            _split(scores),
            _methods(rivals),
            _types(scores, rivals),
            _calibration(calibration, scores),
            LIMITS.format(rate=calibration["false_unknown_rate"]),
            _use(model),
        ]
    )
    with publish(card) as unfinished:
        unfinished.write_text(text)


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _interval(score: dict[str, Any]) -> str:
    return f"{score['mean']:.3f} ({score['low']:.3f}-{score['high']:.3f})"


def _data(data: dict[str, Any], config: dict[str, Any], scores: dict[str, Any]) -> str:
    network, cells = config["network"], config["cells"]
    return (
        f"Trained on {cells['train']} cells of {data['source']} (sha256 {data['sha256']}); epoch "
        "and "
        f"calibration chosen on {cells['validation']} others, scored once on {scores['n_test']} "
        f"test cells.\n"
        f"Network: {network['depth']} layers, width {network['dim']}, {network['heads']} heads of "
        f"{network['dim_head']}, attention {network['attention']}; tokens: {config['sequence']}.\n"
        f"Commit {config['provenance']['commit'] or 'not recorded'}.\n"
    )


def _methods(comparison: dict[str, Any]) -> str:
    rows = [
        (
            entry["title"],
            *(_interval(entry[key]) for key in ("accuracy", "macro_f1", "balanced_accuracy")),
        )
        for entry in comparison["methods"]
    ]
    level = f"{comparison['confidence_level']:.0%}"
    head = f"## Scores on the test cells ({level} intervals; scBERT: mean over seeds)\n"
    return head + _table(("method", "accuracy", "macro F1", "balanced accuracy"), rows)


def _split(evaluation: dict[str, Any]) -> str:
    parts = evaluation["parts"]
    counts = [f"{part} {sum(parts[part]['cell_types'].values())}" for part in PARTS]
    text = f"## Split\nCells: {', '.join(counts)}. "
    if not parts["test"]["batches"]:
        return text + "The cells of each type were divided at random, whatever batch they are of.\n"
    listed = [f"{part} {', '.join(parts[part]['batches'])}" for part in PARTS]
    return text + f"No batch of the test is in another part. Batches: {'; '.join(listed)}.\n"


def _types(evaluation: dict[str, Any], comparison: dict[str, Any]) -> str:
    rivals = [entry for entry in comparison["methods"] if entry["kind"] == "baseline"]
    training = evaluation["parts"]["train"]["cell_types"]
    rows = [
        (
            entry["cell_type"],
            *(f"{entry[key]:.2f}" for key in ("precision", "recall", "f1")),
            *(f"{rival['f1_of_type'][entry['cell_type']]:.2f}" for rival in rivals),
            str(training.get(entry["cell_type"], 0)),
            str(entry["support"]),
        )
        for entry in evaluation["per_type"]
    ]
    names = tuple(f"F1, {rival['title'].lower()}" for rival in rivals)
    header = ("cell type", "precision", "recall", "F1", *names, "training cells", "test cells")
    return "## Scores per type\n" + _table(header, rows)


def _calibration(calibration: dict[str, Any], evaluation: dict[str, Any]) -> str:
    reliability = evaluation["reliability"]
    return (
        "## Calibration\n"
        f"Temperature {calibration['temperature']:.2f}, fitted on "
        f"{calibration['validation_cells']} validation "
        "cells. Expected calibration error on the test cells: "
        f"{reliability['before']['ece']:.3f} before, "
        f"{reliability['after']['ece']:.3f} after.\n"
    )


def _use(model: Path) -> str:
    return f"## Use\n```\nscbert annotate QUERY.h5ad --model {model.name} --out OUT.h5ad\n```\n"
