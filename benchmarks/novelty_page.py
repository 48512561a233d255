"""The page of the novelty benchmark, from the folders that benchmarks/novelty.py wrote.

Run: python benchmarks/novelty_page.py FOLDER ... (writes docs/results/novelty.md and novelty.svg)
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from annotation_page import TITLES
from matplotlib.figure import Figure
from novelty import NOBODY, PLAIN

from scbert.evidence.figures import BLUE, MUTED, ORANGE, VERMILION, svg_figure
from scbert.evidence.intervals import with_interval

DEFAULT = "expression_distance"
SHOWN = {  # score: its name, colour and marker in the figure
    DEFAULT: ("expression_distance (default)", BLUE, "o"),
    "combined": ("combined with energy", ORANGE, "s"),
    "distance": ("distance of the cell vector", VERMILION, "D"),
    "energy": ("energy", MUTED, "^"),
    "max_probability": ("largest probability", MUTED, "v"),
}
MEASURES = {
    "auroc": "AUROC",
    "novel_detected": "new cells noticed",
    "false_unknown": "known cells refused",
    "strict_novel_accuracy": "strict novel accuracy",
    "known_accuracy": "known accuracy",
    "area": "area under coverage and accuracy",
}
DRAWS = 2000
INTRODUCTION = """# Novel types: are cells noticed of a type that the model has never seen?

    python benchmarks/novelty.py DATA --pretrained MODEL --out A --tasks pbmc3k
    python benchmarks/novelty.py DATA --pretrained MODEL --out B --seeds 2021
      --tasks pbmc3k_to_pbmc8k
    python benchmarks/novelty.py DATA --pretrained MODEL --out C --tasks kang --seeds 2021
      --config benchmarks/annotation_kang.yaml --max-train-cells 1500
    python benchmarks/novelty_page.py A B C

Written by these commands; do not edit. Encoder: benchmarks/pool_small.yaml, fine-tuned as in
benchmarks/annotation.yaml (hybrid head, all weights; Kang: see above). Each type is left out in
turn and a model is fine-tuned without any cell of it: the choice of genes, epochs, temperature,
components and threshold never see it. Threshold: 5 % of the validation cells, all of known types,
are called unknown. Within a study, the test cells are a fold and all cells of the type that is left
out; across studies, those of the other study alone.

Mean over types and seeds, 95 % bootstrap interval over types.

- AUROC: of new against known cells. Known cells refused: of the test cells, by the same threshold.
- Strict novel accuracy, known accuracy: the paper's, see scbert/evidence/refusal.py.
- `combined`: energy plus `expression_distance`, each in units of the validation cells.
  `expression_distance`: of the tokens, among the 20 first principal components of the training
  cells' tokens, to the nearest type (Mahalanobis); no network takes part. `distance`, `cosine`: of
  the cell vector that the fine-tuned network makes. `{plain}`: the original's rule.

