"""The measurements of a run of the GPU benchmark by name, and how numbers are written."""

from typing import Any

Found = dict[str, Any]


class Results:
    """What a run has measured."""

    def __init__(self, results: Found) -> None:
        self.head: Found = results["head"]
        self.stages: Found = results["stages"]

    def __call__(self, stage: str, name: str) -> Found:
        """Return a measurement; raises ValueError if the run has it not."""
        found = self.stages.get(stage, {}).get("measurements", {}).get(name, {})
        if found.get("status") != "ok":
            raise ValueError(
                f'The run has no "{name}" of stage {stage} (it says '
                f"{found.get('status', 'nothing')}), and the page is that of a whole run. Run "
                "make bench-gpu again; what a run without it has found is in OUT/gpu.md."
            )
        return found

    def one(self, stage: str) -> Found:
        """Return the pretraining of a stage."""
        names = [name for name in self.stages[stage]["measurements"] if "pretraining" in name]
        return self(stage, names[0])

    def epochs(self, stage: str) -> list[Found]:
        """Return the history of the pretraining of a stage, a line an epoch."""
        history: list[Found] = self(stage, "history")["history"]
        return history


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """Return a table in Markdown: names on the left, numbers on the right."""
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return ["", *("| " + " | ".join(line) + " |" for line in lines)]


def digits(value: float) -> str:
    """Write a number with three digits, from a thousand on all of them."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def million(value: float) -> str:
    """Write tokens per second."""
    return f"{value / 1e6:.2f} M"


def small(value: float) -> str:
    """Write an error."""
    return f"{value:.1e}".replace("e-0", "e-")


def percent(value: float) -> str:
    """Write a share."""
    return f"{100 * value:.1f} %"
