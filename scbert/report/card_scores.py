"""The parts of the model card that are numbers: scores, calibration, experts, novel cells."""

from collections.abc import Sequence

from scbert.calibration.fitted import (
    Judged,
    JudgedExpert,
    ModelCalibration,
    OutOfFold,
    ThresholdCells,
)
from scbert.experts.titles import EXPERT_TITLES
from scbert.report.card_evidence import CardEvidence
from scbert.report.text import NOTHING, percent, plain, score, score_with_interval, signed, table

FEW_CELLS = 20  # one test cell more or less moves the recall of a type by 0.05
WITHOUT_NETWORK = "expression_distance"  # the novelty score in which the network takes no part


def scores_of_methods(about: CardEvidence) -> str:
    """Return the scores of every method on the test cells, and how it was set."""
    comparison, metrics = about.comparison, ("accuracy", "macro_f1", "balanced_accuracy")
    rows = [
        (
            found.title,
            found.kind,
            *(score_with_interval(found.metric(name)) for name in metrics),
        )
        for found in comparison.methods
    ]
    header = ("method", "kind", "accuracy", "macro F1", "balanced accuracy")
    settings = "\n".join(f"- {found.title}: {found.setting}" for found in comparison.methods)
    return (
        f"{table(header, rows, 3)}\n\n"
        "Controls know nothing of the genes; baselines were trained on the same cells as scBERT; "
        f"each has one setting for all data. Intervals: {comparison.interval}\n\n"
        f"{settings}\n\n"
        f"This model is that of seed {about.config['seed']}."
    )


def scores_of_types(about: CardEvidence) -> str:
    """Return the scores of each type beside the baselines'."""
    rivals, known = about.comparison.of_kind("baseline"), about.config["cells_per_type"]
    per_type = about.evaluation.scbert.per_type
    rows = []
    for entry in per_type:
        name, tested = entry.cell_type, entry.support > 0
        found = [entry.precision, entry.recall, entry.f1]
        found += [rival.f1_of_type[name] for rival in rivals]
        shown = [f"{value:.2f}" if tested else NOTHING for value in found]
        rows.append((plain(name), *shown, str(known.get(name, 0)), str(entry.support)))
    names = [f"F1, {rival.title.lower()}" for rival in rivals]
    header = ("cell type", "precision", "recall", "F1", *names, "cells learned from", "test cells")
    few = [plain(entry.cell_type) for entry in per_type if entry.support < FEW_CELLS]
    text = table(header, rows, len(header) - 1)
    if few:
        text += (
            f"\n\nFewer than {FEW_CELLS} test cells, so a few cells make these scores: "
            f"{', '.join(few)}."
        )
    return text


def calibration(about: CardEvidence) -> str:
    """Return what a confidence is worth."""
    fitted, reliability = about.calibration, about.evaluation.scbert.reliability
    rows = [
        (f"{found.confidence:.2f}", f"{found.accuracy:.2f}", f"{found.n:,}")
        for found in reliability.after.bins
    ]
    return (
        f"{_temperature(fitted)} Expected "
        f"calibration error on the test cells: {reliability.before.ece:.3f} before, "
        f"{reliability.after.ece:.3f} after. What a confidence is worth, on the test cells "
        "of all seeds together:\n\n"
        + table(("mean confidence", "share labelled correctly", "cells"), rows, 3)
    )


def _temperature(fitted: ModelCalibration) -> str:
    cells = fitted["out_of_fold"]["cells"]
    how = f"fitted on {cells:,} cells that no expert was trained on" if cells else "not fitted"
    return f"Temperature {fitted['temperature']:.2f}, {how}."


def threshold_cells(fitted: ModelCalibration) -> str:
    """Return which cells the threshold of the unknown flag was fitted on."""
    left_out: dict[ThresholdCells, str] = {
        "batches left out": "the cells of batches that were left out",
        "cells left out": "the cells of each type that were left out in turn",
    }
    if found := left_out.get(fitted.get("threshold_from", "validation cells")):
        return found
    return f"the {fitted['validation_cells']:,} validation cells"


def unknown(about: CardEvidence) -> str:
    """Return which cells are called unknown, and which new types would be noticed at most."""
    fitted, found = about.calibration, about.evaluation.scbert.unknown
    scores = found.calibrated
    if not fitted["validation_cells"]:
        return (
            "No cell is called unknown: there were too few labelled cells to hold any out, so "
            "nothing says how unlike them a cell of a known type may be."
        )
    text = (
        f"A cell whose novelty score ({fitted['novelty_score']}) exceeds "
        f"{fitted['novelty_threshold']:.3g} is called unknown: at most "
        f"{percent(fitted['false_unknown_rate'])} of {threshold_cells(fitted)}, all of known "
        f"types. Of the test cells of known types {percent(scores.false_unknown)} are called "
        f"unknown; of the others {percent(scores.accuracy_of_accepted)} are labelled correctly. "
    )
    if found.novel_cells:
        text += (
            f"{found.novel_cells:,} test cells are of types that training lacked "
            f"({', '.join(map(plain, found.novel_types))}): "
            f"{percent(scores.novel_detected)} of them were noticed. "
        )
    expected = fitted["expected_novel_detection"]
    if not expected:
        return (
            text
            + "With fewer than three types, whether new ones would be noticed cannot be predicted."
        )
    rows = [
        (plain(row["cell_type"]), f"{row['detected']:.2f}", score(row["auroc"]), f"{row['n']:,}")
        for row in expected
    ]
    header = ("if this type were new", "noticed", "AUROC", "validation cells")
    return text + (
        "If a type were new, how many of its cells would be noticed? Each type is left out in "
        f"turn, {_worth(fitted['novelty_score'])}\n\n{table(header, rows, 3)}"
    )


