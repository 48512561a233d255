"""Which figures the benchmark's page has, drawn from its results."""

import re
from collections.abc import Sequence

import pandas as pd

from scbert.benchmark.rank_figures import draw_ranks
from scbert.benchmark.ranked import RankedProtocol
from scbert.benchmark.results import Results, cost_of, mean_by
from scbert.benchmark.score_figures import draw_cost, draw_levels

LEVEL = re.compile(r"^([\d.]+)_(.+)$")
PANELS = {
    ("few_labels", "per_type"): "Cells of each type to learn from",
    ("few_labels", "percent"): "% of the cells to learn from",
    ("class_imbalance", "to_1"): "Common cells for each rare one",
    ("label_noise", "percent"): "% wrong labels among the cells to learn from",
}
FEWEST_LEVELS = 2  # that make a line


def draw_all(results: Results, ranks: Sequence[RankedProtocol]) -> dict[str, str]:
    """Return the figures that the results allow: name -> SVG."""
    score = "macro F1, control-scaled" if results.has_control else "macro F1"
    titles = {name: results.title(name) for name in results.methods}
    level = results.confidence_level
    figures = {
        one.figure: draw_ranks(one.ranking, titles, results.first, level)
        for one in ranks
        if one.ranking is not None
    }
    points = _cost_points(results)
    if len(points.dropna()):
        figures["cost"] = draw_cost(points, score)
    panels = _panels(results)
    if panels:
        figures["levels"] = draw_levels(panels, titles[results.first], score)
    return figures


def _shown(results: Results) -> list[str]:
    """Return the methods without the controls, which would press the others together."""
    return [name for name in results.methods if results.kind(name) != "control"]


def _cost_points(results: Results) -> pd.DataFrame:
    protocol = results.protocols[0]
    costs = cost_of(results, protocol)
    score = mean_by(results.scores(protocol=protocol), "method")
    names = [name for name in _shown(results) if name in costs.index]
    return pd.DataFrame(
        {
            "title": [results.title(name) for name in names],
            "kind": [results.kind(name) for name in names],
            "seconds": costs["seconds_per_1000"].reindex(names).to_numpy(),
            "score": score.reindex(names).to_numpy(),
        }
    )


def _panels(results: Results) -> dict[str, pd.DataFrame]:
    """Return scores by level, shape (levels, methods), of what has two levels or more."""
    found = {}
    for (protocol, unit), title in PANELS.items():
        table = results.scores(protocol=protocol)
        parts = table["level"].str.extract(LEVEL)
        table = table.assign(number=pd.to_numeric(parts[0]), unit=parts[1])
        table = table[table["unit"] == unit]
        grid = table.pivot_table(index="number", columns="method", values="score", dropna=False)
        if len(grid) >= FEWEST_LEVELS:
            grid.index = pd.Index([f"{number:g}" for number in grid.index])
            asked = [name for name in _shown(results) if name in grid]
            found[title] = grid[asked].rename(columns=results.title)
    return found