![AUROC and cells noticed, by type and score](novelty.svg)
"""


def section(
    task: str, lines: pd.DataFrame, foretold: pd.DataFrame, calibrated: pd.DataFrame
) -> str:
    """Return the tables of one task."""
    left_out = lines[lines.cell_type != NOBODY]
    seeds = ", ".join(map(str, sorted(lines.seed.unique())))
    parts = [f"## {TITLES[task]}: {left_out.cell_type.nunique()} types, seeds {seeds}\n"]
    parts += [
        "| score | " + " | ".join(MEASURES.values()) + " |",
        "|---" * (len(MEASURES) + 1) + "|",
    ]
    for score, own in left_out.groupby("score", sort=False):
        cells = [_interval(own.set_index("cell_type")[measure]) for measure in MEASURES]
        parts.append(f"| {score} | {' | '.join(cells)} |")
    parts += ["\nAUROC and, in brackets, share noticed, by type; mean over seeds.\n"]
    parts += _by_type(left_out)
    parts += ["", _foretold(left_out, foretold), "", _calibration(calibrated)]
    return "\n".join(parts) + "\n"


def _interval(values: pd.Series) -> str:
    by_type = values.astype(float).groupby(level=0).mean().dropna().to_numpy()
    if not len(by_type):
        return ""
    drawn = np.random.default_rng(0).choice(by_type, (DRAWS, len(by_type))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return with_interval(by_type.mean(), {"low": low, "high": high})


def _by_type(left_out: pd.DataFrame) -> list[str]:
    rows = [
        "| type left out | cells | " + " | ".join(SHOWN) + " |",
        "|---" * (len(SHOWN) + 2) + "|",
    ]
    for name, own in left_out.groupby("cell_type"):
        means = own.groupby("score")[["auroc", "novel_detected", "n"]].mean()
        shown = [f"{means.auroc[score]:.2f} ({means.novel_detected[score]:.2f})" for score in SHOWN]
        rows.append(f"| {name} | {means.n[DEFAULT]:.0f} | {' | '.join(shown)} |")
    return rows


def _foretold(left_out: pd.DataFrame, foretold: pd.DataFrame) -> str:
    """Compare what calibration.json says of each type with what is true without it."""
    (score,) = foretold.score.unique()
    true = (
        left_out[left_out.score == score].groupby("cell_type")[["auroc", "novel_detected"]].mean()
    )
    said = foretold.groupby("cell_type")[["auroc", "detected"]].mean().reindex(true.index).dropna()
    true = true.loc[said.index]
    off = (said.detected - true.novel_detected).abs().mean()
    return (
        f"What a model that knows all types predicts for them (`{score}`): AUROC "
        f"{said.auroc.mean():.2f}, in truth {true.auroc.mean():.2f}; noticed "
        f"{said.detected.mean():.2f}, in truth {true.novel_detected.mean():.2f}; {off:.2f} "
        "off for a type, on average."
    )


def _calibration(calibrated: pd.DataFrame) -> str:
    """Say what the confidence of the same models is worth on test cells of known types."""
    means, most = calibrated.mean(numeric_only=True), calibrated.max(numeric_only=True)
    return (
        f"Confidence on the test cells of known types, {len(calibrated)} models: expected "
        f"calibration error {means.ece_before:.3f} before and {means.ece:.3f} after (at most "
        f"{most.ece_before:.3f} and {most.ece:.3f})."
    )


@svg_figure
def draw(lines: pd.DataFrame) -> Figure:
    """Draw AUROC and the share of cells noticed, a row for each type."""
    left_out = lines[lines.cell_type != NOBODY]
    tasks = [task for task in TITLES if task in set(left_out.task)]
    n_types = [left_out[left_out.task == task].cell_type.nunique() for task in tasks]
    figure = Figure(figsize=(8.4, 1.3 + 0.36 * sum(n_types)), layout="constrained")
    grid = figure.subplots(len(tasks), 2, squeeze=False, height_ratios=n_types, sharey="row")
    for row, task in enumerate(tasks):
        own = left_out[left_out.task == task]
        means = own.groupby(["cell_type", "score"])[["auroc", "novel_detected"]].mean()
        types = sorted(own.cell_type.unique())
        for axes, measure in zip(grid[row], ("auroc", "novel_detected"), strict=True):
            for above, (score, (name, colour, marker)) in enumerate(reversed(SHOWN.items())):
                values = means[measure].xs(score, level="score").loc[types]
                label = name if row == 0 and measure == "auroc" else None
                look = {"color": colour, "marker": marker, "zorder": 2 + above}
                axes.scatter(values, types, s=26, label=label, **look)
            axes.grid(visible=True)
            axes.set_xlim(-0.03, 1.03)
        grid[row][0].invert_yaxis()
        grid[row][0].set_title(TITLES[task])
    grid[-1][0].set_xlabel("AUROC, new against known cells")
    grid[-1][1].set_xlabel("share of the new type's cells called unknown")
    figure.legend(loc="outside upper center", ncols=3, reverse=True)
    return figure


def _read(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, sep="\t", keep_default_na=False, na_values=[""])


def main() -> None:
    """Write the page and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    lines, foretold, calibrated = (
        pd.concat([_read(folder / f"{name}.tsv") for folder in options.folders])
        for name in ("lines", "foretold", "calibration")
    )
    parts = [INTRODUCTION.format(plain=PLAIN)]
    for task in [task for task in TITLES if task in set(lines.task)]:
        own = (table[table.task == task] for table in (lines, foretold, calibrated))
        parts.append(section(task, *own))
    (options.out / "novelty.md").write_text("\n".join(parts))
    (options.out / "novelty.svg").write_text(draw(lines))


if __name__ == "__main__":
    main()
