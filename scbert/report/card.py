"""The model card: what made a model, how good it is beside simpler ones, and what it cannot do.

The card of a model of which no cell was held out has no test scores, and says so.
"""

from collections import Counter
from collections.abc import Mapping

from scbert.calibration.fitted import ModelCalibration
from scbert.cells.cautions import by_code
from scbert.cells.learned_labels import cautions_of_learning, types_not_learned
from scbert.cells.quality import FileQuality
from scbert.evidence.comparison import OutOfFoldComparison, Part
from scbert.report.card_evidence import CardEvidence, EncoderFacts, ModelConfig
from scbert.report.card_scores import (
    calibration,
    encoder_adds,
    experts,
    scores_of_methods,
    scores_of_types,
    threshold_cells,
    unknown,
)
from scbert.report.text import judge, percent, plain, score_with_interval, table

PARTS = ("train", "validation", "test")
FRONT_MATTER = """---
library_name: scbert-end-to-end
tags: [single-cell, cell-type-annotation, scbert]
---"""


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
        _split(about.evaluation.parts),
        "## Model",
        _model(about),
        "## Scores on the test cells",
        scores_of_methods(about),
        "## Scores per type",
        scores_of_types(about),
        "## Calibration",
        calibration(about),
        "## Cells called unknown",
        unknown(about),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(about)),
        "## Use",
        f"```\nscbert annotate QUERY.h5ad --model {about.name} --out OUT.h5ad\n"
        f"scbert evaluate {about.name} TEST.h5ad --label-key CELL_TYPE\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _in_brief(about: CardEvidence) -> list[str]:
    """Hold the model against the best baseline, and say what its encoder adds."""
    model = about.comparison.model
    accuracy, macro_f1 = map(score_with_interval, (model.accuracy, model.macro_f1))
    lines = [
        f"On {about.evaluation.scbert.n_test:,} test cells: accuracy {accuracy}, "
        f"macro F1 {macro_f1}."
    ]
    if about.comparison.best_baseline is None:
        return [*lines, judge(about.comparison)[1]]
    lines.append(f"Beside the best baseline: {judge(about.comparison)[1]}")
    return [*lines, *encoder_adds(about.calibration)]


def _data(about: CardEvidence) -> str:
    quality, learned = about.quality, sum(about.config["cells_per_type"].values())
    left_out = quality["cells_read"] - quality["cells_kept"]
    return (
        f"Trained on {learned:,} cells of {quality['source']} "
        f"(sha256 {quality['sha256']}); {left_out:,} of its {quality['cells_read']:,} cells were "
        f"left out before the split. Median of a cell: {quality['median_genes']:,.0f} genes, "
        f"{quality['median_counts']:,.0f} counts ({quality['scale']})."
        f"{_warned(quality, about.calibration, about.config, about.evaluation.parts)}"
    )


def _warned(
    quality: FileQuality,
    fitted: ModelCalibration,
    config: ModelConfig,
    parts: Mapping[str, Part],
) -> str:
    """Return the warnings about the file and what was learned from it, if there were any."""
    cells: Counter[str] = Counter()
    for part in parts.values():
        cells.update(part.cell_types)
    of_labels = types_not_learned(cells, config["cells_per_type"])
    if "out_of_fold" in fitted:
        of_labels += cautions_of_learning(fitted, len(config["cells_per_type"]), config["cells"])
    said = quality.get("warnings", {}) | by_code(of_labels)
    return "".join(f"\n\nWarning: {text}" for text in said.values())


def _split(parts: Mapping[str, Part]) -> str:
    counts = [f"{part} {sum(parts[part].cell_types.values()):,}" for part in PARTS]
    text = (
        f"Cells: {', '.join(counts)}. Training and validation cells made the experts; what these "
        "said of them out of fold chose their weights and the temperature; validation cells chose "
        "the threshold of the unknown flag and, of a network that is trained, the epoch; test "
        "cells were scored once and chose nothing.\n\n"
    )
    if not parts["test"].batches:
        return text + (
            "The cells of each type were divided at random, whatever batch they are of: the test "
            "says nothing of another donor, laboratory or study."
        )
    listed = [f"{part} {', '.join(map(plain, parts[part].batches))}" for part in PARTS]
    shared = set(parts["train"].batches) & set(parts["validation"].batches)
    both = " Training and validation share batches, so the epoch was not chosen on a new one."
    return text + (
        f"No batch of the test is in another part. Batches: {'; '.join(listed)}."
        + (both if shared else "")
    )


def _model(about: CardEvidence) -> str:
    config, genes = about.config, about.genes
    network, options = config["network"], config["finetune"]
    lines = [
        f"Encoder: {network['depth']} layers, width {network['dim']}, {network['heads']} heads of "
        f"{network['dim_head']}, attention {network['attention']}; tokens: {config['sequence']}. "
        + _pretrained(config["pretrained"]),
        f"Genes: {genes.vocabulary:,} in the vocabulary, {genes.measured:,} of them measured "
        f"in the data, {genes.used:,} of these used"
        + (" by the network (chosen on labelled cells)." if options["variable_genes"] else "."),
        _head(about),
        experts(about.calibration, list(config["cells_per_type"])),
    ]
    lines.append(f"Commit {config['provenance']['commit'] or 'not recorded'}.")
    return "\n\n".join(lines)


