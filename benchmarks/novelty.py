"""Which novelty score finds cell types that a fine-tuned model has never seen: leave one type out.

Run: python benchmarks/novelty.py DATA --pretrained MODEL --config FILE.yaml --out FOLDER
[--tasks pbmc3k pbmc3k_to_pbmc8k kang] [--seeds 2021 2022]

For each seed, one model knows all types of a task's first fold, and for each type one is fine-tuned
without any cell of it: the choice of genes, split, epochs, temperature, components and threshold
never see it. Models that FOLDER has are not trained again. Scores each test cell by each novelty
score: FOLDER/lines.tsv, foretold.tsv and calibration.tsv, for benchmarks/novelty_page.py.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from annotation_inputs import SPLIT_SEED, write_inputs
from annotation_models import outputs_of, read_test_cells, train
from annotation_tasks import TASKS

from scbert.cells.store import TokenStore, open_store
from scbert.cells.tables import read_table, write_table
from scbert.evidence.confidence import fit_temperature, softmax
from scbert.evidence.novelty import SCORES, LabelledOutputs, fit_novelty, novelty
from scbert.evidence.refusal import (
    coverage_accuracy,
    novelty_auroc,
    novelty_threshold,
    refusal_scores,
)
from scbert.evidence.reliability import expected_calibration_error, reliability
from scbert.logs import start_logging
from scbert.steps.reference import settings_of
from scbert.training.bundle import Bundle, load_bundle

NOBODY = "(none)"  # is left out: the model knows all types
ACROSS = "pbmc3k_to_pbmc8k"  # all test cells are of another study
PLAIN = "original: p < 0.5"
N_BINS = 10  # of reliability


def main(options: argparse.Namespace) -> None:
    """Train what is not there yet, score all of it, and write the lines."""
    encoder = load_bundle(options.pretrained)
    lines: list[dict[str, Any]] = []
    foretold: list[dict[str, Any]] = []
    calibrated: list[dict[str, Any]] = []
    for task in options.tasks:
        inputs = options.out / task / "inputs"
        if not inputs.exists():
            made = TASKS[task](options.data, SPLIT_SEED)
            config = settings_of(encoder, options.config, None)
            inputs.parent.mkdir(parents=True, exist_ok=True)
            what = (task, made, made.tests[0])
            write_inputs(inputs, what, options.pretrained, config)
        types = sorted(read_table(inputs / "split.tsv", "cell_type").cell_type.unique())
        for seed in options.seeds:
            for left_out in [NOBODY, *types]:
                about = {"task": task, "seed": seed, "cell_type": left_out}
                model, split = trained(inputs, seed, left_out, options, encoder)
                bundle = load_bundle(model)
                if left_out == NOBODY:
                    assert bundle.calibration is not None
                    score = {"score": bundle.calibration["novelty_score"]}
                    found = bundle.calibration["expected_novel_detection"]
                    foretold += [about | score | entry for entry in found]
                parts = outputs(bundle, inputs, split, left_out, task)
                lines += [about | line for line in measure(parts)]
                calibrated.append(about | calibration_of(parts))
                print(about, flush=True)
    write_table(options.out / "lines.tsv", pd.DataFrame(lines))
    write_table(options.out / "foretold.tsv", pd.DataFrame(foretold))
    write_table(options.out / "calibration.tsv", pd.DataFrame(calibrated))


def trained(
    inputs: Path, seed: int, left_out: str, options: argparse.Namespace, encoder: Bundle
) -> tuple[Path, Path]:
    """Fine-tune without a type, unless that was done before; return the model and its split."""
    name = f"{seed}-{re.sub('[^A-Za-z0-9]', '_', left_out)}"
    model, split = inputs.parent / "models" / name, inputs.parent / f"{name}.tsv"
    if not model.exists():
        table = read_table(inputs / "split.tsv", "cell", "cell_type", "part")
        table.loc[table.cell_type == left_out, "part"] = "test"
        write_table(split, table)
        config = settings_of(encoder, options.config, seed)
        checkpoint = inputs.parent / "checkpoints" / name
        train(inputs, split, options.pretrained, config, model, checkpoint)
    return model, split


def outputs(
    bundle: Bundle, inputs: Path, split: Path, left_out: str, task: str
) -> dict[str, LabelledOutputs]:
    """Return what the model says of each part; a type that it does not know has the label -1.

    Within a study all cells of the type that is left out are test cells, across studies those of
    the other study alone.
    """
    (tokens,) = (inputs / "tokens").iterdir()
    store, table = open_store(tokens), read_table(split, "cell", "cell_type", "part")
    table = table.set_index("cell").loc[store.cell_names()]
    model = inputs.parent / "models" / split.stem
    cells, test_store = read_test_cells(inputs, model, bundle, settings_of(bundle, None, None))
    types = pd.Index([label["name"] for label in bundle.labels or []])
    label = types.get_indexer(pd.Index(table.cell_type))
    found = {
        part: _outputs(bundle, store, np.flatnonzero((table.part == part) & (label >= 0)), label)
        for part in ("train", "validation")
    }
    test_label = types.get_indexer(pd.Index(cells.obs.cell_type))
    test = _outputs(bundle, test_store, np.arange(len(test_store)), test_label)
    if task != ACROSS:
        more = np.flatnonzero(table.cell_type == left_out)
        test = _joined(test, _outputs(bundle, store, more, label)) if len(more) else test
    return found | {"test": test}


def _outputs(
    bundle: Bundle, store: TokenStore, rows: np.ndarray, label: np.ndarray
) -> LabelledOutputs:
    found = outputs_of(bundle, store, rows)
    return LabelledOutputs(found.logits, found.positions, label[rows])


def _joined(first: LabelledOutputs, second: LabelledOutputs) -> LabelledOutputs:
    names = ("logits", "positions", "label")
    pairs = ([getattr(one, name) for one in (first, second)] for name in names)
    return LabelledOutputs(*map(np.concatenate, pairs))


def measure(parts: dict[str, LabelledOutputs]) -> Iterator[dict[str, Any]]:
    """Yield, for each score, how well it tells test cells of new types from others."""
    test, validation = parts["test"], parts["validation"]
    temperature = fit_temperature(validation.logits, validation.label)
    is_novel, correct = test.label < 0, test.logits.argmax(axis=1) == test.label
    for name in SCORES:
        fitted = fit_novelty(parts["train"], temperature, name)
        score = novelty(test, fitted)
        refused = score > novelty_threshold(novelty(validation, fitted), 0.05)
        yield {"score": name} | _measures(score, refused, is_novel, correct)
    plain = 1 - softmax(test.logits, 1.0).max(axis=1)
    yield {"score": PLAIN} | _measures(plain, plain > 0.5, is_novel, correct)


def calibration_of(parts: dict[str, LabelledOutputs]) -> dict[str, float]:
    """Return the calibration error on the test cells of known types, before and after."""
    validation, test = parts["validation"], parts["test"].of(parts["test"].label >= 0)
    found = {"temperature": fit_temperature(validation.logits, validation.label)}
    for name, temperature in (("ece_before", 1.0), ("ece", found["temperature"])):
        probabilities = softmax(test.logits, temperature)
        correct = probabilities.argmax(axis=1) == test.label
        bins = reliability(probabilities.max(axis=1), correct, N_BINS)
        found[name] = expected_calibration_error(bins)
    return found


def _measures(
    score: np.ndarray, refused: np.ndarray, is_novel: np.ndarray, correct: np.ndarray
) -> dict[str, Any]:
    return {
        "n": int(is_novel.sum()),
        "auroc": novelty_auroc(score, is_novel),
        **refusal_scores(refused, is_novel, correct),
        "area": coverage_accuracy(score, correct)["area"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pretrained", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=Path("benchmarks/annotation.yaml"))
    parser.add_argument("--out", type=Path, default=Path("results/novelty"))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["pbmc3k", ACROSS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[2021, 2022])
    start_logging()
    main(parser.parse_args())
