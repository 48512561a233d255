"""scbert finetune: a labelled file + a pretrained encoder -> a model, its scores and its card.

The workflow's steps in one process, on files beside the model; so a run that was killed goes on
where it stopped, and both ways give the same model.
"""

import logging
import shutil
from collections import Counter
from pathlib import Path

from scbert.cells.cautions import by_code, say
from scbert.cells.how_to_read import HowToRead
from scbert.cells.learned_labels import cautions_of_learning, types_not_learned
from scbert.config import CompareSettings, DeviceName, FinetuneSettings, settings_for
from scbert.evidence.test_scores import evaluate_scores
from scbert.files import JsonObject, only_one, publish, read_json, write_json
from scbert.shipped import ENCODER, model_folder
from scbert.steps.annotate_test_cells import annotate_test_cells
from scbert.steps.bin_expression import bin_expression
from scbert.steps.compare import compare, compare_out_of_fold
from scbert.steps.finetune_training_cells import finetune_training_cells
from scbert.steps.normalize_counts import normalize_counts
from scbert.steps.read_counts import read_counts
from scbert.steps.split_cells import split_cells
from scbert.steps.write_model_card import write_card_without_test, write_model_card
from scbert.tables import read_table
from scbert.training.bundle import load_pretrained
from scbert.training.devices import choose_device
from scbert.training.finetune_run import EXTENDED, FinetuneRun, Given
from scbert.training.finetuning import trains_network
from scbert.training.labelled_file import dataset_of, path_of, reading_of, settings_of
from scbert.training.new_genes import cautions_of_genes, extend_vocabulary
from scbert.training.time_left import expected_seconds, part_of_work, time_left

log = logging.getLogger(__name__)


def finetune_file(
    reference: str | Path,
    out: str | Path,
    *,
    label_key: str,
    pretrained: str | Path = ENCODER,
    batch_key: str = "",
    config: str | Path | None = None,
    seed: int | None = None,
    matrix: str = "auto",
    scale: str = "auto",
    library_size_key: str = "",
    test: bool = True,
    add_genes: bool = False,
    ontology: str | Path | None = None,
    device: DeviceName | None = None,
) -> JsonObject:
    """Train a model that names the cell types of a labelled file, and score it on held-out cells.

    If it is stopped, the same call goes on from its last checkpoint, in .OUT.work beside `out`.

    Parameters
    ----------
    reference
        Cells x genes with known types: .h5ad, .zarr, .h5mu, .h5 or folder of 10x. Cells without a
        type are left out.
    out
        Folder of the new model, with its card README.md and comparison.json; must not exist.
    label_key, batch_key
        Columns of obs: cell type; donor, laboratory or study, if whole ones are to be held out.
    pretrained, add_genes
        Folder of a pretrained model, or "encoder", the package's; whether it is to learn the genes
        that only the reference has, see `extend_vocabulary`.
    config, seed, device
        YAML file of what differs from the embedded configuration; seed and device of training, if
        not its own. A stopped run may go on on another device.
    matrix, scale, library_size_key
        See `HowToRead`.
    test
        False: all cells are for training and validation; `scbert.evaluate` judges by others.
    ontology
        Table: cell_type, ontology_term_id, perhaps parent and parent_ontology_term_id.

    Returns
    -------
    The content of comparison.json: scores on test cells, the baselines' beside the model's; without
    a test those of cells that the experts had not learned from, under names of their own. Beside
    them `warnings`: what makes the model less sure than it looks, by code.

    Raises
    ------
    ValueError
        If the file, the configuration or the pretrained model cannot be used, `out` exists, or the
        unfinished run beside it is another one.
    """
    reference, out, pretrained = path_of(reference), Path(out), model_folder(pretrained)
    encoder, terms = load_pretrained(pretrained), [Path(ontology)] if ontology else []
    if out.exists():
        raise ValueError(f"{out} exists already and would be overwritten. Give another folder.")
    chosen = settings_of(encoder, config, seed, device)
    choose_device(chosen.device)  # refuses before the reading, which may take long
    reading = HowToRead(matrix, scale, library_size_key)
    dataset = dataset_of(reference, reading, label_key=label_key, batch_key=batch_key)
    given = Given(reference, pretrained, terms)
    return _finish(FinetuneRun(out, given, dataset, chosen, test=test, add_genes=add_genes))


