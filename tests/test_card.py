import re

import pytest

from scbert.files import read_json, write_json
from scbert.steps.card import write_model_card

EVALUATION = {
    "n_test": 18,
    "parts": {
        "train": {"cell_types": {"T cell": 40, "B cell": 14}, "batches": []},
        "validation": {"cell_types": {"T cell": 12, "B cell": 6}, "batches": []},
        "test": {"cell_types": {"T cell": 12, "B cell": 6}, "batches": []},
    },
    "per_type": [
        {"cell_type": "B cell", "precision": 1.0, "recall": 0.5, "f1": 0.6667, "support": 6},
        {"cell_type": "T cell", "precision": 0.75, "recall": 1.0, "f1": 0.8571, "support": 12},
    ],
    "reliability": {"before": {"ece": 0.1234}, "after": {"ece": 0.0456}},
}
COMPARISON = {
    "confidence_level": 0.95,
    "methods": [
        {
            "title": title,
            "kind": kind,
            "f1_of_type": {"B cell": mean, "T cell": 1.0},
            **{
                key: {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}
                for key in ("accuracy", "macro_f1", "balanced_accuracy")
            },
        }
        for title, kind, mean in (
            ("scBERT", "model", 0.8),
            ("Random type", "control", 0.4),
            ("Logistic regression", "baseline", 0.85),
        )
    ],
}


@pytest.fixture
def card(toy_run, tmp_path):
    """Write the card of the small model, its scores changed by what is given."""

    def write(evaluation=EVALUATION, comparison=COMPARISON, name="README.md"):
        write_json(tmp_path / "evaluation.json", evaluation)
        write_json(tmp_path / "comparison.json", comparison)
        write_model_card(
            toy_run.model,
            tmp_path / "evaluation.json",
            tmp_path / "comparison.json",
            toy_run.quality,
            tmp_path / name,
        )
        return (tmp_path / name).read_text()

    return write


def section(text, title):
    return re.search(rf"^## {title}[^\n]*\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)[1]


def test_the_card_shows_the_baselines_beside_scbert(card):
    assert section(card(), "Scores on the test cells").splitlines() == [
        "| method | accuracy | macro F1 | balanced accuracy |",
        "| --- | --- | --- | --- |",
        "| scBERT" + " | 0.800 (0.750-0.850)" * 3 + " |",
        "| Random type" + " | 0.400 (0.350-0.450)" * 3 + " |",
        "| Logistic regression" + " | 0.850 (0.800-0.900)" * 3 + " |",
        "",
    ]


def test_the_card_scores_each_type_beside_the_baselines(card):
    assert section(card(), "Scores per type").splitlines() == [
        "| cell type | precision | recall | F1 | F1, logistic regression | training cells"
        " | test cells |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| B cell | 1.00 | 0.50 | 0.67 | 0.85 | 14 | 6 |",
        "| T cell | 0.75 | 1.00 | 0.86 | 1.00 | 40 | 12 |",
        "",
    ]


def test_the_card_says_how_the_cells_were_divided(card):
    plain = section(card(), "Split")
    assert "Cells: train 54, validation 18, test 18. The cells of each type were divided" in plain
    parts = {
        part: own | {"batches": [f"donor {part}"]} for part, own in EVALUATION["parts"].items()
    }
    text = section(card(evaluation=EVALUATION | {"parts": parts}, name="batches.md"), "Split")
    assert "No batch of the test is in another part. Batches: train donor train; val" in text


def test_the_card_says_what_made_the_model(card, toy_run):
    text = card()
    quality = read_json(toy_run.quality)
    assert text.startswith("---\nlibrary_name: scbert-end-to-end\n")
    assert "# scBERT for toy, seed 2021\n" in text
    assert f"Trained on 54 cells of planted (sha256 {quality['sha256']})" in text
    assert "calibration chosen on 18 others, scored once on 18 test cells" in text
    assert "2 layers, width 16, 2 heads of 8, attention performer; tokens: expressed_genes" in text
    assert "scbert annotate QUERY.h5ad --model seed2021 --out OUT.h5ad" in text


def test_the_card_tells_calibration_and_limits(card, toy_run):
    text = card()
    temperature = read_json(toy_run.model / "calibration.json")["temperature"]
    calibration = section(text, "Calibration")
    assert f"Temperature {temperature:.2f}, fitted on 18 validation cells" in calibration
    assert "0.123 before, 0.046 after" in calibration
    limits = section(text, "Limits")
    assert sum(line.startswith("- ") for line in limits.splitlines()) == 3
    assert all(line.startswith(("- ", "  ")) for line in limits.splitlines() if line)
    assert "refuses 5% of known cells" in limits


def test_the_card_leaves_the_bundle_alone_and_is_the_same_again(card, toy_run):
    before = {path.name: path.read_bytes() for path in toy_run.model.iterdir()}
    assert card() == card(name="again.md")
    assert {path.name: path.read_bytes() for path in toy_run.model.iterdir()} == before


def test_nothing_is_written_if_a_score_is_missing(card, tmp_path):
    with pytest.raises(KeyError, match="per_type"):
        card({key: value for key, value in EVALUATION.items() if key != "per_type"})
    assert not (tmp_path / "README.md").exists()
