"""The report: from files to figures to one page that needs nothing beside itself."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml

from scbert.config import load_config
from scbert.evidence.bootstrap import Interval
from scbert.evidence.comparison import Comparison, Difference
from scbert.evidence.evaluation import Evaluation
from scbert.evidence.explained import (
    DeletionResult,
    Explained,
    ExplainedMethod,
    MarkersFound,
    Missed,
)
from scbert.evidence.history import Epoch
from scbert.files import write_json
from scbert.genes.matching import GeneMatch
from scbert.genes.overlap import Overlap
from scbert.genes.vector_files import VectorsMeta
from scbert.provenance import provenance
from scbert.report import report
from scbert.report import text as text_module
from scbert.report.text import difference_with_interval, score_with_interval
from scbert.steps.draw_corpus_figures import draw_corpus_figures
from scbert.steps.draw_dataset_figures import draw_dataset_figures
from scbert.steps.summarize_quality import summarize_quality
from scbert.steps.write_report import write_report
from scbert.training.bundle_files import write_manifest
from tests.report.test_figures import (
    PBMC,
    VALIDATION,
    make_calibrations,
    make_comparison,
    make_evaluation,
    make_gene2vec_quality,
    make_gene_map,
    make_history,
    make_pretraining,
    make_store,
)

pytestmark = pytest.mark.slow

FIGURES = ("scores", "confusion", "per_type", "finetuning", "umap", "reliability", "unknown")
GENE2VEC: VectorsMeta = {
    "genes": 12_345,
    "genes_with_pairs": 9_876,
    "pairs": 123_456,
    "pairs_per_sample": {"celltypist_sample": 120_000, "pbmc68k_reduced": 3_456},
    "dim": 128,
    "epochs": 10,
    "seed": 2021,
    "settings": {"method": "skipgram"},
    "vocabulary_sha256": "ab" * 32,
    "vectors_sha256": "cd" * 32,
    "no_map": None,
    "imported": None,
    "nearest": {"CD3D": ["CD3E", "CD3G", "TRAC", "IL32", "LCK"], "MS4A1": []},
    "provenance": provenance(),
}
TESTED = DeletionResult(
    method="gradients",
    cell_type="all",
    genes="mean",
    cells=17,
    top=0.311,
    random=0.012,
    difference=0.299,
    low=0.251,
    high=0.342,
    over_control=0.173,
    over_control_low=0.151,
    over_control_high=0.196,
    verdict="passes",
)
FAILED = replace(
    TESTED,
    method="attention",
    top=0.061,
    random=0.024,
    difference=0.037,
    low=0.017,
    high=0.053,
    over_control=-0.077,
    over_control_low=-0.098,
    over_control_high=-0.056,
    verdict="fails",
)
EXPLANATION = Explained(
    name="pbmc68k_reduced",
    labels_from="the model",
    model_sha256="ab" * 32,
    cells={"CD19+ B": 10, "Dendritic": 7},
    methods={
        "gradients": ExplainedMethod("integrated gradients", "a paper", TESTED),
        "attention": ExplainedMethod("attention sums", "a paper", FAILED),
        "expression": ExplainedMethod(
            "mean bin", "no model", replace(TESTED, method="expression", verdict="control")
        ),
    },
    verdicts=["integrated gradients: passes."],
    gradients_missed=Missed(median=0.01, largest=0.1),
    markers=1,
    markers_found=[MarkersFound("gradients", own=1, named=2, any=2, types=2)],
    marker_types={"CD19+ B": "B cells"},
    gene_sets=0,
    notes=[],
    warnings={},
    settings={"deletions": [1, 2, 5]},
    provenance={},
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt"><text>{}</text></svg>'
BENCHMARK = (
    "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
    "{s}\t0:03:07\t{rss}\t0\t0\t0\t0\t0\t99.1\t12.0\n"
)


def write_history(path: Path, epochs: Sequence[Epoch]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one.content()) + "\n" for one in epochs))


def write_pretrained(folder: Path) -> None:
    """Write what is read of a pretrained model, with a manifest as a model has."""
    VALIDATION.write(folder / "validation.json")
    write_history(folder / "history.jsonl", make_pretraining())
    for name in ("weights.safetensors", "config.json", "genes.tsv"):
        (folder / name).touch()
    write_manifest(folder)


def make_quality(sample: str, **other: object) -> dict:
    return {
        "sample": sample,
        "source": f"package:scanpy/datasets/{sample}.h5ad",
        "sha256": "0123456789abcdef" * 4,
        "decision": "used",
        "reason": "",
        "dropped": {"expresses fewer than 100 genes": 8, "type with fewer than 3 cells": 0},
        "matrix": "raw.X",
        "scale": "log1p of counts per 10,000: counts were restored with n_counts.",
        "cells_read": 1_700,
        "cells_kept": 1_692,
        "genes": 765,
        "ensembl_ids": 0,
        "species_share": 0.98,
        "subset": True,
        "fractional": 0.0,
        "median_genes": 183.0,
        "median_counts": 1_204.5,
        "cell_types": PBMC,
        "notes": ["The file holds 765 of the genes of the study."],
        "warnings": {"few_genes_to_learn": "Few genes were measured."},
    } | other


def make_overlap(sample: str) -> Overlap:
    """765 genes, of which the vocabulary of 12,345 knows 741."""
    match = GeneMatch(
        index=np.append(np.arange(741), np.full(24, -1)),
        by_id=0,
        by_symbol=730,
        by_alias=11,
        unmatched=[f"RP11-{number}" for number in range(24)],
        ambiguous=["RP11-1", "RP11-2"],
        vocabulary_size=12_345,
        paired=0,
        contradicting=[],
    )
    return {"sample": sample, "cells": 1_692, "share_of_counts": 0.913, **match.summary()}


OVERLAP = (
    "11 by older name",
    "2 ambiguous",
    "91.3\N{NO-BREAK SPACE}% of its counts",
    "11,604 lacking",
)


def write_quality(folder: Path, *qualities: dict) -> None:
    for quality in qualities:
        write_json(folder / f"counts/{quality['sample']}.json", quality)
    summarize_quality(sorted(folder.glob("counts/*.json")), folder / "corpus/quality.tsv")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Write the workflow's files of the corpus, with figures; tests only read them."""
    folder = tmp_path_factory.mktemp("corpus") / "results"
    write_json(folder / "tokens/embedded/meta.json", make_store())
    write_json(folder / "gene2vec/meta.json", GENE2VEC)
    make_gene2vec_quality().write(folder / "gene2vec_quality.json")
    make_gene_map().to_csv(folder / "gene2vec/map.tsv", sep="\t", index=False)
    write_pretrained(folder / "pretrained")
    write_quality(folder, *map(make_quality, ("celltypist_sample", "pbmc68k_reduced")))
    write_json(folder / "expression/pbmc68k_reduced.json", make_overlap("pbmc68k_reduced"))
    values = yaml.safe_load((Path(__file__).parents[2] / "config/config.yaml").read_text())
    write_json(folder / "config.json", load_config(values).model_dump(mode="json"))
    draw_corpus_figures(
        folder / "tokens/embedded/meta.json",
        folder / "gene2vec",
        folder / "gene2vec_quality.json",
        folder / "pretrained",
        *(
            folder / f"figures/{name}.svg"
            for name in ("tokens", "gene2vec", "gene2vec_quality", "pretraining")
        ),
    )
    return folder


