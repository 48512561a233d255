import shutil

import numpy as np
import pytest

from benchmarks import pool_report
from benchmarks.pool_report import Flops, count_flops, draw, flops_per_token, page, read_run
from scbert.config import Network
from scbert.network.flops import step_flop


def small(config, **values):
    given = {"dim": 8, "depth": 2, "heads": 2, "dim_head": 4, "n_features": 6, "ff_mult": 4}
    return Network.model_validate(config.network.model_dump() | given | values)


def products(network, n_tokens, again):
    """Those that a training step needs, those that are computed again, and the layer of bins."""
    width = network.heads * network.dim_head
    features = 3 * network.dim * width + (2 * width - network.heads) * network.n_features
    more = network.depth * (features + 4 * again * network.dim**2) + 3 * network.dim * 6
    return step_flop(network, np.array([n_tokens])) + 2 * n_tokens * more


@pytest.mark.parametrize(("n_cells", "again"), [(1, False), (2, True)])
def test_count_flops_sees_our_backward_pass_and_what_is_computed_again(config, n_cells, again):
    """From 1,024 tokens on, the first half of the feed-forward layer is computed again: torch stops
    there, for nothing needs the result of the second."""
    network = small(config)
    counted = count_flops(network, n_cells, 900)
    assert counted == pytest.approx(products(network, 900 * n_cells, again), rel=0.01)


def test_flops_per_token_knows_what_is_float32(config):
    """All that grows with the number of features."""
    network = small(config)
    found = flops_per_token(network)
    none = products(network.model_copy(update={"n_features": 0}), 1, again=True)
    assert found.total - found.float32 == pytest.approx(none, rel=0.01)


@pytest.fixture
def folders(toy_run, tmp_path):
    """Folders of two runs."""
    for name in ("without", "with"):
        results = tmp_path / name / "results"
        shutil.copytree(toy_run.pretrained, results / "pretrained")
        (results / "benchmarks").mkdir()
        row = "s\tmax_rss\tcpu_time\n3600\t900\t1800\n"
        (results / "benchmarks/pretrain.tsv").write_text(row)
    return tmp_path / "without", tmp_path / "with"


def test_page_has_the_numbers_of_each_run(folders, monkeypatch):
    """With a count that takes no time: 900 million tokens, 10 epochs, 95 % of the cells."""
    monkeypatch.setattr(pool_report, "flops_per_token", lambda network: Flops(2e6, 5e5))
    one, both = ([read_run(folder) for folder in some] for some in (folders[:1], folders))
    said = page(both)
    found = both[0].validation
    assert said.count(f"| {found['loss']:.4f} | {found['accuracy']:.4f} |") == 2
    assert "| without | 2 | 1.00 | 0.50 | 900 |" in said
    assert "| config/panglaodb.yaml with FAVOR+ | 2.0 | 25% | 1.7e+16 |" in said
    assert "| with | 2 |" not in page(one)
    assert draw(both).count("additive predictor") == 1
    assert "<svg" in draw(one)


def test_a_run_that_has_not_ended_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="pretrained does not exist"):
        read_run(tmp_path)
