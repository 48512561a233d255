"""From files of a user, of packages and of PanglaoDB to tokens: failing, killed and whole runs."""

import gzip
import hashlib
import io
import os
import re
import signal
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.io import mmwrite

from scbert.files import read_json
from tests.loopback import Site, wait_for_part
from tests.panglaodb_mirror import ADDRESSES, MOUSE, RPKM_ONLY, copy_mirror, make_mirror
from tests.workflow_run import REPOSITORY, Run, write_datasets, write_second

pytestmark = pytest.mark.workflow


def test_a_failing_step_says_why_and_leaves_no_output(fresh):
    write_second(fresh.here / "second.h5ad")
    changed = write_datasets(fresh, label_key="celltype")
    done = fresh.snakemake("results/counts/second.h5ad", changed=changed)
    assert done.returncode != 0
    assert re.search(r"ERROR: .*second\.h5ad.*'celltype'", done.said)
    assert "kind" in done.said  # the columns that there are
    counts = fresh.here / "results/counts"
    assert not counts.exists() or list(counts.iterdir()) == []


@pytest.fixture(params=["real", "synthetic"])
def panglaodb_site(request, tmp_path):
    """PanglaoDB's tables and some samples over loopback: its address, and which kind it is."""
    shared = Path(os.environ.get("SCBERT_SHARED_DATA", REPOSITORY / "../shared/data")) / "panglaodb"
    site = tmp_path / "site"
    if request.param == "synthetic":
        make_mirror(site)
    elif shared.is_dir():
        copy_mirror(shared, site)
    else:
        pytest.skip(f"{shared} is absent (set SCBERT_SHARED_DATA)")
    handler = partial(SimpleHTTPRequestHandler, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", request.param
        server.shutdown()


def test_panglaodb_from_its_site_to_tokens_and_gene_vectors(fresh, panglaodb_site):
    address, kind = panglaodb_site
    urls = {name: [f"{address}/{path}"] for name, path in ADDRESSES.items()}
    changed = {
        "corpus": {"panglaodb": {"urls": urls}},
        "counts": {"min_genes": 50},  # real samples are cut to 50 cells, many of them nearly empty
        "vocabulary": {"min_cells": 5, "min_samples": 1},  # of few
        "gene2vec": {"dim": 20, "epochs": 1},
        "network": {"dim": 20},
    }
    targets = ["results/tokens/panglaodb", "results/gene2vec", "results/corpus/quality.tsv"]
    done = fresh.snakemake(*targets, config="config/panglaodb.yaml", changed=changed)
    assert done.returncode == 0, done.said
    chosen, quality = (
        pd.read_csv(fresh.here / f"results/corpus/{table}.tsv", sep="\t", index_col="sample")
        for table in ("samples", "quality")
    )
    assert [*chosen.loc[MOUSE, ["included", "reason"]]] == ["no", "species is not Homo sapiens"]
    joined = {*chosen.index[chosen.included == "yes"], "pbmc68k_reduced.train"}
    meta = read_json(fresh.here / targets[0] / "meta.json")
    assert {source["sample"] for source in meta["sources"]} == joined
    assert meta["cells"] == quality.cells_kept[[*joined & {*quality.index}]].sum() + 416
    assert quality.decision[quality.cells_kept == 0].tolist() == ["left out"] * (kind != "real")
    vectors = read_json(fresh.here / targets[1] / "meta.json")
    assert vectors["genes_with_pairs"] > 100
    assert {name for name, n in vectors["pairs_per_sample"].items() if n} <= joined
    if kind == "synthetic":
        assert "sm2" in quality.reason[RPKM_ONLY]
        counts = ad.read_h5ad(fresh.here / "results/counts/SRA1_SRS1.h5ad").obs
        assert set(zip(counts.cluster, counts.cell_type, strict=True)) == {
            ("0", "T cells"),
            ("1", ""),
        }


def test_a_killed_run_downloads_nothing_twice(fresh, monkeypatch):
    """SIGKILL to snakemake and its jobs while one download stalls and others are complete."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    samples = [f"SRA{number}_SRS{number}" for number in range(1, 4)]
    targets = [f"resources/panglaodb/{sample}.sparse.RData" for sample in samples]
    bodies = {
        f"/{sample}": gzip.compress(b"RDX3\nX\n" + np.random.default_rng(n).bytes(400_000))
        for n, sample in enumerate(samples)
    }
    with Site(bodies) as site:
        site.mood = lambda asked: "stall" if is_first(site, asked, "/SRA1_SRS1") else "ok"
        changed = {"corpus": {"panglaodb": {"urls": {"counts": [site.url + "/{sample}"]}}}}
        run = fresh.start(*targets, changed=changed, start_new_session=True)
        try:
            assert site.stalled.wait(120)
            wait_for(fresh.here / target for target in targets[1:])
            wait_for_part(fresh.here / targets[0], 1)
        finally:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
        assert not (fresh.here / targets[0]).exists()
        fresh.snakemake("--unlock", changed=changed)
        done = fresh.snakemake(*targets, changed=changed)
        assert done.returncode == 0, done.said
        asked = sorted((asked.path, bool(asked.range)) for asked in site.asked)
    for target, body in zip(targets, bodies.values(), strict=True):
        assert (fresh.here / target).read_bytes() == body
    resumed = [("/SRA1_SRS1", True)]
    assert asked == sorted([(path, False) for path in bodies] + resumed)
    how = changed | {"download": {"attempts": 3}}  # how a file is fetched is no reason to fetch it
    assert "Nothing to be done" in fresh.snakemake(*targets, changed=how).said


@pytest.mark.parametrize("file", ["my data/ref.h5ad", 'a(1) it\'s "x" $HOME.h5ad'])
def test_files_and_a_checkout_may_have_spaces_brackets_and_quotes(file, tmp_path):
    folder = tmp_path / "a b's (1)"
    folder.mkdir()
    run = Run(folder)
    (run.here / file).parent.mkdir(exist_ok=True)
    write_second(run.here / file)
    changed = write_datasets(run, file=file)
    done = run.snakemake("results/splits/second.tsv", changed=changed)
    assert done.returncode == 0, done.said
    assert len(pd.read_csv(run.here / "results/splits/second.tsv", sep="\t")) == 60


def as_10x_archive(cells):
    """An archive as 10x Genomics publishes one, and a table of the types of its cells."""
    files = {"barcodes.tsv": "".join(f"{name}\n" for name in cells.obs_names)}
    files["genes.tsv"] = "".join(f"{name}\t{name}\n" for name in cells.var_names)
    matrix, packed = io.BytesIO(), io.BytesIO()
    mmwrite(matrix, sparse.csc_matrix(cells.X.T).astype(int))
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in {**files, "matrix.mtx": matrix.getvalue()}.items():
            member = tarfile.TarInfo(f"filtered_matrices_mex/hg19/{name}")
            body = content if isinstance(content, bytes) else content.encode()
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    types = cells.obs.kind.rename("celltype").rename_axis("barcodes").reset_index()
    return packed.getvalue(), types.to_csv(sep="\t", index=False).encode()


def test_an_archive_with_a_table_of_types_and_a_file_become_one_dataset(fresh):
    """By address and SHA-256, as Zheng68K; types by common names; by which the study is told."""
    write_second(fresh.here / "second.h5ad")
    archive, types = as_10x_archive(ad.read_h5ad(fresh.here / "second.h5ad"))
    names = ad.read_h5ad(fresh.here / "second.h5ad").obs.kind.unique()
    common = "".join(f"{name}\tcommon {name}\n" for name in names[1:])
    (fresh.here / "types.tsv").write_text("cell_type\tcommon\n" + common)
    with Site({"/a.tar.gz": archive, "/types.tsv": types}) as site:
        lines = {
            "first": {"file": f"{site.url}/a.tar.gz", "label_key": "celltype", "types": "types.tsv"}
            | {"cell_table": f"{site.url}/types.tsv", "sha256": hashlib.sha256(archive).hexdigest()}
            | {"cell_table_sha256": hashlib.sha256(types).hexdigest()},
            "second": {"file": "second.h5ad", "label_key": "kind"},
            "both": {"file": "joined:first+second", "label_key": "cell_type"}
            | {"batch_key": "dataset", "library_size_key": "library_size"},
        }
        table = pd.DataFrame(lines).T.rename_axis("dataset")
        table = table.assign(matrix="X", scale="counts", in_corpus="no", ontology="")
        changed = {"datasets": "datasets.tsv"}
        table.to_csv(fresh.here / "datasets.tsv", sep="\t")
        done = fresh.snakemake("results/counts/both.h5ad", changed=changed)
        assert done.returncode == 0, done.said
        obs = ad.read_h5ad(fresh.here / "results/counts/both.h5ad").obs
        kinds = ad.read_h5ad(fresh.here / "second.h5ad").obs.kind.value_counts()
        assert obs.batch.value_counts().to_dict() == {"second": 60, "first": 60 - kinds[names[0]]}
        assert set(obs.cell_type[obs.batch == "first"]) == {f"common {name}" for name in names[1:]}
        table.loc["first", "cell_table_sha256"] = "f" * 64
        table.loc["second", "sha256"] = "0" * 64
        table.to_csv(fresh.here / "datasets.tsv", sep="\t")
        done = fresh.snakemake("--keep-going", "results/counts/both.h5ad", changed=changed)
    assert done.returncode != 0
    assert "but the configuration expects " + "f" * 64 in done.said
    assert "but its table requires " + "0" * 64 in done.said


def is_first(site, asked, path):
    return asked.path == path and [one.path for one in site.asked].count(path) == 1


def wait_for(paths):
    """Wait until the files are there."""
    tick = threading.Event()
    for path in paths:
        for _ in range(12_000):
            if path.exists():
                break
            tick.wait(0.01)
        assert path.exists()