def _worth(novelty_score: str) -> str:
    """Say whether what is said of new types is a prediction or an upper bound."""
    if novelty_score == WITHOUT_NETWORK:
        return (
            "and all that the novelty score rests on is learned again without it; no network takes "
            "part. So these are forecasts, for new types that differ from the known ones as these "
            "do from each other; a subtype of a known type is hardly noticed."
        )
    return (
        "but the network was trained with it, so these are UPPER BOUNDS, not forecasts: of a type "
        "that the network has never seen, fewer cells are noticed."
    )


def encoder_adds(calibration: ModelCalibration) -> list[str]:
    """Return one sentence on what the encoder adds to the other experts; none if it is alone."""
    found = calibration.get("out_of_fold", {}).get("encoder_adds")
    if not found:
        return []
    gain = found["log_loss_gain"]
    verdict = (
        "it is kept"
        if found["kept"]
        else "that is not clearly 1 % of the loss, so it has weight 0 and is not computed"
    )
    return [
        "What the encoder adds to the other experts, on cells that none was trained on: "
        f"{signed(gain['mean'])} nats of log-likelihood per cell (95 % interval over cells "
        f"{signed(gain['low'])} to {signed(gain['high'])}), {signed(found['macro_f1'])} macro F1; "
        f"{verdict}."
    ]


def _two_digits(f1: float | None) -> str:
    return NOTHING if f1 is None else f"{f1:.2f}"


def experts(calibration: ModelCalibration, types: Sequence[str]) -> str:
    """Return each expert's weight and its scores out of fold, per type, too."""
    held, each = calibration["out_of_fold"], calibration["experts"]
    if not held["cells"]:
        weights = (f"{EXPERT_TITLES[name]} {one['weight']:.2f}" for name, one in each.items())
        return (
            "Experts, learned from one labelled cell of each type, so that none could be held out "
            f"to judge or to weigh them: {', '.join(weights)}."
        )
    rows = [
        (EXPERT_TITLES[name], f"{one['weight']:.2f}", _raised(one), *_two_scores(one))
        for name, one in each.items()
    ]
    rows.append(("together", "", "", *_two_scores(held)))
    said = table(("expert", "weight", "rare types, tau", "macro F1", "log loss"), rows, 4)
    text = f"{_how_judged(held, types)}\n\n{said}"
    if len(each) < 2:
        return text
    columns = [one["f1_of_type"] for one in (*each.values(), held)]
    lines = [
        (plain(name), *(_two_digits(column[number]) for column in columns))
        for number, name in enumerate(types)
    ]
    header = ("F1 out of fold", *(EXPERT_TITLES[name] for name in each), "together")
    return f"{text}\n\n{table(header, lines, len(columns))}"


def _raised(expert: JudgedExpert) -> str:
    """Return by how much rare types are raised; models made before this existed have no number."""
    found = expert.get("logit_adjustment")
    return NOTHING if found is None else f"{found:.2f}"


def _two_scores(found: Judged) -> tuple[str, str]:
    return f"{found['macro_f1']:.3f}", f"{found['log_loss']:.3f}"


def _how_judged(held: OutOfFold, types: Sequence[str]) -> str:
    how = {
        "batch": "whole batches were left out in turn",
        "cell": "a fifth of the cells of each type was left out in turn",
        "validation": "the validation cells, which chose the epoch of the network, too",
    }[held["folds_by"]]
    again = (
        "After that each but the network was trained again on training and validation cells."
        if held["folds_by"] == "validation"
        else "After that each was trained again on all labelled cells but the test's."
    )
    missing = [name for name, f1 in zip(types, held["f1_of_type"], strict=True) if f1 is None]
    if missing:
        again += (
            f" Of {', '.join(map(plain, missing))} no cell could be judged: the cells left in had "
            "none of the type. Nothing here says how well these are named."
        )
    return (
        f"Experts, on {held['cells']:,} labelled cells that none was trained on ({how}). The "
        f"weights, and by what multiple tau of the logarithm of its rarity a type is raised, were "
        f"fitted to the same answers. {again}"
    )
