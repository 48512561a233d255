"""The card of a model of which no cell was held out: it has no test scores, and says so."""

from collections.abc import Mapping
from typing import Any

from scbert.evidence.card_experts import encoder_adds, experts
from scbert.evidence.card_page import FRONT_MATTER
from scbert.evidence.markdown import plain, table

Json = Mapping[str, Any]


def untested_card(
    name: str, config: Json, calibration: Json, comparison: Json, quality: Json
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
        f"{comparison['caution']} Judge the model by labelled cells that it has not seen, best of "
        "another study:",
        f"```\nscbert evaluate {name} TEST.h5ad --label-key KEY\n```",
        "## Data",
        f"Learned from {cells['train'] + cells['validation']:,} cells of {quality['source']} "
        f"(sha256 {quality['sha256']}).",
        f"Network: {network['depth']} layers, width {network['dim']}, {network['heads']} heads of "
        f"{network['dim_head']}, attention {network['attention']}; tokens: {config['sequence']}.",
        f"Commit {config['provenance']['commit'] or 'not recorded'}.",
        "## Split",
        _split(comparison["parts"]),
        "## Scores out of fold, no test scores",
        "\n\n".join(
            [*encoder_adds(calibration), experts(calibration, list(config["cells_per_type"]))]
        ),
        "## Calibration",
        f"Temperature {calibration['temperature']:.2f}, fitted on the out-of-fold predictions; the "
        f"threshold of the unknown flag on {calibration['validation_cells']:,} validation cells. "
        "What a confidence is worth on other cells was not measured.",
        "## Limits",
        "- How well the model names cells that it has not seen was not measured.\n"
        "- Types without training cells cannot be named. The threshold of the unknown flag refuses "
        f"{calibration['false_unknown_rate']:.0%} of the validation cells; how many cells of new "
        "types it finds was not measured.\n"
        "- Human genes only.",
        "## Use",
        f"```\nscbert annotate QUERY.h5ad --model {name} --out OUT.h5ad\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _split(parts: Json) -> str:
    train, validation = parts["train"], parts["validation"]
    if not train["batches"] or set(train["batches"]) & set(validation["batches"]):
        how = "The cells of each type were divided at random, whatever batch they are of."
    else:
        listed = [f"{part} {', '.join(map(plain, parts[part]['batches']))}" for part in parts]
        how = f"No batch is in both parts: {'; '.join(listed)}."
    rows = [
        (plain(name), *(str(part["cell_types"].get(name, 0)) for part in (train, validation)))
        for name in sorted({*train["cell_types"], *validation["cell_types"]})
    ]
    return f"{how}\n\n{table(('cell type', 'training cells', 'validation cells'), rows, 2)}"