@pytest.fixture
def results(corpus, tmp_path):
    """A folder with the files of the corpus."""
    return shutil.copytree(corpus, tmp_path / "results")


@pytest.fixture(scope="module")
def drawn(corpus, tmp_path_factory):
    """The same, and those of one dataset; tests only read them."""
    folder = shutil.copytree(corpus, tmp_path_factory.mktemp("drawn") / "results")
    add_dataset(folder, make_evaluation(), make_comparison())
    return folder


@pytest.fixture
def results_of_one(drawn, tmp_path):
    """A folder with the files of the corpus and of one dataset."""
    return shutil.copytree(drawn, tmp_path / "results")


def add_dataset(results: Path, evaluation: Evaluation, comparison: Comparison) -> None:
    """Write the files of one dataset and draw its figures."""
    name = evaluation.dataset
    metrics = results / "metrics" / name
    evaluation.write(metrics / "evaluation.json")
    comparison.write(metrics / "comparison.json")
    explanation = results / "explanations" / name
    EXPLANATION.write(explanation / "explanation.json")
    for figure in ("heatmap", "deletion"):
        (explanation / f"{figure}.svg").write_text(SVG.format(figure))
    models = [results / f"models/{name}/seed{seed}" for seed in evaluation.scbert.seeds]
    for seed, model in enumerate(models):
        write_history(model / "history.jsonl", make_history(seed=seed))
        write_json(model / "calibration.json", make_calibrations(n_seeds=1)[0])
    draw_dataset_figures(
        metrics / "evaluation.json",
        metrics / "comparison.json",
        models,
        **{figure: results / f"figures/{name}/{figure}.svg" for figure in FIGURES},
    )


