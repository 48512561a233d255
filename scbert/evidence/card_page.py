"""The model card: what made a model, how good it is beside simpler ones, and what it cannot do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scbert.evidence.markdown import plain, table
from scbert.evidence.wording import NOTHING, judge, percent, score

Json = Mapping[str, Any]

PARTS = ("train", "validation", "test")
FEW_CELLS = 20  # one test cell more or less moves the recall of a type by 0.05
# docs/results/novelty.md: what expected_novel_detection says, and what training again without the
# type gives, mean over types; there without an encoder
FORETOLD = "83 % where 46 % were found on pbmc3k, 80 % where 36 % were found on Kang"
FRONT_MATTER = """---
library_name: scbert-end-to-end
tags: [single-cell, cell-type-annotation, scbert]
---"""


@dataclass(frozen=True)
class CardEvidence:
    """What is known of one model; contents of the files of these names, but for `name`."""

    name: str  # of the bundle's folder
    config: Json
    calibration: Json
    history: Sequence[Json]
    genes: Json  # numbers: vocabulary, measured, used
    evaluation: Json
    comparison: Json
    quality: Json

    @property
    def kept(self) -> Json:
        """The record of the epoch whose weights were kept: the first of the best."""
        return max(self.history, key=lambda record: record["validation_macro_f1"])

    def methods(self, kind: str) -> list[Json]:
        """Return the methods of a kind that stand in the comparison."""
        return [entry for entry in self.comparison["methods"] if entry["kind"] == kind]


def write_card(about: CardEvidence) -> str:
    """Return the card as Markdown."""
    config = about.config
    parts = [
        FRONT_MATTER,
        f"# scBERT for {config['dataset']}, seed {config['seed']}",
        f"Names one of {len(config['cells_per_type'])} types for each human cell, or calls it "
        "unknown.",
        "\n".join(f"- {line}" for line in _in_brief(about)),
        "## Data",
        _data(about),
        "## Split",
        _split(about.evaluation["parts"]),
        "## Model",
        _model(about),
        "## Scores on the test cells",
        _methods(about),
        "## Scores per type",
        _types(about),
        "## Calibration",
        _calibration(about),
        "## Cells called unknown",
        _unknown(about),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(about)),
        "## Use",
        f"```\nscbert annotate QUERY.h5ad --model {about.name} --out OUT.h5ad\n"
        f"scbert evaluate {about.name} TEST.h5ad --label-key CELL_TYPE\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _in_brief(about: CardEvidence) -> list[str]:
    """Hold the model against the best baseline and, if it has halves, against its linear one."""
    model = about.comparison["methods"][0]
    lines = [
        f"On {about.evaluation['n_test']:,} test cells: accuracy {_interval(model['accuracy'])}, "
        f"macro F1 {_interval(model['macro_f1'])}."
    ]
    level = about.comparison["confidence_level"]
    differences = {
        entry["method"]: entry
        for entry in about.comparison["differences"]
        if entry["metric"] == "macro_f1"
    }
    baselines = about.methods("baseline")
    if not baselines:
        return [*lines, "No baseline was run beside scBERT, so its scores stand alone."]
    rival = max(baselines, key=lambda entry: entry["macro_f1"]["mean"])
    said = judge(differences[rival["method"]], rival["title"], level)[1]
    lines.append(f"Beside the best baseline: {said}")
    for half in about.methods("half"):
        if half["method"] == "scbert_expression":
            said = judge(differences[half["method"]], "its expression half", level)[1]
            lines.append(f"What the encoder adds to a linear model of the same genes: {said}")
    return lines


def _data(about: CardEvidence) -> str:
    quality, cells = about.quality, about.config["cells"]
    left_out = quality["cells_read"] - quality["cells_kept"]
    return (
        f"Trained on {cells['train']:,} cells of {quality['source']} "
        f"(sha256 {quality['sha256']}); {left_out:,} of its {quality['cells_read']:,} cells were "
        f"left out before the split. Median of a cell: {quality['median_genes']:,.0f} genes, "
        f"{quality['median_counts']:,.0f} counts ({quality['scale']})."
    )


def _split(parts: Json) -> str:
    counts = [f"{part} {sum(parts[part]['cell_types'].values()):,}" for part in PARTS]
    text = (
        f"Cells: {', '.join(counts)}. Training cells made the weights; validation cells chose the "
        "epoch, the settings of the linear models, the share of the encoder in a hybrid head, the "
        "temperature and the thresholds; test cells were scored once and chose nothing.\n\n"
    )
    if not parts["test"]["batches"]:
        return text + (
            "The cells of each type were divided at random, whatever batch they are of: the test "
            "says nothing of another donor, laboratory or study."
        )
    listed = [f"{part} {', '.join(map(plain, parts[part]['batches']))}" for part in PARTS]
    shared = set(parts["train"]["batches"]) & set(parts["validation"]["batches"])
    both = " Training and validation share batches, so the epoch was not chosen on a new one."
    return text + (
        f"No batch of the test is in another part. Batches: {'; '.join(listed)}."
        + (both if shared else "")
    )


def _model(about: CardEvidence) -> str:
    config, genes, kept = about.config, about.genes, about.kept
    network, options = config["network"], config["finetune"]
    lines = [
        f"Encoder: {network['depth']} layers, width {network['dim']}, {network['heads']} heads of "
        f"{network['dim_head']}, attention {network['attention']}; tokens: {config['sequence']}. "
        + _pretrained(config["pretrained"]),
        f"Genes: {genes['vocabulary']:,} in the vocabulary, {genes['measured']:,} of them measured "
        f"in the data, {genes['used']:,} of these used"
        + (" (chosen on the training cells)." if options["variable_genes"] else "."),
        f"Head: {options['head']}; trained: {options['train']}; epoch {kept['epoch']} of "
        f"{len(about.history)} was kept, with macro F1 {kept['validation_macro_f1']:.3f} on the "
        "validation cells.",
    ]
    if "encoder_share" in kept:
        lines.append(
            "The scores of the types are those of a logistic regression on the bins of these genes "
            f"(expression half) plus {kept['encoder_share']:.2f} times those of the encoder's head "
            "(encoder half); 0 would leave the encoder out. Macro F1 on the validation cells: "
            f"{kept['validation_macro_f1_expression']:.3f} and "
            f"{kept['validation_macro_f1_encoder']:.3f} alone."
        )
    lines.append(f"Commit {config['provenance']['commit'] or 'not recorded'}.")
    return "\n\n".join(lines)


def _pretrained(pretrained: Json) -> str:
    if "tokens" not in pretrained:
        return f"Pretrained elsewhere (bundle {pretrained['sha256'][:12]})."
    samples = [source["sample"] for source in pretrained["tokens"]["sources"]]
    more = f" and {len(samples) - 8} more" if len(samples) > 8 else ""
    return (
        f"Pretrained without labels on {pretrained['tokens']['cells']:,} cells of "
        f"{', '.join(map(plain, samples[:8]))}{more} (bundle {pretrained['sha256'][:12]}); whether "
        "test cells are among them, this card cannot tell."
    )


def _methods(about: CardEvidence) -> str:
    comparison, metrics = about.comparison, ("accuracy", "macro_f1", "balanced_accuracy")
    rows = [
        (entry["title"], entry["kind"], *(_interval(entry[key]) for key in metrics))
        for entry in comparison["methods"]
    ]
    header = ("method", "kind", "accuracy", "macro F1", "balanced accuracy")
    settings = "\n".join(f"- {m['title']}: {m['setting']}" for m in comparison["methods"])
    return (
        f"{table(header, rows, 3)}\n\n"
        "Controls know nothing of the genes; baselines were trained and set on the same cells as "
        f"scBERT. Intervals: {comparison['interval']}\n\n{settings}\n\n"
        f"This model is that of seed {about.config['seed']}."
    )


def _interval(found: Json) -> str:
    return f"{found['mean']:.3f} ({found['low']:.3f}-{found['high']:.3f})"


def _types(about: CardEvidence) -> str:
    rivals, known = about.methods("baseline"), about.config["cells_per_type"]
    rows = []
    for entry in about.evaluation["per_type"]:
        name, tested = entry["cell_type"], entry["support"] > 0
        found = [entry[key] for key in ("precision", "recall", "f1")]
        found += [rival["f1_of_type"][name] for rival in rivals]
        shown = [f"{value:.2f}" if tested else NOTHING for value in found]
        rows.append((plain(name), *shown, str(known.get(name, 0)), str(entry["support"])))
    names = [f"F1, {rival['title'].lower()}" for rival in rivals]
    header = ("cell type", "precision", "recall", "F1", *names, "training cells", "test cells")
    few = [plain(e["cell_type"]) for e in about.evaluation["per_type"] if e["support"] < FEW_CELLS]
    text = table(header, rows, len(header) - 1)
    if few:
        text += (
            f"\n\nFewer than {FEW_CELLS} test cells, so a few cells make these scores: "
            f"{', '.join(few)}."
        )
    return text


def _calibration(about: CardEvidence) -> str:
    calibration, reliability = about.calibration, about.evaluation["reliability"]
    rows = [
        (f"{found['confidence']:.2f}", f"{found['accuracy']:.2f}", f"{found['n']:,}")
        for found in reliability["after"]["bins"]
    ]
    return (
        f"Temperature {calibration['temperature']:.2f}, fitted on "
        f"{calibration['validation_cells']:,} validation cells. Expected calibration error on the "
        f"test cells: {reliability['before']['ece']:.3f} before, "
        f"{reliability['after']['ece']:.3f} after. What a confidence is worth, on the test cells "
        "of all seeds together:\n\n"
        + table(("mean confidence", "share labelled correctly", "cells"), rows, 3)
    )


def _unknown(about: CardEvidence) -> str:
    calibration, found = about.calibration, about.evaluation["unknown"]
    refused = found["calibrated"]
    text = (
        f"A cell whose novelty score ({calibration['novelty_score']}) exceeds "
        f"{calibration['novelty_threshold']:.3g} is called unknown. The threshold refuses "
        f"{percent(calibration['false_unknown_rate'])} of the validation cells, all of known "
        f"types; of the test cells of known types it refuses {percent(refused['false_unknown'])}"
        f", and {percent(refused['accuracy_of_accepted'])} of the cells that it lets pass are "
        "labelled correctly. "
    )
    if found["novel_cells"]:
        text += (
            f"{found['novel_cells']:,} test cells are of types that training lacked "
            f"({', '.join(map(plain, found['novel_types']))}): "
            f"{percent(refused['novel_detected'])} of them were noticed. "
        )
    expected = calibration["expected_novel_detection"]
    if not expected:
        return text + "With fewer than three types, nothing foretells whether new ones are noticed."
    rows = [
        (plain(row["cell_type"]), f"{row['detected']:.2f}", score(row["auroc"]), f"{row['n']:,}")
        for row in expected
    ]
    header = ("if this type were new", "noticed, at most", "AUROC, at most", "validation cells")
    return text + (
        "If a type were new, how many of its cells would be noticed? Each type is taken out of the "
        "calibration in turn, but the network was trained with it, so these are UPPER BOUNDS, not "
        f"forecasts. Trained again without the type, far fewer are noticed: {FORETOLD} (mean over "
        f"types, models without an encoder).\n\n{table(header, rows, 3)}"
    )


def _limits(about: CardEvidence) -> list[str]:
    evaluation, known = about.evaluation, about.config["cells_per_type"]
    overlap = about.config["annotate"]["min_gene_overlap"]
    rate = about.calibration["false_unknown_rate"]
    missing = set(evaluation["parts"]["test"]["cell_types"]) - set(known)
    lines = [
        "The scores hold for cells like the test cells: same tissue, technology and labelling. A "
        "new study can be harder.",
        "It learns the labels that it was given; where they are wrong, it repeats them.",
        f"Types that are not listed above cannot be named. The unknown flag is set by the "
        f"{percent(rate)} of known cells that it may refuse, not by how many new cells it finds; "
        "a new type that resembles a known one often gets that one's name, with confidence.",
        f"Human genes, by Ensembl id or symbol. A file with fewer than {percent(overlap)} of the "
        "model's genes is refused; above that, the fewer of them it has, the worse the labels.",
    ]
    if missing:
        lines.append(
            f"Not learnt, though test cells are of it: {', '.join(map(plain, sorted(missing)))}."
        )
    return lines
