import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from scbert.calibration.calibrate import NOT_CALIBRATED
from scbert.calibration.confidence import ConfidenceBin
from scbert.evidence.bootstrap import Interval
from scbert.evidence.comparison import Difference, MethodScores, Part
from scbert.evidence.evaluation import Curve, Reliability, TypeScores
from scbert.evidence.history import FinetuningEpoch, best_epoch, read_history
from scbert.experts.titles import EXPERT_TITLES
from scbert.files import read_json, write_json
from scbert.report.card_scores import calibration as calibration_of
from scbert.report.card_scores import encoder_adds, unknown
from scbert.report.card_scores import experts as experts_of
from scbert.steps.write_model_card import write_model_card
from scbert.tables import read_table
from tests.report.test_figures import make_comparison, make_evaluation

TYPES = [
    TypeScores("B cell", precision=1.0, recall=0.5, f1=0.6667, support=6),
    TypeScores("T cell", precision=0.75, recall=1.0, f1=0.8571, support=12),
]
EVALUATION = replace(
    make_evaluation("toy", support={"B cell": 6, "T cell": 12}, seeds=(2021,)),
    parts={
        "train": Part({"T cell": 40, "B cell": 14}, []),
        "validation": Part({"T cell": 12, "B cell": 6}, []),
        "test": Part({"T cell": 12, "B cell": 6}, []),
    },
)
UNKNOWN = replace(
    EVALUATION.scbert.unknown,
    novel_cells=0,
    novel_types=[],
    calibrated=replace(
        EVALUATION.scbert.unknown.calibrated, false_unknown=0.059, accuracy_of_accepted=0.94
    ),
)
RELIABILITY = Reliability(
    [1.5], before=Curve(0.1234, []), after=Curve(0.0456, [ConfidenceBin(0.91, 0.8, 18)])
)


def scored(**changes):
    """Return the evaluation with other scores."""
    return replace(EVALUATION, scbert=replace(EVALUATION.scbert, **changes))


EVALUATION = scored(per_type=TYPES, reliability=RELIABILITY, unknown=UNKNOWN)


def method_scores(title, kind, mean):
    interval = Interval(mean, mean - 0.05, mean + 0.05)
    return MethodScores(
        method=title,
        title=title,
        kind=kind,
        setting=f"How {title} was set.",
        accuracy=interval,
        macro_f1=interval,
        balanced_accuracy=interval,
        f1_of_type={"B cell": mean, "T cell": 1.0},
    )


COMPARISON = replace(
    make_comparison("toy"),
    interval="of the test cells.",
    methods=[
        method_scores("scBERT", "model", 0.8),
        method_scores("Random type", "control", 0.4),
        method_scores("Logistic regression", "baseline", 0.85),
    ],
    differences=[Difference("Logistic regression", "macro_f1", -0.05, -0.12, 0.01)],
)


@pytest.fixture
def card(toy_run, tmp_path):
    """Write the card of the small model, its scores changed by what is given."""

    def write(evaluation=EVALUATION, comparison=COMPARISON, name="README.md", model=toy_run.model):
        evaluation.write(tmp_path / "evaluation.json")
        comparison.write(tmp_path / "comparison.json")
        write_model_card(
            model,
            tmp_path / "evaluation.json",
            tmp_path / "comparison.json",
            toy_run.quality,
            tmp_path / name,
        )
        return (tmp_path / name).read_text()

    return write


