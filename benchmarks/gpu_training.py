"""The GPU page's section of pretraining."""

from gpu_found import Found, Results, digits, percent, table

RUNS = {
    "E": "the paper's size, part of the cells",
    "E2": "small encoder, the same cells",
    "E3": "small encoder, all cells",
}
SHOWN = (1, 2, 4, 8)  # epochs, and the last


def epochs_of(history: list[Found]) -> list[Found]:
    """Return the lines of whole epochs."""
    return [line for line in history if "epoch" in line]


def skill_of(results: Results, stage: str) -> str:
    """Write the skill at the end; a run that was stopped has no interval."""
    found = results.one(stage)
    if "skill" in found:
        return f"{found['skill']:.3f} ({found['skill_low']:.3f} to {found['skill_high']:.3f})"
    return f"{results.epochs(stage)[-1]['validation_skill']:.3f}"


def best_of(results: Results, stage: str) -> float:
    """Return the loss of the best predictor: loss / (1 - skill)."""
    last = results.epochs(stage)[-1]
    return float(last["validation_loss"] / (1 - last["validation_skill"]))


def pretraining(results: Results) -> list[str]:
    """Return what three pretrainings took and gave."""
    paper = results.one("E")
    return [
        "\n## Pretraining",
        "\nThe product's own pretraining with exact attention on packed cells, bf16, a tenth of the"
        " cells held out by study, the schedule chosen to fit the time.",
        *overview(results),
        "\nSkill: 1 - loss / loss of the best predictor without a network, with a 95 % bootstrap "
        "interval over held-out cells, which says nothing about other studies or seeds. Seconds: "
        "with the check of the store, the predictors and the held-out cells after each epoch.",
        f"\n{ending(results, 'E2')}Both runs of part of the cells are scored on the same "
        f"{paper['held_out']:,} held-out cells, with other genes hidden (the batches differ; "
        f"best predictor {best_of(results, 'E'):.4f} and {best_of(results, 'E2'):.4f}). They had "
        "different numbers of steps, tokens a batch and learning rates, one seed each: nothing "
        "follows about the size. All cells have other held-out studies, so that skill is not "
        "comparable with the others.",
        "\n![Held-out loss and skill by epoch](gpu.svg)",
        *(line for stage in RUNS for line in history(results, stage)),
    ]


def ending(results: Results, stage: str) -> str:
    """Say how a training ended that had no time for its whole schedule."""
    found, last = results.one(stage), results.epochs(stage)[-1]
    if not found["stopped_early"]:
        return ""
    planned = found["epochs"] * last["step"] / last["epoch"]
    return (
        f"The small encoder was told to stop at step {found['stopped_at']:,} of {planned:,.0f}; "
        f"the record ends with epoch {last['epoch']}, and its skill has no interval. Its weights "
        "are kept as a model and were scored again, on the CPU, with an interval ([the encoder of "
        "the benchmark](../../scbert/shipped/encoder_for_benchmarks/README.md)). The run "
        "on all cells is [the encoder of the package](../../scbert/shipped/encoder/README.md); "
        "the weights of the paper's size were not kept. "
    )


def overview(results: Results) -> list[str]:
    """Return a row for each training."""
    rows = []
    for stage, name in RUNS.items():
        found, epochs = results.one(stage), results.epochs(stage)
        optimizer, network = found["optimizer"], found["network"]
        rows.append(
            [
                f"{name}: {network['depth']} layers of {network['dim']}",
                f"{found['cells']:,}",
                f"{found['weights_count'] / 1e6:.1f} M",
                f"{optimizer['tokens_per_batch']:,}",
                f"{optimizer['learning_rate']:g}",
                f"{epochs[-1]['epoch']} of {found['epochs']}",
                f"{epochs[-1]['step']:,}",
                digits(found["pretraining_s"]),
                skill_of(results, stage),
            ]
        )
    columns = ["run", "cells", "weights", "tokens a batch", "learning rate", "epochs", "steps"]
    return table([*columns, "s", "skill"], rows)


def history(results: Results, stage: str) -> list[str]:
    """Return some epochs of a training."""
    lines = results.epochs(stage)
    rows = [
        [
            str(line["epoch"]),
            f"{line['train_loss']:.3f}",
            f"{line['validation_loss']:.3f}",
            f"{line['validation_skill']:.3f}",
            f"{line['cells_per_second']:,.0f}",
            percent(line["mfu"]),
            percent(line["waiting_share"]),
        ]
        for line in lines
        if line["epoch"] in SHOWN or line is lines[-1]
    ]
    columns = ["epoch", "training loss", "held-out loss", "skill", "cells/s", "MFU", "waiting"]
    return [f"\n### {RUNS[stage].capitalize()}", *table(columns, rows)]
