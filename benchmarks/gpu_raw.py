"""All that the GPU benchmark has measured so far, in tables, whatever it is.

Written anew after each measurement, also of a run that lacks some; gpu_table.py makes the page that
is read.
"""

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
