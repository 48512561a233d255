"""scbert models: the models below a folder, each with what it is, or why it cannot be used."""

from dataclasses import dataclass
from pathlib import Path

from scbert.evidence.comparison import Comparison
from scbert.files import read_json
from scbert.shipped import shipped_models
from scbert.training.bundle import load_model
from scbert.training.bundle_files import MANIFEST
from scbert.training.saved_model import FinetunedModel, SavedModel

COMPARISON = "comparison.json"


@dataclass(frozen=True)
class Listed:
    """A model, in words; `problem` is empty if it can be used, and else all but `folder` is."""

    folder: Path
    problem: str = ""
    kind: str = ""
    dataset: str = ""
    types: tuple[str, ...] = ()
    genes: str = ""
    sequence: str = ""
    calibration: str = ""
    scores: str = ""
    format: str = ""
    sha256: str = ""


def list_models(folder: Path | None) -> list[Listed]:
    """Look at every model at or below a folder; each file of each is read and checked.

    Without a folder, at those of the package and those below ./results, if there are any.

    Raises
    ------
    ValueError
        If the folder does not exist or there is no model.
    """
    here = Path("results") if folder is None else folder
    found = sorted(path.parent for path in here.rglob(MANIFEST) if path.is_file())
    if folder is None:
        found = [*shipped_models().values(), *found]
    if not found:
        raise ValueError(
            f"there is no model at or below {folder}: no {MANIFEST}. Give the folder of models, "
            "such as results/models."
        )
    return [_listed(path) for path in found]


def _listed(folder: Path) -> Listed:
    try:
        model = load_model(folder)
    except (ValueError, OSError) as error:
        return Listed(folder, problem=str(error))
    return Listed(
        folder=folder,
        kind=str(model.config["kind"]),
        dataset=str(model.config.get("dataset", "")),
        types=tuple(model.types) if isinstance(model, FinetunedModel) else (),
        genes=f"{model.learned.sum():,} of {len(model.genes):,}",
        sequence=model.config["sequence"],
        calibration=_calibration(model),
        scores=_scores(folder),
        format=str(model.config["format"]),
        sha256=model.sha256[:12],
    )


def _calibration(model: SavedModel) -> str:
    if not isinstance(model, FinetunedModel):
        return ""
    cells = model.calibration["validation_cells"]
    return f"on {cells:,} cells" if cells else "no"


def _scores(folder: Path) -> str:
    """Return scBERT's scores on the test cells; empty if there are none.

    `scbert finetune` puts comparison.json into the model's folder; the workflow, whose models are
    results/models/DATASET/SEED, into results/metrics/DATASET.
    """
    dataset = folder.absolute().parent
    of_workflow = dataset.parent.parent / "metrics" / dataset.name
    for path in (folder / COMPARISON, of_workflow / COMPARISON):
        if path.is_file():
            break
    else:
        return ""
    try:
        content = read_json(path)
        if isinstance(content, dict) and "scored_on" in content:  # out of fold: there was no test
            return ""
        found = Comparison.read(path).model
    except ValueError as error:
        return str(error)
    return f"accuracy {found.accuracy.mean:.3f}, macro F1 {found.macro_f1.mean:.3f}"