def lay_out(results: Path) -> str:
    write_report(
        sorted(results.glob("metrics/*/evaluation.json")),
        sorted(results.glob("metrics/*/comparison.json")),
        sorted(results.glob("explanations/*/explanation.json")),
        dataset_figures=sorted(results.glob("*/*/*.svg")),
        corpus_figures=sorted(results.glob("figures/*.svg")),
        quality=results / "corpus/quality.tsv",
        overlaps=sorted(results.glob("expression/*.json")),
        stores=sorted(results.glob("tokens/*/meta.json")),
        gene2vec=results / "gene2vec/meta.json",
        gene2vec_quality=results / "gene2vec_quality.json",
        validation=results / "pretrained/validation.json",
        benchmarks=results / "benchmarks",
        config=results / "config.json",
        report=results / "report.html",
    )
    return (results / "report.html").read_text()


class Page(HTMLParser):
    """Collects what the tests ask about."""

    def __init__(self, page: str):
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.values: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.values += [found["value"]] if tag == "data" else []
        if tag == "a":
            self.links.append(found["href"])
        elif {"src", "href", "xlink:href"} & set(found):
            self.loads += [found.get(key) for key in ("src", "href", "xlink:href") if key in found]


def numbers(found: object) -> set[float]:
    """All floats of the scores, differences and per-type rows of a file."""
    if isinstance(found, dict):
        return set().union(*(numbers(value) for value in found.values()))
    if isinstance(found, list):
        return set().union(*(numbers(value) for value in found))
    return {found} if isinstance(found, float) else set()


def test_write_report_holds_every_number_as_given(results_of_one):
    evaluation, comparison = make_evaluation(), make_comparison()
    page = lay_out(results_of_one)
    exact = {float(value) for value in Page(page).values}
    for method in comparison.methods:
        for found in map(method.metric, report.METRICS):
            assert found.mean in exact
            assert f"{found.low:.3f} to {found.high:.3f}" in page
    for row in evaluation.scbert.per_type:
        assert {row.precision, row.recall, row.f1} <= exact
    scores = evaluation.scbert.scores
    assert numbers([scores[metric].per_seed for metric in report.METRICS]) <= exact
    pretrained = VALIDATION.content()
    assert numbers([pretrained[key] for key in ("loss", "accuracy", "predictors")]) <= exact
    layer = pretrained["attention"][0]
    distances = [key for key in layer if key.startswith(("from", "least"))]
    assert numbers([layer[key] for key in distances]) <= exact
    for text in (
        "1,700",
        "1,692",
        "741",
        "9,876",
        "0123456789ab",
        "81.2\N{NO-BREAK SPACE}%",
        *OVERLAP,
    ):
        assert text in page


def test_write_report_says_which_explanation_fails(results_of_one):
    """Attention that beats random genes, but not a list made without the model, fails."""
    found = re.findall(
        r"<tr><th>(integrated gradients|attention sums|mean bin)</th>(.*)</tr>",
        lay_out(results_of_one),
    )
    rows = dict(found)
    assert "0.251 to +0.342" in rows["integrated gradients"]
    assert "+0.151 to +0.196" in rows["integrated gradients"]
    assert rows["integrated gradients"].endswith("<td>passes</td>")
    assert "\N{MINUS SIGN}0.098 to \N{MINUS SIGN}0.056" in rows["attention sums"]
    assert rows["attention sums"].endswith("<td>fails</td>")
    assert "0.151" not in rows["mean bin"]  # the control is not held against itself


