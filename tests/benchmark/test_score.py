import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbert.defaults import load_defaults
from scbert.steps.make_benchmark_tasks import make_benchmark_tasks
from scbert.steps.score_benchmark import score_benchmark
from scbert.steps.select_benchmark_cells import select_benchmark_cells

DEFAULTS = load_defaults(None, {})
RUN = {
    "exit": 0,
    "reason": "",
    "seconds": 1.0,
    "cpu_seconds": 1.0,
    "peak_mb": 10,
    "gpu_mb": None,
    "versions": {},
}
TYPES = np.repeat(["B", "T", "NK"], 60)


def counts_in(file, seed=0, genes=5):
    rng = np.random.default_rng(seed)
    cells = ad.AnnData(
        sparse.csr_matrix(rng.poisson(2, (len(TYPES), genes)).astype(np.float32)),
        obs=pd.DataFrame(
            {"cell_type": TYPES, "library_size": 20.0}, index=[f"c{i}" for i in range(len(TYPES))]
        ),
        var=pd.DataFrame(index=[f"G{i}" for i in range(genes)]),
    )
    cells.write_h5ad(file)
    return file


@pytest.fixture
def room(tmp_path):
    """A dataset with tasks, to which answers can be given."""
    used = ("within_dataset", "new_type")
    settings = DEFAULTS.benchmark.protocols.model_copy(
        update={"used": used, "folds": 3, "new_types": 1}
    )
    counts = counts_in(tmp_path / "counts.h5ad")
    make_benchmark_tasks([counts], tmp_path / "tasks", 1, settings)
    return tmp_path


def answer(room, method, label_of, run=RUN):
    """Let a method answer all tasks; label_of gives the label of a true type and those taught."""
    tasks = pd.read_csv(room / "tasks/tasks.tsv", sep="\t")
    for task in tasks.task:
        cells = pd.read_csv(room / f"tasks/{task}.tsv", sep="\t")
        taught = sorted(set(cells.cell_type[cells.part == "learned"]))
        query = cells[cells.part == "query"]
        label = [label_of(true, taught) for true in query.cell_type]
        novelty = [0.0 if true in taught else 1.0 for true in query.cell_type]
        table = pd.DataFrame({"cell": query.cell, "label": label, "novelty": novelty})
        for kind, ending in (("answers", "tsv"), ("runs", "json")):
            file = room / kind / method / f"{task}.{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            if kind == "answers":
                table.to_csv(file, sep="\t", index=False)
            else:
                file.write_text(json.dumps(run))


def scored(room, *methods):
    names = ("scores", "differences", "costs")
    files = {name: room / f"{name}.tsv" for name in names}
    score_benchmark(room, "toy", 1, list(methods), **files, settings=DEFAULTS.evaluate)
    return [pd.read_csv(files[name], sep="\t", keep_default_na=False, dtype=str) for name in names]


def perfect(true, taught):
    return true if true in taught else taught[0]


def test_perfect_answers_have_perfect_scores(room):
    answer(room, "oracle", perfect)
    answer(room, "first", lambda true, taught: taught[0])
    scores, differences, costs = scored(room, "oracle", "first")
    f1 = scores[scores.metric == "macro_f1"].set_index(["protocol", "method"]).value
    assert f1["within_dataset", "oracle"] == "1"
    assert f1["new_type", "oracle"] == "1"  # the left-out type has no right answer
    assert float(f1["within_dataset", "first"]) < 0.2
    auroc = scores[scores.metric == "novelty_auroc"]
    assert set(auroc.protocol) == {"new_type"}
    assert set(auroc.value) == {"1"}
    ahead = differences[(differences.protocol == "within_dataset")].set_index("metric")
    assert float(ahead.low["macro_f1"]) > 0
    assert len(costs) == 2 * 4


def test_a_failed_method_has_a_reason_and_no_score(room):
    answer(room, "oracle", perfect)
    answer(room, "broken", perfect, RUN | {"exit": 3, "reason": "no memory"})
    scores, differences, _ = scored(room, "oracle", "broken")
    broken = scores[scores.method == "broken"]
    assert set(broken.value) == {""}
    reasons = broken.set_index("protocol").reason.to_dict()
    assert reasons == {"within_dataset": "fold 0: no memory", "new_type": "no memory"}
    assert differences.empty


def test_answers_against_the_contract_are_a_failure(room, caplog):
    answer(room, "odd", lambda true, taught: "Martian")
    scores, _, _ = scored(room, "odd")
    assert scores.reason.str.contains("'Martian', a type that was not taught").all()
    assert "odd failed, within_dataset-all-2: answers against the contract: column" in caplog.text


def test_the_same_answers_give_the_same_bytes(room):
    answer(room, "oracle", perfect)
    scored(room, "oracle")
    first = (room / "scores.tsv").read_bytes()
    scored(room, "oracle")
    assert (room / "scores.tsv").read_bytes() == first


def test_the_query_holds_no_label(room):
    select_benchmark_cells(
        [room / "counts.h5ad"],
        room / "tasks/within_dataset-all-0.tsv",
        room / "learned.h5ad",
        room / "query.h5ad",
    )
    learned, query = (ad.read_h5ad(room / f"{name}.h5ad") for name in ("learned", "query"))
    assert set(query.obs) == {"batch", "library_size"}
    assert set(learned.obs) == {"batch", "library_size", "cell_type"}
    assert not set(learned.obs_names) & set(query.obs_names)
    true = pd.Series(TYPES, index=[f"c{i}" for i in range(len(TYPES))])
    assert (learned.obs.cell_type == true[learned.obs_names]).all()


def test_a_transfer_keeps_the_genes_of_both_files(tmp_path):
    files = [counts_in(tmp_path / "a.h5ad"), counts_in(tmp_path / "b.h5ad", seed=1, genes=7)]
    make_benchmark_tasks(files, tmp_path / "tasks", 1, DEFAULTS.benchmark.protocols)
    out = tmp_path / "learned.h5ad", tmp_path / "query.h5ad"
    select_benchmark_cells(files, tmp_path / "tasks/across_datasets-all-0.tsv", *out)
    assert ad.read_h5ad(out[0]).shape == (180, 5)
    assert ad.read_h5ad(out[1]).shape == (180, 7)
    assert np.array_equal(ad.read_h5ad(out[1]).X.toarray(), ad.read_h5ad(files[1]).X.toarray())


def test_a_dataset_that_no_protocol_suits_is_refused(tmp_path):
    settings = DEFAULTS.benchmark.protocols.model_copy(update={"used": ("across_batches",)})
    with pytest.raises(ValueError, match="no protocol of across_batches can be used"):
        make_benchmark_tasks([counts_in(tmp_path / "a.h5ad")], tmp_path / "tasks", 1, settings)


def test_cells_that_each_fold_asks_about_have_no_interval(tmp_path):
    """Two new types of one query: a bootstrap would take each known cell for two."""
    settings = DEFAULTS.benchmark.protocols.model_copy(
        update={"used": ("within_dataset", "new_type"), "folds": 3, "new_types": 2}
    )
    make_benchmark_tasks([counts_in(tmp_path / "counts.h5ad")], tmp_path / "tasks", 1, settings)
    answer(tmp_path, "mine", lambda true, taught: taught[0])
    answer(tmp_path, "other", perfect)
    scores, differences, _ = scored(tmp_path, "mine", "other")
    for table in (scores[scores.metric == "macro_f1"], differences):
        has_interval = (table.low != "").groupby(table.protocol).all()
        assert has_interval.to_dict() == {"within_dataset": True, "new_type": False}
