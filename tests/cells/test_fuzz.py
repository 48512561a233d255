"""Damaged files: what is read is valid, or the documented error says why not; nothing else.

Files of HDF5 are read in another process, for libhdf5 is C: a crash of it must be seen as one.
"""

import gzip
import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from scbert.cells.r_files import read_rdata
from scbert.cells.read import read_cells
from scbert.config import ReadSettings, load_config
from scbert.steps.read_counts import read_counts
from tests.cells.test_tenx import write_folder, write_h5
from tests.panglaodb_samples import matrix_of, rdata_of

ROOT = Path(__file__).parents[2]
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
import faulthandler, os, sys, warnings
from pathlib import Path
from scbert.cells.how_to_read import AUTOMATIC
from scbert.cells.read import matrix_of, read_cells
from scbert.cells.scale import guess_scale
warnings.simplefilter("ignore")

def read(path):
    with path.with_suffix(".crash").open("w") as crash:
        faulthandler.enable(crash)
        try:
            adata = read_cells(path)
            matrix = matrix_of(adata, AUTOMATIC, str(path)).parts.read(0, adata.n_obs)
            guess_scale(matrix, str(path))
            matrix.check_format(full_check=True)
            return "valid"
        except ValueError as error:
            return "refused" if str(path) in str(error) else repr(error)
        except BaseException as error:
            return repr(error)

folder, suffix = Path(sys.argv[1]), sys.argv[2]
print("whole", read(folder / f"whole{suffix}"), flush=True)
for path in folder.glob(f"*{suffix}"):
    child = os.fork()
    if child == 0:
        print(path.stem, read(path), flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        frames = path.with_suffix(".crash").read_text().split("File ")
        print(path.stem, "crashed in", frames[1].split(",")[0], flush=True)
"""


def read_elsewhere(folder, suffix):
    """Read files, each in a process of its own; return what was said of each."""
    done = subprocess.run(
        [sys.executable, "-c", READ_MANY, folder, suffix],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def write_damaged(folder, suffix, name, places, n):
    """Write n damaged copies: every third is cut, the others have up to 4 changed bytes.

    Bytes are changed at `places`, whichever these are.
    """
    whole = (folder / f"whole{suffix}").read_bytes()
    rng = np.random.default_rng(0)
    for number in range(n):
        changed = bytearray(whole)
        for place, mask in zip(rng.choice(places, 4), rng.integers(1, 256, 4), strict=True):
            changed[place] ^= int(mask) if rng.random() < 0.6 else 0
        kept = rng.random() if number % 3 == 0 else 1.0
        (folder / f"{name}{number}{suffix}").write_bytes(changed[: int(kept * len(whole))])


def write_whole(folder, suffix):
    """Write a file that can be read; return where it holds numbers of cells and genes."""
    path = folder / f"whole{suffix}"
    if suffix == ".h5":
        write_h5(path)
        group = "matrix"
    else:
        obs = pd.DataFrame({"kind": list("aabbc")}, index=list("ABCDE"))
        var = pd.DataFrame(index=[f"GENE{n}" for n in range(8)])
        with warnings.catch_warnings(action="ignore"):
            ad.AnnData(sparse.csr_matrix(COUNTS.T), obs=obs, var=var).write_h5ad(path)
        group = "X"
    with h5py.File(path) as file:
        arrays = [file[group][name].id for name in ("data", "indices", "indptr")]
        starts = [array.get_offset() or array.get_chunk_info(0).byte_offset for array in arrays]
        sizes = [array.get_storage_size() for array in arrays]
    places = zip(starts, sizes, strict=True)
    return np.concatenate([np.arange(start, start + size) for start, size in places])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".h5ad", ".h5"])
def test_read_cells_of_damaged_hdf5_is_valid_or_refused(tmp_path, suffix):
    """Damage elsewhere than in the numbers: one in 400 makes libhdf5 itself crash.

    No Python can catch that, so that much is allowed, and nothing else.
    """
    places = write_whole(tmp_path, suffix)
    everywhere = np.arange((tmp_path / f"whole{suffix}").stat().st_size)
    write_damaged(tmp_path, suffix, "numbers", places, 60)
    write_damaged(tmp_path, suffix, "anywhere", everywhere, 60)
    said = read_elsewhere(tmp_path, suffix)
    assert said.pop("whole") == "valid"
    assert len(said) == 120
    numbers = [word for name, word in said.items() if name.startswith("numbers")]
    anywhere = [word for name, word in said.items() if name.startswith("anywhere")]
    assert set(numbers) == {"valid", "refused"}
    wrong = {word for word in anywhere if word not in ("valid", "refused")}
    assert all(word.startswith("crashed in") and "/h5py/" in word for word in wrong), wrong
    assert anywhere.count("refused") > 10