def _finish(run: FinetuneRun) -> JsonObject:
    """Do what is left of a run, and put the model in its place."""
    with only_one(run.out):
        if run.is_prepared():
            log.info("continuing the unfinished run in %s", run.folder)
        else:
            _prepare(run)
        with time_left("fine-tuning", _expected(run)):
            if not run.model.exists():
                _train(run)
            scores = _judge(run) if run.test else _judge_without_test(run)
        scores["warnings"] = _warnings(run)
        run.model.rename(run.out)
        shutil.rmtree(run.folder)
    log.info("%s is complete; its card is README.md", run.out)
    return scores


def _prepare(run: FinetuneRun) -> None:
    """Read, check, split and tokenize the file; all of it is there, or nothing."""
    name, config, pretrained = run.dataset.dataset, run.config, run.given.pretrained
    with publish(run.data) as data:
        data.mkdir()
        write_json(data / "run.json", run.identity())
        counts, expression = data / "counts.h5ad", data / run.expression.name
        split, overlap = data / run.split.name, data / "overlap.json"
        read_counts(
            run.given.reference, counts, data / "quality.json", reading_of(run.dataset, config)
        )
        split_cells(counts, split, config.split, test=run.test)
        if run.add_genes:
            at_least = {"min_cells": config.vocabulary.min_cells, "seed": run.seed}
            extend_vocabulary(pretrained, counts, split, data / EXTENDED, **at_least)
            pretrained = data / EXTENDED
        genes = pretrained / "genes.tsv"  # checked with the encoder
        normalize_counts(
            counts, genes, expression=expression, overlap=overlap, settings=config.normalization
        )
        say(cautions_of_genes(read_json(overlap)), run.dataset.file, log)
        bin_expression([expression], genes, data / "tokens" / name, config.binning)


def _expected(run: FinetuneRun) -> dict[str, float]:
    """Return the seconds that each part may take; empty where the network tells its own time."""
    if trains_network(run.config.finetune):
        return {}
    split = read_table(run.split, "cell_type", "part")
    tested = int((split.part == "test").sum())
    tokens = read_json(run.tokens / "meta.json")["tokens"] / len(split)
    parts = expected_seconds(len(split) - tested, tested, split.cell_type.nunique(), tokens)
    skipped = {"encoder"} - set(run.config.finetune.experts)
    if run.model.exists():
        skipped = set(parts) - {"cells to name", "other methods"}
    return {name: seconds for name, seconds in parts.items() if name not in skipped}


def _train(run: FinetuneRun) -> None:
    finetune_training_cells(
        tokens=run.tokens,
        split=run.split,
        pretrained=run.encoder,
        ontology=run.given.ontology,
        model=run.model,
        checkpoint=run.folder / "checkpoint",
        settings=settings_for(FinetuneSettings, run.config, seed=run.seed),
        device=run.config.device,
    )


def _judge(run: FinetuneRun) -> JsonObject:
    """Score the model and the baselines on the test cells, and write the card."""
    counts, config, predictions = run.data / "counts.h5ad", run.config, [run.predictions]
    annotate_test_cells(
        counts, run.split, run.model, predictions=run.predictions, device=config.device
    )
    evaluation = run.folder / "evaluation.json"
    evaluate_scores(predictions, run.split, config.evaluate).write(evaluation)
    settings = settings_for(CompareSettings, config)
    with part_of_work("other methods"):
        compare(
            run.expression, run.split, predictions, comparison=run.comparison, settings=settings
        )
    write_model_card(
        run.model,
        evaluation=evaluation,
        comparison=run.comparison,
        quality=run.data / "quality.json",
        card=run.model / "README.md",
    )
    return read_json(run.comparison)


def _judge_without_test(run: FinetuneRun) -> JsonObject:
    """Say how well the experts named cells that they had not learned from, and write the card."""
    compare_out_of_fold(run.split, run.model, run.comparison)
    quality, card = run.data / "quality.json", run.model / "README.md"
    write_card_without_test(run.model, run.comparison, quality, card)
    return read_json(run.comparison)


def _warnings(run: FinetuneRun) -> dict[str, str]:
    """Return what was warned of, by code: of the file, genes, split and what was learned."""
    of_genes = cautions_of_genes(read_json(run.data / "overlap.json"))
    about = read_json(run.model / "config.json")
    fitted = read_json(run.model / "calibration.json")
    of_labels = cautions_of_learning(fitted, len(about["cells_per_type"]), about["cells"])
    of_file = read_json(run.data / "quality.json").get("warnings", {})
    cells = Counter(read_table(run.split, "cell_type").cell_type)
    of_split = types_not_learned(cells, about["cells_per_type"])
    return of_file | by_code([*of_genes, *of_split, *of_labels])
