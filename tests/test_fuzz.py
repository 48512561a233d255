"""Damaged files: what is read is valid, or the documented error says why not; nothing else.

Files of HDF5 are read in another process, for libhdf5 is C: a crash of it must be seen as one.
"""

import gzip
import json
import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from benchmarks.panglaodb_samples import _matrix as matrix_of
from benchmarks.panglaodb_samples import rdata_of
from scbert.cells.counts import read_cells
from scbert.cells.r_files import read_rdata
from scbert.config import ReadSettings, load_config
from scbert.steps.read import read_counts
from tests.test_tenx import write_folder, write_h5

ROOT = Path(__file__).parents[1]
CONFIG = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
SETTINGS = ReadSettings(
    sample="SRA1_SRS2",
    source="PanglaoDB",
    counts=CONFIG.counts.model_copy(update={"min_genes": 1}),
    normalization=CONFIG.normalization,
    matrix="auto",
    scale="auto",
    dataset=None,
    leave_out=True,
)
GENES = [f"GENE{n}_ENSG{n % 7:011d}.1" for n in range(8)]
COUNTS = np.random.default_rng(0).poisson(1.0, (8, 5)).astype(float)
SAMPLE = rdata_of({"sm": matrix_of(sparse.csc_matrix(COUNTS), GENES, list("ABCDE"))})
EACH = partial(
    settings,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@st.composite
def damage(draw):
    """Bytes to change and where to cut, as shares of the file's length; most keep the length."""
    place = st.floats(0, 1, exclude_max=True)
    flips = draw(st.lists(st.tuples(place, st.integers(1, 255)), max_size=4))
    return flips, draw(st.one_of(st.just(1.0), place))


def apply(content, damaged):
    flips, kept = damaged
    changed = bytearray(content)
    for place, mask in flips:
        changed[int(place * len(changed))] ^= mask
    return bytes(changed[: int(kept * len(changed))])


def check(adata):
    """What every reader promises."""
    x = adata.X
    assert x.shape == (adata.n_obs, adata.n_vars)
    assert x.dtype == np.float32
    assert np.isfinite(x.data).all()
    assert x.has_canonical_format
    x.check_format(full_check=True)


@EACH(max_examples=300)
@given(damage())
def test_read_rdata_of_a_damaged_file_is_valid_or_refused(tmp_path, damaged):
    """The damage is inside the compressed data, where no checksum finds it."""
    path = tmp_path / "SRA1_SRS2.sparse.RData"
    path.write_bytes(apply(SAMPLE, damaged))
    try:
        adata = read_rdata(path, max_gb=0.001)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017  either way is right
    else:
        check(adata)


@EACH(max_examples=60)
@given(damage(), st.booleans())
def test_read_counts_of_a_damaged_sample_leaves_nothing_behind(tmp_path, damaged, compressed):
    path = tmp_path / "SRA1_SRS2.sparse.RData"
    path.write_bytes(apply(gzip.compress(SAMPLE, mtime=0), damaged))
    if not compressed:
        path.write_bytes(apply(SAMPLE, damaged))
    results = tmp_path / "results"
    try:
        read_counts(path, results / "c.h5ad", results / "c.json", SETTINGS)
    except ValueError:
        assert not results.exists() or list(results.iterdir()) == []
    else:
        assert {file.name for file in results.iterdir()} == {"c.h5ad", "c.json"}
        for file in results.iterdir():
            file.unlink()


@EACH(max_examples=120)
@given(st.sampled_from(["matrix.mtx", "features.tsv", "barcodes.tsv"]), st.booleans(), damage())
def test_read_cells_of_a_damaged_10x_folder_is_valid_or_refused(tmp_path, name, zipped, damaged):
    folder = tmp_path / f"10x_{zipped}"
    if not folder.exists():
        write_folder(folder, zipped=zipped)
    path = folder / (name + ".gz" * zipped)
    whole = path.read_bytes()
    path.write_bytes(apply(whole, damaged))
    try:
        adata = read_cells(folder)
    except ValueError as error:
        assert str(folder) in str(error)  # noqa: PT017  either way is right
    else:
        assert adata.X.dtype == np.float32
        adata.X.check_format(full_check=True)
    finally:
        path.write_bytes(whole)


READ_MANY = """
import json, sys, warnings
from pathlib import Path
from scbert.cells.counts import read_cells, select_matrix
from scbert.cells.scale import guess_scale
warnings.simplefilter("ignore")
for path in map(Path, json.loads(sys.stdin.read())):
    try:
        adata = read_cells(path)
        matrix = select_matrix(adata, "auto", str(path))[0]
        guess_scale(matrix, str(path))
        matrix.check_format(full_check=True)
        said = "valid"
    except ValueError as error:
        said = "refused" if str(path) in str(error) else repr(error)
    print(path.name, said, flush=True)
"""


def read_elsewhere(paths):
    """Read files in another process; return what was said of each, and how it ended."""
    done = subprocess.run(
        [sys.executable, "-c", READ_MANY],
        input=json.dumps([str(path) for path in paths]),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    return said, done.returncode, done.stderr[-2000:]


def write_damaged(folder, suffix, whole, n):
    """Write n damaged copies: every third is cut, the others have up to 4 changed bytes."""
    rng = np.random.default_rng(0)
    for number in range(n):
        flips = zip(rng.random(1 + number % 4), rng.integers(1, 256, 4).tolist(), strict=False)
        kept = rng.random() if number % 3 == 0 else 1.0
        path = folder / f"{number}{suffix}"
        path.write_bytes(apply(whole, (list(flips), kept)))
        yield path


@pytest.mark.parametrize("suffix", [".h5ad", ".h5"])
def test_read_cells_of_damaged_hdf5_is_valid_or_refused(tmp_path, suffix):
    path = tmp_path / f"whole{suffix}"
    if suffix == ".h5":
        write_h5(path)
    else:
        obs = pd.DataFrame({"kind": list("aabbc")}, index=list("ABCDE"))
        var = pd.DataFrame(index=[f"GENE{n}" for n in range(8)])
        with warnings.catch_warnings(action="ignore"):
            ad.AnnData(sparse.csr_matrix(COUNTS.T), obs=obs, var=var).write_h5ad(path)
    damaged = list(write_damaged(tmp_path, suffix, path.read_bytes(), 100))
    said, code, errors = read_elsewhere([path, *damaged])
    assert code == 0, f"{len(said)} were read before: {errors}"
    assert said.pop(path.name) == "valid"
    assert len(said) == len(damaged)
    assert set(said.values()) == {"valid", "refused"}
