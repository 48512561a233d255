"""Draws the figures of the pages: python docs/figures/draw.py. Their colours are Okabe and Ito's."""

from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent
WIDTH = 600  # at which letters of 17 are still read on a telephone
BLUE, ORANGE, GREEN, RED, GREY, INK = (
    "#0072B2",
    "#B87A00",
    "#007A5A",
    "#C04A00",
    "#666666",
    "#222222",
)
TINTS = {BLUE: "#DCEBF5", ORANGE: "#FBEBCB", GREEN: "#D5EEE6", RED: "#FBE0D2", GREY: "#EFEFEF"}


class Drawing:
    """An SVG image of one width, on white, so that it is read on dark pages, too."""

    def __init__(self, height: int, title: str):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            f'font-family="Helvetica, Arial, sans-serif" fill="{INK}">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{GREY}"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        ]

    def text(self, x, y, words, size=17, align="middle", color=INK, bold=False):
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{align}" fill="{color}"{weight}>'
            f"{escape(words)}</text>"
        )

    def box(self, x, y, width, height, words, color=GREY, size=17, bold=False):
        """Draw a box; each line of `words` is a line in it."""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" '
            f'fill="{TINTS[color]}" stroke="{color}" stroke-width="1.5"/>'
        )
        lines = words.split("\n")
        top = y + height / 2 - (len(lines) - 1) * size * 0.6 + size * 0.35
        for number, line in enumerate(lines):
            self.text(x + width / 2, round(top + number * size * 1.2, 1), line, size, bold=bold)

    def arrow(self, *points):
        path = "M" + " L".join(f"{x} {y}" for x, y in points)
        self.parts.append(
            f'<path d="{path}" fill="none" stroke="{GREY}" stroke-width="2" marker-end="url(#tip)"/>'
        )

    def line(self, x1, y1, x2, y2):
        self.parts.append(f'<path d="M{x1} {y1}L{x2} {y2}" stroke="#BBBBBB" stroke-width="1"/>')

    def dot(self, x, y, color, radius=7):
        self.parts.append(f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{color}"/>')

    def save(self, name):
        (FOLDER / f"{name}.svg").write_text("\n".join([*self.parts, "</svg>"]) + "\n")


def overview():
    drawing = Drawing(210, "Counts go into a model; a label, a confidence and a flag come out")
    drawing.box(10, 40, 150, 130, "your cells\n\nraw counts\ncells × genes", GREY)
    drawing.arrow((162, 105), (213, 105))
    drawing.box(216, 40, 140, 130, "scBERT\n\na few experts\nthat vote", BLUE)
    drawing.arrow((358, 105), (409, 105))
    drawing.box(412, 10, 178, 54, "cell type\nCD8 T", GREEN, 16)
    drawing.box(412, 78, 178, 54, "how probable\n0.93", ORANGE, 16)
    drawing.box(412, 146, 178, 54, "known type?\nyes", RED, 16)
    drawing.save("overview")


def tokens():
    rows = [
        ("MT-CO1", 400), ("GAPDH", 30), ("CD3D", 6), ("IL7R", 3), ("LYZ", 1), ("MS4A1", 0),
    ]  # fmt: skip
    drawing = Drawing(470, "The counts of a cell become tokens")
    drawing.text(300, 28, "One cell with 20,000 counts in all", 19, bold=True)
    places = (15, 215, 345, 470, 570)
    for x, head in zip(places, ("gene", "counts", "per 10,000", "log2(1 + x)", "bin"), strict=True):
        drawing.text(x, 68, head, 16, "start" if x == 15 else "end", GREY)
    drawing.line(15, 78, 585, 78)
    shown = {200: "7.65", 15: "4.00", 3: "2.00", 1.5: "1.32", 0.5: "0.58", 0: "0"}
    for number, (gene, counts) in enumerate(rows):
        y, rate = 106 + 32 * number, counts / 2
        token = min(int(float(shown[rate])), 5)
        color = INK if token else "#767676"
        values = (gene, f"{counts}", f"{rate:g}", shown[rate], f"{token}" if token else "none")
        for x, value in zip(places, values, strict=True):
            drawing.text(x, y, value, 18, "start" if x == 15 else "end", color, bold=x == 570)
    drawing.text(585, 106, "*", 16)
    drawing.arrow((300, 288), (300, 322))
    drawing.text(315, 312, "expressed genes only", 16, "start", GREY)
    for number, words in enumerate(("MT-CO1\n5", "GAPDH\n4", "CD3D\n2", "IL7R\n1")):
        drawing.box(30 + 138 * number, 332, 126, 60, words, BLUE, 18)
    drawing.text(300, 424, "four tokens: a gene and a bin each, in no order", 17)
    drawing.text(300, 452, "* 5 stands for 5 and more", 15, color=GREY)
    drawing.save("tokens")


def network():
    drawing = Drawing(640, "The network: how it is pretrained, and how it gives a cell a vector")
    drawing.text(300, 28, "What goes in", 19, bold=True)
    for number, (gene, level) in enumerate((("GAPDH", "4"), ("CD3D", "?"), ("IL7R", "1"))):
        x = 40 + 180 * number
        drawing.box(x, 48, 160, 44, f"vector of {gene}", BLUE, 16)
        drawing.text(x + 80, 113, "+", 20)
        drawing.box(x, 122, 160, 44, f"vector of bin {level}", RED if level == "?" else ORANGE, 16)
        drawing.arrow((x + 80, 168), (x + 80, 206))
    drawing.box(40, 210, 520, 50, "attention: each gene looks at all others", GREY)
    drawing.box(40, 266, 520, 50, "feed-forward: each gene for itself", GREY)
    drawing.text(300, 344, "the same two again, in each layer", 16, color=GREY)
    drawing.arrow((160, 356), (160, 396))
    drawing.arrow((440, 356), (440, 396))
    drawing.text(155, 424, "1. Pretraining", 19, bold=True)
    drawing.text(155, 448, "cells without labels", 16, color=GREY)
    drawing.box(20, 462, 270, 62, "15 % of bins are hidden (?).\nWhich bin was it?", RED, 16)
    drawing.box(
        20,
        534,
        270,
        86,
        "Right answers need to know\nwhich genes are expressed\ntogether.",
        GREY,
        16,
    )
    drawing.text(445, 424, "2. Naming cells", 19, bold=True)
    drawing.text(445, 448, "nothing is hidden", 16, color=GREY)
    drawing.box(310, 462, 270, 62, "mean over the tokens\n= vector of the cell", GREEN, 16)
    drawing.box(310, 534, 270, 86, "A classifier reads it:\nthe expert “encoder”.", GREY, 16)
    drawing.save("network")


def experts():
    drawing = Drawing(560, "Four experts answer; their answers are weighed and calibrated")
    drawing.box(175, 8, 250, 46, "the tokens of a cell", BLUE)
    names = (
        "logistic\nregression",
        "... on\nscaled genes",
        "discrim-\ninant",
        "encoder\n(network)",
    )
    weights = (0.33, 0.49, 0.18, 0.0)
    for number, (name, weight) in enumerate(zip(names, weights, strict=True)):
        x = 12 + 147 * number
        drawing.arrow((300, 56), (x + 66, 92))
        drawing.box(x, 96, 132, 62, name, GREY, 17)
        drawing.text(x + 66, 184, f"weight {weight:.2f}", 17)
        size = round(120 * weight)
        drawing.parts.append(
            f'<rect x="{x + 6}" y="194" width="120" height="14" fill="#EFEFEF"/>'
            f'<rect x="{x + 6}" y="194" width="{size}" height="14" fill="{BLUE}"/>'
        )
        drawing.arrow((x + 66, 214), (300, 262))
    drawing.box(
        90,
        266,
        420,
        66,
        "weighted mean of their log-probabilities,\ndivided by a temperature",
        ORANGE,
    )
    drawing.arrow((300, 334), (300, 364))
    drawing.box(90, 368, 420, 44, "label and confidence", GREEN, bold=True)
    drawing.text(300, 438, "Weights and temperature come from cells that", 16, color=GREY)
    drawing.text(300, 459, "the experts had not seen. An expert that does not", 16, color=GREY)
    drawing.text(300, 480, "help gets weight 0, and the encoder is then not run.", 16, color=GREY)
    drawing.box(90, 500, 420, 50, "beside it: distance to the nearest type: unknown?", RED, 16)
    drawing.save("experts")


def evaluation():
    drawing = Drawing(540, "Which cells are learned from, and which are tested")
    drawing.text(190, 28, "donors to learn from", 18, bold=True)
    drawing.text(500, 28, "test donor", 18, bold=True)
    for group, (x, color) in enumerate(((20, BLUE), (140, ORANGE), (260, GREEN), (440, RED))):
        drawing.box(x, 42, 110 if group < 3 else 120, 104, "", color)
        for number in range(12):
            drawing.dot(x + 20 + 23 * (number % 4), 62 + 22 * (number // 4), color)
        drawing.text(x + 55, 138, f"donor {group + 1}", 16)
    drawing.line(405, 10, 405, 390)
    drawing.arrow((195, 148), (195, 176))
    drawing.box(
        20, 180, 350, 66, "each donor is left out in turn:\nwhat do the experts say of it?", GREY
    )
    drawing.arrow((195, 248), (195, 274))
    drawing.box(
        20,
        278,
        350,
        66,
        "weights, temperature, threshold of\n“unknown”; then all learn from all",
        GREY,
    )
    drawing.arrow((500, 148), (500, 404))
    drawing.text(492, 200, "not used", 16, "end", GREY)
    drawing.text(492, 222, "until now", 16, "end", GREY)
    drawing.arrow((195, 346), (195, 404))
    drawing.box(20, 408, 560, 50, "named once and scored: scBERT, experts, simple methods", GREEN)
    drawing.text(
        300, 488, "Each difference has an interval, by drawing the test cells", 16, color=GREY
    )
    drawing.text(
        300, 509, "again and again. If it has 0 in it, no difference was shown.", 16, color=GREY
    )
    drawing.save("evaluation")


def workflow():
    drawing = Drawing(640, "The steps of the workflow")
    drawing.text(145, 28, "cells without labels", 18, bold=True)
    drawing.text(455, 28, "labelled cells", 18, bold=True)
    left = (
        "PanglaoDB, or files",
        "read and check counts",
        "genes and tokens",
        "gene vectors",
        "pretraining",
    )
    for number, words in enumerate(left):
        drawing.box(20, 44 + 78 * number, 250, 50, words, GREY if number == 0 else BLUE)
        if number:
            drawing.arrow((145, 16 + 78 * number), (145, 42 + 78 * number))
    right = (
        "config/datasets.tsv",
        "read and check counts",
        "test cells are put aside",
        "tokens",
        "fine-tuning",
    )
    for number, words in enumerate(right):
        drawing.box(330, 44 + 78 * number, 250, 50, words, GREY if number == 0 else ORANGE)
        if number:
            drawing.arrow((455, 16 + 78 * number), (455, 42 + 78 * number))
    drawing.arrow((272, 381), (328, 381))
    drawing.arrow((455, 406), (455, 430))
    drawing.box(330, 434, 250, 50, "the test cells are named", GREEN)
    drawing.arrow((455, 486), (455, 510))
    drawing.box(330, 514, 250, 50, "scores, simple methods", GREEN)
    drawing.arrow((328, 539), (272, 539))
    drawing.box(20, 514, 250, 50, "results/report.html", GREEN, bold=True)
    drawing.text(145, 468, "the encoder", 16, color=GREY)
    drawing.arrow((145, 406), (145, 448))
    drawing.text(
        300, 602, "Each box is a step that is not repeated if its result is there,", 16, color=GREY
    )
    drawing.text(300, 623, "and a job of its own for each sample or data set.", 16, color=GREY)
    drawing.save("workflow")


FIGURES = (overview, tokens, network, experts, evaluation, workflow)

if __name__ == "__main__":
    for figure in FIGURES:
        figure()