def test_write_report_needs_the_explanation_of_each_dataset(results_of_one):
    (results_of_one / f"explanations/{make_evaluation().dataset}/explanation.json").unlink()
    with pytest.raises(
        ValueError, match=r"has no explanation.json; there are explanations of none"
    ):
        lay_out(results_of_one)


def test_write_report_says_where_attention_has_collapsed(results):
    assert "has collapsed" not in lay_out(results)
    first, second = VALIDATION.attention
    fallen = [replace(first, at_floor=0.987, collapsed=True), second]
    replace(VALIDATION, attention=fallen).write(results / "pretrained/validation.json")
    assert "In layer 1 attention has collapsed to a mean" in lay_out(results)


def test_write_report_lists_samples_left_out_with_the_reason(results_of_one):
    """305 samples must not drown it: they stand in a box that scrolls."""
    nothing = {"cells_kept": 0, "median_genes": None, "median_counts": None, "dropped": {}}
    mouse = make_quality("SRA1_SRS1", decision="left out", reason="only 0% <human>", **nothing)
    many = [make_quality(f"SRA2_SRS{number}", fractional=0.53) for number in range(300)]
    write_quality(results_of_one, mouse, *many)
    page = lay_out(results_of_one)
    assert "302 of 303 files of cells were used; of 515,100 cells, 510,984 were kept" in page
    assert re.search(r"<th>SRA1_SRS1</th><td[^>]*>1,700</td><td>only 0% &lt;human&gt;</td>", page)
    assert page.count("SRA1_SRS1") == 1
    assert page.count("53\N{NO-BREAK SPACE}% of the values fractions") == 300
    assert page.count("8: expresses fewer than 100 genes") == 302
    assert "type with fewer than 3 cells" not in page


def test_write_report_loads_nothing_and_is_light(results_of_one):
    page = lay_out(results_of_one)
    found = Page(page)
    assert all(load.startswith(("#", "data:image/png")) for load in found.loads)
    assert not re.search(r"@import|url\((?!#)", page)
    assert not {"script", "link", "iframe", "img", "object"} & set(found.tags)
    assert len(page.encode()) < 5_000_000


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_write_report_joins_datasets_without_clashing_ids(results, names):
    for shift, name in enumerate(names):
        add_dataset(results, make_evaluation(name), make_comparison(name, shift=0.1 * shift))
    page = lay_out(results)
    found = Page(page)
    assert len(found.ids) == len(set(found.ids))
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert {url[5:-1] for url in re.findall(r"url\(#[^)]+\)", page)} <= set(found.ids)
    assert {load[1:] for load in found.loads if load.startswith("#")} <= set(found.ids)
    assert ("Macro F1 across datasets" in page) == (len(names) > 1)
    assert found.tags.count("svg") == 4 + (len(FIGURES) + 2) * len(names)


def test_write_report_escapes_hostile_names(results):
    hostile = "<script>alert(1)</script>"
    evaluation = make_evaluation("d", support={hostile: 4, 'x" onload="y': 3})
    comparison = make_comparison("d")
    methods = [replace(found, title=hostile) for found in comparison.methods]
    add_dataset(results, evaluation, replace(comparison, methods=methods))
    page = lay_out(results)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "script" not in Page(page).tags
    assert 'onload="y"' not in page


def test_write_report_lists_what_steps_took(results_of_one):
    assert "No step was timed" in lay_out(results_of_one)
    for name, seconds, memory in (
        ("pretrain", "187.4", "1523.2"),
        ("finetune/d/seed1", "0.2", "-"),
    ):
        path = results_of_one / f"benchmarks/{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(BENCHMARK.format(s=seconds, rss=memory))
    page = lay_out(results_of_one)
    for text in ("finetune/d/seed1", "3 min 7 s", "1.5 GB", "0.2 s"):
        assert text in page


