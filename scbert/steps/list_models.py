"""scbert models: the models below a folder, each with what it is, or why it cannot be used."""

from dataclasses import dataclass
from pathlib import Path

from scbert.shipped import shipped_models
from scbert.training.bundle import load_model
from scbert.training.bundle_files import MANIFEST
from scbert.training.saved_model import FinetunedModel, SavedModel


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
    """Return scBERT's line of the table of scores in the model card, if it has one."""
    card = folder / "README.md"
    lines = card.read_text(errors="replace").splitlines() if card.is_file() else []
    cells: list[str] = []
    header: list[str] = []
    for line in lines:
        if line.startswith("| method |"):
            header = [cell.strip() for cell in line.strip("|").split("|")]
        elif header and line.lower().startswith("| scbert"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            break
    scores = dict(zip(header, cells, strict=False))
    shown = [
        f"{name} {scores[name].split()[0]}" for name in ("accuracy", "macro F1") if name in scores
    ]
    return ", ".join(shown)