def _head(about: CardEvidence) -> str:
    options = about.config["finetune"]
    if not about.history:
        return (
            "The encoder stays as it was pretrained; an expert reads the mean over a cell's tokens."
        )
    kept = about.kept
    return (
        f"Head: {options['head']}; trained: {options['train']}; epoch {kept.epoch} of "
        f"{len(about.history)} was kept, with macro F1 {kept.validation_macro_f1:.3f} on the "
        "validation cells."
    )


def _pretrained(pretrained: EncoderFacts) -> str:
    if "tokens" not in pretrained:
        return f"Pretrained elsewhere (bundle {pretrained['sha256'][:12]})."
    samples = [source["sample"] for source in pretrained["tokens"]["sources"]]
    more = f" and {len(samples) - 8} more" if len(samples) > 8 else ""
    return (
        f"Pretrained without labels on {pretrained['tokens']['cells']:,} cells of "
        f"{', '.join(map(plain, samples[:8]))}{more} (bundle {pretrained['sha256'][:12]}); whether "
        "test cells are among them, this card cannot tell."
    )


def _limits(about: CardEvidence) -> list[str]:
    evaluation, known = about.evaluation, about.config["cells_per_type"]
    overlap = about.config["annotate"]["min_gene_overlap"]
    rate = about.calibration["false_unknown_rate"]
    missing = set(evaluation.parts["test"].cell_types) - set(known)
    lines = [
        "The scores hold for cells like the test cells: same tissue, technology and labelling. A "
        "new study can be harder.",
        "It learns the labels that it was given; where they are wrong, it repeats them.",
        "Types that are not listed above cannot be named. The unknown flag is set so that at most "
        f"{percent(rate)} of known cells get it, not by how many new cells it finds; "
        "a new type that resembles a known one often gets that one's name, with confidence.",
        f"Human genes, by Ensembl id or symbol. A file with fewer than {percent(overlap)} of the "
        "model's genes is refused; above that, the fewer of them it has, the worse the labels.",
    ]
    if missing:
        lines.append(
            f"Not learnt, though test cells are of it: {', '.join(map(plain, sorted(missing)))}."
        )
    return lines


def card_without_test(
    name: str,
    config: ModelConfig,
    calibration: ModelCalibration,
    comparison: OutOfFoldComparison,
    quality: FileQuality,
) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    name
        Of the model's folder.
    config, calibration, comparison, quality
        Contents of the files of these names; the comparison is that of the validation cells.
    """
    cells, network = config["cells"], config["network"]
    parts = [
        FRONT_MATTER,
        f"# scBERT for {config['dataset']}, seed {config['seed']}",
        "## Nothing was held out",
        f"{comparison.caution} Judge the model by labelled cells that it has not seen, best of "
        "another study:",
        f"```\nscbert evaluate {name} TEST.h5ad --label-key KEY\n```",
        "## Data",
        f"Learned from {cells['train'] + cells['validation']:,} cells of {quality['source']} "
        f"(sha256 {quality['sha256']})."
        f"{_warned(quality, calibration, config, comparison.parts)}",
        f"Network: {network['depth']} layers, width {network['dim']}, {network['heads']} heads of "
        f"{network['dim_head']}, attention {network['attention']}; tokens: {config['sequence']}.",
        f"Commit {config['provenance']['commit'] or 'not recorded'}.",
        "## Split",
        _split_without_test(comparison.parts),
        "## Scores out of fold, no test scores",
        "\n\n".join(
            [*encoder_adds(calibration), experts(calibration, list(config["cells_per_type"]))]
        ),
        "## Calibration",
        _calibrated_on(calibration)
        + " What a confidence is worth on other cells was not measured.",
        "## Limits",
        "- How well the model names cells that it has not seen was not measured.\n"
        f"- Types without training cells cannot be named. {_of_unknown(calibration)}\n"
        "- Human genes only.",
        "## Use",
        f"```\nscbert annotate QUERY.h5ad --model {name} --out OUT.h5ad\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _calibrated_on(calibration: ModelCalibration) -> str:
    if not calibration["validation_cells"]:
        return "Not calibrated: there were too few labelled cells to hold any out."
    return (
        f"Temperature {calibration['temperature']:.2f}, fitted on the out-of-fold predictions; the "
        f"threshold of the unknown flag on {threshold_cells(calibration)}."
    )


def _of_unknown(calibration: ModelCalibration) -> str:
    if not calibration["validation_cells"]:
        return "No cell is called unknown."
    return (
        f"The unknown flag is set so that at most {calibration['false_unknown_rate']:.0%} of "
        f"{threshold_cells(calibration)} get it; how many cells of new types it finds was not "
        "measured."
    )


def _split_without_test(parts: Mapping[str, Part]) -> str:
    train, validation = parts["train"], parts.get("validation", Part({}, []))
    if not validation.cell_types:
        how = "All cells taught the model."
    elif not train.batches or set(train.batches) & set(validation.batches):
        how = "The cells of each type were divided at random, whatever batch they are of."
    else:
        listed = [f"{part} {', '.join(map(plain, parts[part].batches))}" for part in parts]
        how = f"No batch is in both parts: {'; '.join(listed)}."
    rows = [
        (plain(name), *(str(part.cell_types.get(name, 0)) for part in (train, validation)))
        for name in sorted({*train.cell_types, *validation.cell_types})
    ]
    return f"{how}\n\n{table(('cell type', 'training cells', 'validation cells'), rows, 2)}"
