"""scbert finetune: a labelled file + a pretrained encoder -> a model, its scores and its card.

The workflow's steps in one process, on files beside the model; so a run that was killed goes on
where it stopped, and both ways give the same model.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scbert import __version__
from scbert.cells.cautions import by_code, say
from scbert.cells.how_to_read import HowToRead
from scbert.cells.labels import cautions_of_learning
from scbert.config import (
    CompareSettings,
    Config,
    Dataset,
    DeviceName,
    FinetuneSettings,
    settings_for,
)
from scbert.evidence.test_scores import evaluate_scores
from scbert.files import only_one, publish, read_json, sha256_of, write_json
from scbert.shipped import ENCODER, model_folder
from scbert.steps.annotate_test_cells import annotate_test_cells
from scbert.steps.bin_expression import bin_expression
from scbert.steps.compare import compare, compare_out_of_fold
from scbert.steps.finetune_training_cells import finetune_training_cells
from scbert.steps.normalize_counts import normalize_counts
from scbert.steps.read_counts import read_counts
from scbert.steps.split_cells import split_cells
from scbert.steps.write_model_card import write_card_without_test, write_model_card
from scbert.training.bundle import load_pretrained
from scbert.training.devices import choose_device
from scbert.training.labelled_file import dataset_of, reading_of, settings_of
from scbert.training.new_genes import cautions_of_genes, extend_vocabulary

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
) -> dict[str, Any]:
    """Train a model that names the cell types of a labelled file, and score it on held-out cells.

    The unfinished run lies in the folder .OUT.work beside `out`: if it is stopped, the same call
    goes on from its last checkpoint. It is removed at the end.

    Parameters
    ----------
    reference
        Cells x genes with known types: .h5ad, .zarr, .h5mu, .h5 or folder of 10x. Cells without a
        type are left out.
    pretrained
        Folder of a pretrained model; "encoder" is the one that comes with the package.
    out
        Folder of the new model, with its card README.md and comparison.json; must not exist.
    label_key, batch_key
        Columns of obs: cell type; donor, laboratory or study, if whole ones are to be held out.
    config
        YAML file with the values that differ from the embedded configuration.
    seed
        Random seed of training; otherwise the first of the configuration's finetune.seeds.
    matrix, scale, library_size_key
        As for `annotate`.
    test
        False: no cell is held out, all are for training and validation. The model then has no test
        scores; `scbert.evaluate` judges it by other cells.
    add_genes
        Add the genes that only the reference has to the encoder, see `extend_vocabulary`.
    ontology
        Table with the columns cell_type and ontology_term_id and perhaps parent and
        parent_ontology_term_id.
    device
        See `annotate`; otherwise the configuration's. An unfinished run may continue on
        another one.

    Returns
    -------
    The scores on the test cells, the baselines' beside the model's, as in comparison.json. Without
    a test: those of cells that the experts had not learned from, under names of their own. Beside
    them `warnings`: what makes the model less sure than it looks, by code.

    Raises
    ------
    ValueError
        If the file, the configuration or the pretrained model cannot be used, `out` exists, or the
        unfinished run beside it is another one.
    """
    reference, out, pretrained = Path(reference), Path(out), model_folder(pretrained)
    encoder, terms = load_pretrained(pretrained), [Path(ontology)] if ontology else []
    if out.exists():
        raise ValueError(f"{out} exists already and would be overwritten. Give another folder.")
    chosen = settings_of(encoder, config, seed, device)
    choose_device(chosen.device)  # refuses before the reading, which may take long
    reading = HowToRead(matrix, scale, library_size_key)
    dataset = dataset_of(reference, reading, label_key=label_key, batch_key=batch_key)
    seed = chosen.finetune.seeds[0]
    with only_one(out):
        work = Work(out.with_name(f".{out.name}.work"), dataset.dataset, seed, out.name)
        run = {
            "version": __version__,
            "reference": sha256_of(reference) if reference.exists() else "",  # read_counts says it
            "pretrained": encoder.sha256,
            "dataset": dataset.model_dump(),
            "config": chosen.model_dump(mode="json", exclude={"device"}),
            "test part": test,
            "new genes": add_genes,
            "ontology": [sha256_of(table) for table in terms],
        }
        _prepare(work, reference, pretrained, dataset, chosen, run)
        _train(work, work.encoder if add_genes else pretrained, terms, chosen)
        scores = _judge(work, chosen) if test else _judge_without_test(work)
        scores["warnings"] = _warnings(work)
        work.model.rename(out)
        shutil.rmtree(work.folder)
    log.info("%s is complete; its card is README.md", out)
    return scores


@dataclass(frozen=True)
class Work:
    """The files of an unfinished run; `data` is there when it is complete."""

    folder: Path
    dataset: str
    seed: int
    name: str

    @property
    def data(self) -> Path:
        """Counts, split, expression and tokens."""
        return self.folder / "data"

    @property
    def split(self) -> Path:
        """The parts."""
        return self.data / f"{self.dataset}.tsv"

    @property
    def tokens(self) -> Path:
        """The token store; the model is told its name."""
        return self.data / "tokens" / self.dataset

    @property
    def encoder(self) -> Path:
        """The pretrained model with the genes that only the reference has, if it is to."""
        return self.data / "encoder"

    @property
    def predictions(self) -> Path:
        """What the model says of the test cells."""
        return self.folder / f"seed{self.seed}.h5ad"

    @property
    def model(self) -> Path:
        """The model, complete but for its card, under the name that it will have."""
        return self.folder / "model" / self.name

    @property
    def comparison(self) -> Path:
        """The scores."""
        return self.model / "comparison.json"


def _prepare(
    work: Work,
    reference: Path,
    pretrained: Path,
    dataset: Dataset,
    config: Config,
    run: dict[str, Any],
) -> None:
    """Read, check, split and tokenize the file, or see that this was done for the same run."""
    if work.data.exists():
        _require_same(run, read_json(work.data / "run.json"), work.folder)
        log.info("continuing the unfinished run in %s", work.folder)
        return
    with publish(work.data) as data:
        data.mkdir()
        write_json(data / "run.json", run)
        reading = reading_of(dataset, config)
        counts, expression = data / "counts.h5ad", data / f"{dataset.dataset}.h5ad"
        split, overlap = data / work.split.name, data / "overlap.json"
        read_counts(reference, counts, data / "quality.json", reading)
        split_cells(counts, split, config.split, test=run["test part"])
        if run["new genes"]:
            at_least = {"min_cells": config.vocabulary.min_cells, "seed": work.seed}
            extend_vocabulary(pretrained, counts, split, data / work.encoder.name, **at_least)
            pretrained = data / work.encoder.name
        genes = pretrained / "genes.tsv"  # checked with the encoder
        normalize_counts(counts, genes, expression, overlap, config.normalization)
        say(cautions_of_genes(read_json(overlap)), dataset.file, log)
        bin_expression([expression], genes, data / "tokens" / dataset.dataset, config.binning)


def _require_same(run: dict[str, Any], unfinished: dict[str, Any], folder: Path) -> None:
    other = [key for key in run if run[key] != unfinished.get(key)]
    if other:
        raise ValueError(
            f"{folder} holds an unfinished run with another {', '.join(other)}. Give the same "
            "command as before to continue it, or another --out, or remove that folder."
        )


def _train(work: Work, pretrained: Path, ontology: list[Path], config: Config) -> None:
    if work.model.exists():
        return
    settings = settings_for(FinetuneSettings, config, seed=work.seed)
    checkpoint = work.folder / "checkpoint"
    finetune_training_cells(
        tokens=work.tokens,
        split=work.split,
        pretrained=pretrained,
        ontology=ontology,
        model=work.model,
        checkpoint=checkpoint,
        settings=settings,
        device=config.device,
    )


def _judge(work: Work, config: Config) -> dict[str, Any]:
    """Score the model and the baselines on the test cells, and write the card."""
    counts = work.data / "counts.h5ad"
    annotate_test_cells(counts, work.split, work.model, work.predictions, config.device)
    evaluation = work.folder / "evaluation.json"
    evaluate_scores([work.predictions], work.split, config.evaluate).write(evaluation)
    settings = settings_for(CompareSettings, config)
    expression = work.data / f"{work.dataset}.h5ad"
    compare(expression, work.split, [work.predictions], work.comparison, settings)
    quality, card = work.data / "quality.json", work.model / "README.md"
    write_model_card(work.model, evaluation, work.comparison, quality, card)
    return read_json(work.comparison)


def _warnings(work: Work) -> dict[str, str]:
    """Return what was warned of, by code: of the file, of its genes and of what was learned."""
    of_genes = cautions_of_genes(read_json(work.data / "overlap.json"))
    about = read_json(work.model / "config.json")
    fitted = read_json(work.model / "calibration.json")
    of_labels = cautions_of_learning(fitted, len(about["cells_per_type"]), about["cells"])
    of_file = read_json(work.data / "quality.json").get("warnings", {})
    return of_file | by_code([*of_genes, *of_labels])


def _judge_without_test(work: Work) -> dict[str, Any]:
    """Say how well the experts named cells that they had not learned from, and write the card."""
    compare_out_of_fold(work.split, work.model, work.comparison)
    quality, card = work.data / "quality.json", work.model / "README.md"
    write_card_without_test(work.model, work.comparison, quality, card)
    return read_json(work.comparison)
