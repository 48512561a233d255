"""Draw the graph of rules, as `snakemake --rulegraph` gives it, as SVG; Graphviz is not needed."""

import re
import sys
from html import escape
from itertools import pairwise
from pathlib import Path

WIDTH, NARROW, HEIGHT, GAP, ROW, MARGIN = 168, 4, 30, 18, 62, 14
COLOURS = {  # of the file in rules/ that holds the rule
    "corpus": "#dbe9f6",
    "panglaodb": "#dbe9f6",
    "split": "#dbe9f6",
    "tokens": "#d5efe3",
    "gene2vec": "#fbe8c8",
    "pretrain": "#fbd9d3",
    "annotate": "#fbd9d3",
    "explain": "#e6def4",
    "evaluate": "#e6def4",
}
OTHERS = "#eeeeee"

Edges = set[tuple[str, str]]


def read_graph(dot: str) -> Edges:
    """Return pairs of rules, of which the second reads what the first writes."""
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', dot))
    return {(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", dot) if a != b}


def reaches(edges: Edges, begin: str) -> set[str]:
    """Return all rules that need a rule, at whatever distance."""
    found, waiting = set(), [begin]
    while waiting:
        last = waiting.pop()
        following = {after for before, after in edges if before == last} - found
        found |= following
        waiting += following
    return found


def without_shortcuts(edges: Edges) -> Edges:
    """Leave out edges that only repeat a longer way: the report reads nearly everything."""
    return {edge for edge in edges if edge[1] not in reaches(edges - {edge}, edge[0])}


def row_of_each(edges: Edges) -> dict[str, int]:
    """Put each rule below all that it needs, and what needs nothing just above what needs it."""
    rules = sorted({rule for edge in edges for rule in edge})
    row: dict[str, int] = {}
    while len(row) < len(rules):
        for rule in rules:
            before = {one for one, after in edges if after == rule}
            if rule not in row and before <= row.keys():
                row[rule] = 1 + max((row[one] for one in before), default=-1)
    for rule in set(rules) - {after for _, after in edges}:
        row[rule] = min(row[after] for before, after in edges if before == rule) - 1
    return row


def ways(edges: Edges, row: dict[str, int]) -> list[list[str]]:
    """Return each edge as what it passes: a rule, a gap in each row between, a rule."""
    return [[a, *(f"{a} {b} {n}" for n in range(row[a] + 1, row[b])), b] for a, b in sorted(edges)]


def rows_of(passed: list[list[str]], row: dict[str, int]) -> list[list[str]]:
    """Return rules and gaps row by row, each near to what it is joined to."""
    steps = {step for way in passed for step in pairwise(way)}
    row = row | {gap: int(gap.split()[-1]) for way in passed for gap in way[1:-1]}
    rows = [[one for one in sorted(row) if row[one] == n] for n in range(max(row.values()) + 1)]
    for _ in range(12):
        for moved in (rows, rows[::-1]):
            place = {one: (i + 0.5) / len(line) for line in rows for i, one in enumerate(line)}
            for line in moved:
                line.sort(key=lambda one: _mean_place(one, steps, place))
                place |= {one: (i + 0.5) / len(line) for i, one in enumerate(line)}
    return rows


def _mean_place(rule: str, edges: Edges, place: dict[str, float]) -> float:
    """Return where the neighbours of a rule are, from 0 at the left to 1 at the right."""
    near = [place[b if a == rule else a] for a, b in edges if rule in (a, b)]
    return sum(near) / len(near)


def draw(edges: Edges, colours: dict[str, str]) -> str:
    """Return the picture."""
    row = row_of_each(edges)
    passed = ways(edges, row)
    rows = rows_of(passed, row)
    lengths = [
        sum(WIDTH if one in row else NARROW for one in line) + GAP * len(line) for line in rows
    ]
    width, height = max(lengths) + 2 * MARGIN, len(rows) * ROW - (ROW - HEIGHT) + 2 * MARGIN
    middle = {}
    for n, line in enumerate(rows):
        x = (width - lengths[n] + GAP) / 2
        for one in line:
            own = WIDTH if one in row else NARROW
            middle[one] = (x + own / 2, MARGIN + n * ROW)
            x += own + GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    curves = [_curve([middle[one] for one in way]) for way in passed]
    lines += [f'<path d="{curve}" fill="none" stroke="#888"/>' for curve in curves]
    for rule in row:
        x, y = middle[rule]
        lines.append(
            f'<rect x="{x - WIDTH / 2:.0f}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"'
            f' fill="{colours.get(rule, OTHERS)}" stroke="#555"/>'
            f'<text x="{x:.0f}" y="{y + 19}" text-anchor="middle">{escape(rule)}</text>'
        )
    return "\n".join([*lines, "</svg>\n"])


def _curve(points: list[tuple[float, float]]) -> str:
    """Return a line from the foot of the first to the head of the last, straight down in gaps."""
    x, y = points[0]
    path = f"M{x:.0f} {y + HEIGHT}"
    for (x1, y1), (x2, y2) in pairwise(points):
        begin, end = y1 + HEIGHT, y2
        path += f"C{x1:.0f} {(begin + end) / 2} {x2:.0f} {(begin + end) / 2} {x2:.0f} {end}"
        path += f"V{end + HEIGHT}" if (x2, y2) != points[-1] else ""
    return path


def colours_of_rules(folder: Path) -> dict[str, str]:
    """Return the colour of each rule, by the file that holds it."""
    return {
        rule: COLOURS.get(file.stem, OTHERS)
        for file in folder.glob("*.smk")
        for rule in re.findall(r"^(?:rule|checkpoint) (\w+):", file.read_text(), re.M)
    }


if __name__ == "__main__":
    graph = without_shortcuts(read_graph(sys.stdin.read()))
    rules = Path(__file__).parents[1] / "rules"
    Path(sys.argv[1]).write_text(draw(graph, colours_of_rules(rules)))
