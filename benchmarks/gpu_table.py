"""What the GPU benchmark found, as a page and a figure.

python benchmarks/gpu_table.py OUT: writes docs/results/gpu.md and gpu.svg from OUT/results.json.
"""

import argparse
import json
from pathlib import Path
from typing import Any

TITLES = {
    "A": "What the machine can do",
    "B": "The same numbers as on a CPU",
    "C": "Attention alone: 10 heads of 64, about 65,000 tokens",
    "D": "The network at the paper's size",
    "E": "Pretraining at the paper's size",
    "F": "Fine-tuning and annotation",
    "E2": "Pretraining of the small encoder, without the query's study",
    "E3": "Pretraining of the small encoder, all cells",
}
Found = dict[str, Any]
NOT_SHOWN = ("config", "validation", "traceback")
MOST_ROWS = 40  # of a table of its own


def page(results: Found) -> str:
    """Return the page in Markdown."""
    head = results["head"]
    machine = results["stages"].get("A", {}).get("measurements", {}).get("machine", {})
    lines = [
        "# One GPU: correctness, speed, a pretraining",
        f"\nWritten by `{head['command']}` on {head['date']}; do not edit. "
        f"{machine.get('gpu', head['device'])}, {machine.get('cpu', 'unknown CPU')}, "
        f"{machine.get('cores', '?')} cores, torch {machine.get('torch', '?')}, CUDA "
        f"{machine.get('cuda', '?')}. Commit {head['commit']}. Medians of up to ten runs by CUDA "
        "events; host_ms: until the launch returns; gb: peak of tensors on the device.",
    ]
    for name, stage in results["stages"].items():
        lines += [f"\n## {name}: {TITLES.get(name, name)}\n", state(stage)]
        lines += tables(stage.get("measurements", {}))
    return "\n".join(lines) + "\n"


def state(stage: Found) -> str:
    """Say how a stage ended."""
    return f"{stage['status']}, {stage.get('took_s', 0):.0f} of {stage.get('limit_s', 0):.0f} s."


def tables(measurements: dict[str, Found]) -> list[str]:
    """Put measurements with the same columns into one table; lists follow in their own."""
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    lists: list[str] = []
    for name, found in measurements.items():
        flat = {
            key: value
            for key, value in found.items()
            if key not in NOT_SHOWN and not isinstance(value, list | dict)
        }
        for key, value in found.items():
            if isinstance(value, list) and value and key not in NOT_SHOWN:
                lists += list_of(f"{name}: {key}", value)
        groups.setdefault(tuple(flat), []).append([name, *map(shown, flat.values())])
    lines = []
    for columns, rows in groups.items():
        lines += table(["", *columns], rows)
    return lines + lists


def list_of(title: str, rows: list[Found]) -> list[str]:
    """Return a table of a list of records; of a history those of whole epochs."""
    epochs = [row for row in rows if "epoch" in row]
    rows = (epochs or rows)[-MOST_ROWS:]
    columns = list(rows[0])
    return [
        f"\n{title}",
        *table(columns, [[shown(row.get(key, "")) for key in columns] for row in rows]),
    ]


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """Return a table in Markdown."""
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return ["", *("| " + " | ".join(line) + " |" for line in lines)]


def shown(value: object) -> str:
    """Write a number with four digits."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value).replace("|", "/")


def curves(results: Found) -> dict[str, list[Found]]:
    """Return the history of each pretraining."""
    found = {}
    for name in ("E", "E2", "E3"):
        measurements = results["stages"].get(name, {}).get("measurements", {})
        history = measurements.get("history", {}).get("history", [])
        if history:
            found[TITLES[name]] = history
    return found


def draw_curves(histories: dict[str, list[Found]]) -> str:
    """Draw loss and skill of each pretraining against its steps, as SVG."""
    from scbert.evidence.figures import (  # noqa: PLC0415  the GPU machine draws nothing
        BLUE,
        GREEN,
        VERMILION,
        Figure,
        svg_figure,
    )

    @svg_figure
    def draw() -> Figure:
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for (name, history), colour in zip(
            histories.items(), (BLUE, VERMILION, GREEN), strict=False
        ):
            epochs = [line for line in history if "epoch" in line]
            steps = [line["step"] for line in epochs]
            for axes, key in ((left, "validation_loss"), (right, "validation_skill")):
                axes.plot(
                    steps, [line[key] for line in epochs], color=colour, marker="o", label=name
                )
        left.set(title="Loss of hidden genes, held-out cells (nats)", xlabel="step")
        right.set(title="Skill over the best predictor", xlabel="step")
        right.legend()
        return figure

    return draw()


def main() -> None:
    """Write the page and the figure of a run that has come back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--to", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    results = json.loads((options.out / "results.json").read_text())
    text, histories = page(results), curves(results)
    if histories:
        text += "\n![Loss and skill of the pretraining](gpu.svg)\n"
        (options.to / "gpu.svg").write_text(draw_curves(histories))
    (options.to / "gpu.md").write_text(text)


if __name__ == "__main__":
    main()