def test_write_report_copes_with_controls_only(results):
    comparison = make_comparison()
    methods = [found for found in comparison.methods if found.kind != "baseline"]
    add_dataset(results, make_evaluation(), replace(comparison, methods=methods))
    assert "No baseline was run" in lay_out(results)


def test_write_report_is_the_same_bytes_again(results_of_one):
    assert lay_out(results_of_one) == lay_out(results_of_one)


def test_write_report_wants_a_comparison_of_each_dataset(results_of_one):
    (results_of_one / "metrics/pbmc68k_reduced/comparison.json").unlink()
    with pytest.raises(ValueError, match=r"no comparison.*pass the comparison"):
        lay_out(results_of_one)


def test_write_report_wants_every_figure(results_of_one):
    (results_of_one / "figures/pbmc68k_reduced/umap.svg").unlink()
    with pytest.raises(ValueError, match=r"no figure umap\.svg.*Draw it first"):
        lay_out(results_of_one)
    assert not (results_of_one / "report.html").exists()


def test_draw_dataset_figures_wants_a_model(results):
    with pytest.raises(ValueError, match="no model is given"):
        draw_dataset_figures(results, results, [], **dict.fromkeys(FIGURES, results))


@pytest.mark.parametrize(
    ("mean", "low", "high", "side", "words"),
    [
        (-0.03, -0.08, 0.02, "unclear", "behind kNN by 0.030 macro F1"),
        (-0.03, -0.08, 0.02, "unclear", "no clear difference"),
        (-0.09, -0.14, -0.04, "behind", "\N{MINUS SIGN}0.140 to \N{MINUS SIGN}0.040: a clear"),
        (0.09, 0.04, 0.14, "ahead", "ahead of kNN by 0.090"),
        (0.0, -0.04, 0.04, "unclear", "the same macro F1"),
    ],
)
def test_judge_says_what_a_difference_means(mean, low, high, side, words):
    model, rival = make_comparison().model, make_comparison().of_kind("baseline")[0]
    comparison = replace(
        make_comparison(),
        methods=[model, replace(rival, title="kNN")],
        differences=[Difference(rival.method, "macro_f1", mean, low, high)],
    )
    found, sentence = text_module.judge(comparison)
    assert found == side
    assert words in sentence


def test_judge_pretraining_compares_with_the_best_predictor():
    """1 - 0.8912 / 0.9876 = 9.8 %."""
    side, sentence = text_module.judge_pretraining(VALIDATION)
    assert side == "ahead"
    assert "9.8\N{NO-BREAK SPACE}% below" in sentence
    assert "an additive model of cell and gene" in sentence
    assert "+0.081 to +0.112" in sentence
    unclear = replace(VALIDATION, skill=Interval(0.01, -0.02, 0.04))
    assert text_module.judge_pretraining(unclear)[0] == "unclear"
    behind = replace(VALIDATION, skill=Interval(-0.3, -0.4, -0.2))
    assert text_module.judge_pretraining(behind)[0] == "behind"
    assert "30\N{NO-BREAK SPACE}% above" in text_module.judge_pretraining(behind)[1]


def test_number_formats():
    assert text_module.signed(-0.03) == "\N{MINUS SIGN}0.030"
    assert [text_module.percent(x) for x in (0.95, 0.0613)] == [
        "95\N{NO-BREAK SPACE}%",
        "6.1\N{NO-BREAK SPACE}%",
    ]
    assert [text_module.duration(s) for s in (2.34, 187, 7_260)] == [
        "2.3 s",
        "3 min 7 s",
        "2 h 1 min",
    ]
    assert [text_module.memory(m) for m in (523.4, 1523, None)] == [
        "523 MB",
        "1.5 GB",
        "\N{EN DASH}",
    ]
    assert (text_module.score(None), text_module.percent(None)) == ("\N{EN DASH}", "\N{EN DASH}")


def test_score_with_interval_rounds_a_score():
    assert score_with_interval(Interval(0.8996, 0.85, 0.95)) == "0.900 (0.850-0.950)"


def test_difference_with_interval_shows_signs():
    found = difference_with_interval(Interval(0.02, -0.0104, 0.05))
    assert found == "+0.020 (-0.010 to +0.050)"
