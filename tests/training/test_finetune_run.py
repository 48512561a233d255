"""A run that was stopped is continued by the same command alone."""

import pytest

from scbert.cells.how_to_read import HowToRead
from scbert.defaults import load_defaults
from scbert.files import write_json
from scbert.training.bundle_files import MANIFEST
from scbert.training.finetune_run import FinetuneRun, Given
from scbert.training.labelled_file import dataset_of


@pytest.fixture
def run(tmp_path):
    """Give a run with options of its own, of one file and one encoder."""
    (tmp_path / "cells.h5ad").write_text("cells")
    (tmp_path / MANIFEST).write_text("encoder")

    def make(name="cells.h5ad", *, label_key="cell_type", batch_key="", test=True, **settings):
        reading = HowToRead("auto", "auto", "")
        file = tmp_path / name
        dataset = dataset_of(file, reading, label_key=label_key, batch_key=batch_key)
        config = load_defaults(None, settings)
        given = Given(file, tmp_path, [])
        return FinetuneRun(tmp_path / "MODEL", given, dataset, config, test=test, add_genes=False)

    return make


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"label_key": "leiden"}, r"--label-key (cell_type before, leiden now)"),
        ({"batch_key": "who"}, "--batch-key (none before, who now)"),
        ({"finetune": {"seeds": [8]}}, "--seed (7 before, 8 now)"),
        ({"test": False}, "choice of --no-test"),
        (
            {"counts": {"min_genes": 5}, "label_key": "leiden"},
            "--label-key (cell_type before, leiden now), value of counts.min_genes (--config) (",
        ),
        ({"name": "other.h5ad"}, "content of REFERENCE, name of REFERENCE (cells.h5ad before, "),
    ],
)
def test_a_run_of_other_options_is_refused_and_names_them(run, tmp_path, options, named):
    seed = {"finetune": {"seeds": [7]}}
    (tmp_path / "other.h5ad").write_text("other cells")
    started = run(**seed)
    write_json(started.data / "run.json", started.identity())
    assert run(**seed).is_prepared()
    with pytest.raises(ValueError, match="holds an unfinished run") as error:
        run(**seed | options).is_prepared()
    assert f"unfinished run with another {named}" in str(error.value)


def test_a_run_of_another_version_names_that_alone(run):
    started = run()
    write_json(started.data / "run.json", {"version": "0.0.1", "dataset": {"label_key": "ct"}})
    with pytest.raises(
        ValueError, match=r"another version of scBERT \(0\.0\.1 before, \S* now\)\. "
    ):
        started.is_prepared()