def section(text, title):
    return re.search(rf"^## {title}[^\n]*\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)[1]


def test_the_card_begins_with_the_best_baseline(card):
    """Scores are of nothing without what a simpler method reaches on the same cells."""
    head = card().split("## ")[0]
    assert "On 18 test cells: accuracy 0.800 (0.750-0.850), macro F1 0.800" in head
    assert "scBERT is behind Logistic regression by 0.050 macro F1" in head
    assert "no clear difference" in head
    assert "What the encoder adds to the other experts, on cells that none was trained" in head
    alone = replace(COMPARISON, methods=COMPARISON.methods[:2])
    assert "its scores stand alone" in card(comparison=alone, name="alone.md")


def test_the_card_says_how_the_network_was_trained(card, toy_run):
    kept = best_epoch(read_history(toy_run.model / "history.jsonl", FinetuningEpoch))
    assert f"Head: conv; trained: all; epoch {kept.epoch} of" in section(card(), "Model")


def test_the_card_shows_every_expert_with_its_weight_and_scores(card, toy_run):
    found = read_json(toy_run.model / "calibration.json")
    lines = section(card(), "Model").splitlines()
    held = found["out_of_fold"]
    together = f"| together |  |  | {held['macro_f1']:.3f} | {held['log_loss']:.3f} |"
    assert together in lines
    for name, one in found["experts"].items():
        scores = (
            f"{one['weight']:.2f} | {one['logit_adjustment']:.2f} "
            f"| {one['macro_f1']:.3f} | {one['log_loss']:.3f}"
        )
        assert f"| {EXPERT_TITLES[name]} | {scores} |" in lines
    row = [f"{one['f1_of_type'][2]:.2f}" for one in (*found["experts"].values(), held)]
    assert f"| T cell | {' | '.join(row)} |" in lines


def adds(kept, mean=0.02, low=0.01, high=0.03):
    gain = {"mean": mean, "low": low, "high": high}
    found = {"kept": kept, "macro_f1": 0.004, "log_loss_gain": gain}
    return encoder_adds({"out_of_fold": {"encoder_adds": found}})


def test_the_card_says_what_the_encoder_adds():
    """An encoder that changes nothing must not pass for a good one."""
    (kept,) = adds(kept=True)
    assert "+0.020 nats of log-likelihood per cell" in kept
    assert "+0.010 to +0.030), +0.004 macro F1; it is kept." in kept
    (refused,) = adds(kept=False, low=-0.01)
    assert "not clearly 1 % of the loss, so it has weight 0" in refused
    assert encoder_adds({"out_of_fold": {"encoder_adds": None}}) == []
    assert encoder_adds({"validation_cells": 0}) == []


@pytest.mark.parametrize(
    ("folds_by", "how"),
    [
        ("batch", "whole batches were left out in turn"),
        ("cell", "a fifth of the cells of each type was left out in turn"),
        ("validation", "the validation cells, which chose the epoch of the network, too"),
    ],
)
def test_the_card_says_which_cells_judged_the_experts(folds_by, how):
    scores = {"macro_f1": 0.9, "log_loss": 0.3, "f1_of_type": [0.8, 1.0]}
    held = {"cells": 1234, "folds_by": folds_by, "encoder_adds": None} | scores
    experts = {"encoder": {"weight": 1.0, "temperature": 1.5, "logit_adjustment": 0.25} | scores}
    text = experts_of({"out_of_fold": held, "experts": experts}, ["B|<b>", "T cell"])
    assert f"on 1,234 labelled cells that none was trained on ({how})" in text
    assert "| encoder | 1.00 | 0.25 | 0.900 | 0.300 |" in text
    assert "F1 out of fold" not in text  # alone it is what it is together
    both = {"out_of_fold": held, "experts": experts | {"discriminant": experts["encoder"]}}
    assert "| B\\|&lt;b> | 0.80 | 0.80 | 0.80 |" in experts_of(both, ["B|<b>", "T cell"])


def test_the_card_of_a_model_made_before_rare_types_were_raised():
    scores = {"macro_f1": 0.9, "log_loss": 0.3, "f1_of_type": [0.8, 1.0]}
    held = {"cells": 1234, "folds_by": "cell", "encoder_adds": None} | scores
    experts = {"encoder": {"weight": 1.0, "temperature": 1.5} | scores}
    text = experts_of({"out_of_fold": held, "experts": experts}, ["B", "T cell"])
    assert "| encoder | 1.00 | \u2013 | 0.900 | 0.300 |" in text


def test_the_card_of_a_frozen_encoder_tells_of_no_epoch(mean_run, card):
    text = section(card(model=mean_run.model), "Model")
    assert "The encoder stays as it was pretrained; an expert reads the mean over" in text
    assert "epoch" not in text


def test_the_card_shows_the_baselines_beside_scbert(card):
    lines = section(card(), "Scores on the test cells").splitlines()
    assert lines[1:6] == [
        "| method | kind | accuracy | macro F1 | balanced accuracy |",
        "| --- | --- | ---: | ---: | ---: |",
        "| scBERT | model" + " | 0.800 (0.750-0.850)" * 3 + " |",
        "| Random type | control" + " | 0.400 (0.350-0.450)" * 3 + " |",
        "| Logistic regression | baseline" + " | 0.850 (0.800-0.900)" * 3 + " |",
    ]
    assert "- Logistic regression: How Logistic regression was set." in lines
    assert "This model is that of seed 2021." in lines


def test_the_card_scores_each_type_beside_the_baselines(card):
    lines = section(card(), "Scores per type").splitlines()
    assert lines[1:5] == [
        "| cell type | precision | recall | F1 | F1, logistic regression | cells learned from"
        " | test cells |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| B cell | 1.00 | 0.50 | 0.67 | 0.85 | 18 | 6 |",
        "| T cell | 0.75 | 1.00 | 0.86 | 1.00 | 18 | 12 |",
    ]
    assert "Fewer than 20 test cells, so a few cells make these scores: B cell, T cell." in lines


def test_a_type_without_test_cells_has_no_score(card):
    """0 / 0 counts as 0 in the evaluation, which here would read as always wrong."""
    types = [replace(TYPES[0], support=0, f1=0.0), TYPES[1]]
    lines = section(card(scored(per_type=types)), "Scores per type").splitlines()
    assert lines[3] == "| B cell" + " | \N{EN DASH}" * 4 + " | 18 | 0 |"


def test_names_of_types_cannot_break_the_tables(card):
    types = [replace(TYPES[0], cell_type="B|<b>")]
    methods = [replace(one, f1_of_type={"B|<b>": 1.0}) for one in COMPARISON.methods]
    text = card(scored(per_type=types), replace(COMPARISON, methods=methods))
    assert "| B\\|&lt;b> | 1.00 |" in text


def test_the_card_says_how_the_cells_were_divided(card):
    at_random = section(card(), "Split")
    assert "Cells: train 54, validation 18, test 18." in at_random
    assert "says nothing of another donor, laboratory or study" in at_random
    parts = {
        part: replace(own, batches=[f"donor {part}"]) for part, own in EVALUATION.parts.items()
    }
    text = section(card(evaluation=replace(EVALUATION, parts=parts), name="batches.md"), "Split")
    assert "No batch of the test is in another part. Batches: train donor train; val" in text
    assert "not chosen on a new one" not in text
    parts["validation"] = parts["train"]  # split.validation_by: cell
    text = section(card(evaluation=replace(EVALUATION, parts=parts), name="cells.md"), "Split")
    assert "Training and validation share batches" in text


def test_the_card_says_what_made_the_model(card, toy_run):
    text = card()
    quality = read_json(toy_run.quality)
    config = read_json(toy_run.model / "config.json")
    assert text.startswith("---\nlibrary_name: scbert-end-to-end\n")
    assert "# scBERT for toy, seed 2021\n" in text
    assert f"Trained on 54 cells of planted (sha256 {quality['sha256']})" in section(text, "Data")
    model = section(text, "Model")
    assert "2 layers, width 16, 2 heads of 8, attention performer; tokens: expressed_genes" in model
    pretrained = config["pretrained"]
    assert f"without labels on {pretrained['tokens']['cells']} cells of" in model
    assert f"bundle {pretrained['sha256'][:12]}" in model
    genes = len(read_table(toy_run.model / "genes.tsv", "symbol"))
    assert f"Genes: {genes} in the vocabulary, {genes} of them measured in the data" in model
    assert "scbert annotate QUERY.h5ad --model seed2021 --out OUT.h5ad" in text


def test_the_card_tells_what_a_confidence_is_worth(card, toy_run):
    temperature = read_json(toy_run.model / "calibration.json")["temperature"]
    calibration = section(card(), "Calibration")
    assert (
        f"Temperature {temperature:.2f}, fitted on 18 cells that no expert was trained on"
        in calibration
    )
    assert "0.123 before, 0.046 after" in calibration
    assert "| 0.91 | 0.80 | 18 |" in calibration


def test_the_card_foretells_which_new_types_would_be_noticed(card, toy_run):
    expected = read_json(toy_run.model / "calibration.json")["expected_novel_detection"]
    text = section(card(), "Cells called unknown")
    assert "no network takes part. So these are forecasts" in text
    assert {row["cell_type"] for row in expected} == {"B cell", "NK cell", "T cell"}
    for row in expected:
        assert f"| {row['cell_type']} | {row['detected']:.2f} | {row['auroc']:.3f} |" in text
    assert "of known types 5.9\N{NO-BREAK SPACE}% are" in text


@pytest.mark.parametrize("score", ["max_probability", "energy"])
def test_the_card_calls_what_the_network_foretells_an_upper_bound(score):
    row = {"cell_type": "B cell", "n": 2, "detected": 0.5, "auroc": 0.75}
    calibration = {
        "novelty_score": score,
        "novelty_threshold": 1.5,
        "false_unknown_rate": 0.05,
        "validation_cells": 12,
        "expected_novel_detection": [row],
    }
    about = SimpleNamespace(calibration=calibration, evaluation=EVALUATION)
    assert "UPPER BOUNDS" in unknown(about)
    assert "| B cell | 0.50 | 0.750 | 2 |" in unknown(about)


def test_the_card_counts_new_types_in_the_test(card):
    detected = replace(UNKNOWN.calibrated, novel_detected=0.25)
    novel = replace(UNKNOWN, novel_cells=7, novel_types=["mast"], calibrated=detected)
    parts = EVALUATION.parts | {"test": Part({"mast": 7}, [])}
    text = card(replace(scored(unknown=novel), parts=parts))
    assert "7 test cells are of types that training lacked (mast): 25" in text
    assert "Not learnt, though test cells are of it: mast." in section(text, "Limits")


def test_the_card_tells_the_limits(card):
    limits = section(card(), "Limits")
    assert sum(line.startswith("- ") for line in limits.splitlines()) == 4
    assert "A file with fewer than 5\N{NO-BREAK SPACE}% of the model's genes is refused" in limits


def test_the_card_leaves_the_bundle_alone_and_is_the_same_again(card, toy_run):
    before = {path.name: path.read_bytes() for path in toy_run.model.iterdir()}
    assert card() == card(name="again.md")
    assert {path.name: path.read_bytes() for path in toy_run.model.iterdir()} == before


def test_nothing_is_written_if_a_score_is_missing(toy_run, tmp_path):
    content = EVALUATION.content()
    del content["per_type"]
    write_json(tmp_path / "evaluation.json", content)
    COMPARISON.write(tmp_path / "comparison.json")
    files = (tmp_path / "evaluation.json", tmp_path / "comparison.json", toy_run.quality)
    with pytest.raises(ValueError, match=r"evaluation.json does not hold .* scbert.per_type"):
        write_model_card(toy_run.model, *files, tmp_path / "README.md")
    assert not (tmp_path / "README.md").exists()


def test_the_card_says_that_too_few_cells_calibrate_nothing():
    about = SimpleNamespace(
        calibration=NOT_CALIBRATED | {"out_of_fold": {"cells": 0}}, evaluation=EVALUATION
    )
    assert unknown(about).startswith("No cell is called unknown: there were too few")
    assert calibration_of(about).startswith("Temperature 1.00, not fitted. Expected")
    alone = {"out_of_fold": {"cells": 0}, "experts": {"encoder": {"weight": 1.0}}}
    assert "none could be held out to judge or to weigh them: encoder 1.00" in experts_of(alone, [])


def test_a_card_is_refused_of_a_model_that_is_not_what_was_saved(card, toy_run, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(toy_run.model, model)
    genes = model / "genes.tsv"
    genes.write_text(genes.read_text().replace("\tTrue", "\tFalse", 1))
    with pytest.raises(ValueError, match=r"'genes\.tsv' is missing or is not what was saved"):
        card(model=model)
    assert not (tmp_path / "README.md").exists()
