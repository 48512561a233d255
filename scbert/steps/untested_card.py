"""The card of a model of which no cell was held out -> README.md of the bundle."""

from pathlib import Path

from scbert.evidence.untested_card import untested_card
from scbert.files import publish, read_json


def write_untested_card(model: Path, comparison: Path, quality: Path, card: Path) -> None:
    """Write the card.

    Parameters
    ----------
    model
        Folder of the fine-tuned model.
    comparison
        As `compare_out_of_fold` writes it.
    quality
        The JSON file of read_counts.
    card
        The Markdown file to write.
    """
    text = untested_card(
        model.name,
        config=read_json(model / "config.json"),
        calibration=read_json(model / "calibration.json"),
        comparison=read_json(comparison),
        quality=read_json(quality),
    )
    with publish(card) as unfinished:
        unfinished.write_text(text)
