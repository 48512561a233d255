"""What the model card says of a model's experts: weights, scores of each, what the encoder adds."""

from collections.abc import Mapping, Sequence
from typing import Any

from scbert.evidence.markdown import plain, table
from scbert.evidence.wording import NOTHING, signed

Json = Mapping[str, Any]

NAMES = {
    "logistic_regression": "balanced logistic regression",
    "support_vectors": "balanced support vector machine",
    "discriminant": "discriminant on principal components",
    "encoder": "encoder",
}


def encoder_adds(calibration: Json) -> list[str]:
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


def experts(calibration: Json, types: Sequence[str]) -> str:
    """Return each expert's weight and its scores out of fold, per type, too."""
    held = calibration["out_of_fold"]
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
    rows = [
        (NAMES[name], f"{one['weight']:.2f}", f"{one['macro_f1']:.3f}", f"{one['log_loss']:.3f}")
        for name, one in calibration["experts"].items()
    ]
    rows.append(("together", "", f"{held['macro_f1']:.3f}", f"{held['log_loss']:.3f}"))
    text = (
        f"Experts, on {held['cells']:,} labelled cells that none was trained on ({how}). The "
        f"weights were fitted to the same answers. {again}\n\n"
        + table(("expert", "weight", "macro F1", "log loss"), rows, 3)
    )
    if len(calibration["experts"]) < 2:
        return text
    columns = [one["f1_of_type"] for one in calibration["experts"].values()]
    columns.append(held["f1_of_type"])
    lines = [
        (plain(name), *(_two_digits(column[number]) for column in columns))
        for number, name in enumerate(types)
    ]
    header = ("F1 out of fold", *(NAMES[name] for name in calibration["experts"]), "together")
    return f"{text}\n\n{table(header, lines, len(columns))}"
