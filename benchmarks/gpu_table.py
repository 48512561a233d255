"""Tables and figures of the GPU benchmark: docs/results/gpu.md, gpu.svg, and gpu.json behind them.

python benchmarks/gpu_table.py OUT --commit HASH: from OUT/results.json of a whole run; HASH where
the code was carried to a machine whose checkout says another.
python benchmarks/gpu_table.py docs/results/gpu.json: page and figure again.
With OUT of a later run of some stages behind it: these take the place of the earlier ones.
"""

import argparse
import json
import re
from pathlib import Path

from gpu_figure import draw_curves
from gpu_found import Found, Results
from gpu_sections import attention, ceilings, correctness, finetuning, network
from gpu_summary import summary
from gpu_training import epochs_of, pretraining

KERNELS_SHOWN = 8
HEAD = ("command", "date", "commit", "checkout")
NOT_NEEDED = re.compile(r"weights_(?!count)|places|seconds|config|validation|traceback|history")
NETWORK = ("dim", "depth", "heads", "dim_head")
OPTIMIZER = ("tokens_per_batch", "learning_rate")


def cut(results: Found) -> Found:
    """Return what the page needs of a run."""
    return {
        "head": {key: results["head"][key] for key in HEAD if key in results["head"]},
        "stages": {
            name: {
                "measurements": {
                    key: measurement(found) for key, found in stage["measurements"].items()
                }
            }
            for name, stage in results["stages"].items()
        },
    }


def measurement(found: Found) -> Found:
    """Return a measurement without what no page shows."""
    kept = {key: value for key, value in found.items() if not NOT_NEEDED.match(key)}
    if "kernels" in found:
        kept["kernels"] = found["kernels"][:KERNELS_SHOWN]
    if "history" in found:
        kept["history"] = epochs_of(found["history"])
    if "traceback" in found:
        kept["error"] = re.sub(r"\S+/", "", found["traceback"][-1])
    if "config" in found:
        config = found["config"]
        kept["network"] = {key: config["network"][key] for key in NETWORK}
        kept["optimizer"] = {key: config["pretrain"]["optimizer"][key] for key in OPTIMIZER}
        kept["tokens"] = config["tokens"]["tokens"] if "tokens" in config else None
    if "validation" in found:
        said = found["validation"]
        kept["held_out"] = said["cells"]
        kept["best_loss"] = said["predictors"][said["best_predictor"]]["loss"]
    return kept


def page(results: Results) -> str:
    """Return the page in Markdown."""
    head, machine = results.head, results("A", "machine")
    checkout = head.get("checkout")
    carried = f" (carried to a machine whose checkout said {checkout})" if checkout else ""
    lines = [
        "# One GPU: correctness, speed, a pretraining",
        f"\nWritten by `python benchmarks/gpu_table.py`, from what `{head['command']}` found on "
        f"{head['date']} (`make bench-gpu`; cut to [gpu.json](gpu.json)); do not edit. "
        f"{machine['gpu']}, {machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}, "
        f"CUDA {machine['cuda']}. Code of {head['commit']}{carried}. {later(head)}Times are "
        "medians of up to "
        "ten runs by CUDA events, each once on one machine: a few percent between two numbers say "
        "nothing. M: million.\n",
        *summary(results),
        *ceilings(results),
        *correctness(results),
        *attention(results),
        *network(results),
        *pretraining(results),
        *finetuning(results),
    ]
    return "\n".join(lines) + "\n"


def later(head: Found) -> str:
    """Say which stages are of later runs."""
    return "".join(
        f"The small encoder of all cells, fine-tuning and annotation are of a later run on such a "
        f"machine (`{run['command']}`, {run['date']}, code of {run['commit']}). "
        for run in head.get("later", [])
    )


def joined(runs: list[Found]) -> Found:
    """Return the first run with the stages of the later ones in place of its own."""
    first, *others = runs
    first["head"].setdefault("later", []).extend(run["head"] for run in others)
    for run in others:
        first["stages"] |= run["stages"]
    return first


def read(source: Path, commit: str | None) -> Found:
    """Read a run, or what was kept of one."""
    if source.is_file():
        return json.loads(source.read_text())
    results = json.loads((source / "results.json").read_text())
    if commit:
        results["head"] |= {"commit": commit, "checkout": results["head"]["commit"]}
    said = (source / "log.txt").read_text()
    for step, stage in re.findall(r"told to stop: step (\d+) is kept in \S*/(E\d?)_", said):
        for found in results["stages"][stage]["measurements"].values():
            found["stopped_at"] = int(step)
    return cut(results)


def main() -> None:
    """Write the page, the figure and the numbers behind them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path, nargs="+", help="folder of a run, or gpu.json")
    parser.add_argument("--commit", help="of the code, where the run could not know it")
    parser.add_argument("--to", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    kept = joined([read(source, options.commit) for source in options.sources])
    results = Results(kept)
    text, figure = page(results), draw_curves(results)  # before anything is written
    (options.to / "gpu.json").write_text(json.dumps(kept, indent=1) + "\n")
    (options.to / "gpu.md").write_text(text)
    (options.to / "gpu.svg").write_text(figure)


if __name__ == "__main__":
    main()
