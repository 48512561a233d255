"""Collect what a machine with a GPU and without network needs for benchmarks/gpu.py, and unpack it.

Here: python benchmarks/gpu_carry.py pack --whole RUN --part RUN --gene2vec200 FOLDER --data FOLDER
(stage E3 needs no part, and E alone the vectors of the paper's width).
There, with Python 3.12: python3 -m tarfile -e .carry/site.tar.xz SITE, then with PYTHONPATH=SITE:.
python benchmarks/gpu_carry.py unpack .carry FOLDER, which writes all/ and without/ (tokens,
vocabulary.tsv, gene2vec; without/ has gene2vec200 too) and the labelled cells.
A run is the folder of a run of config/encoder.yaml; the samples of the part are among the whole's.
"""

import argparse
import io
import json
import lzma
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import anndata
import numpy as np
from carried_store import pack_store, restore_part, restore_store, round_to_bins

from scbert.files import sha256_of, write_json
from scbert.genes.matching import read_vocabulary
from scbert.genes.vector_files import read_vectors

ROOT = Path(__file__).parents[1]
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "pb": 0}]  # bytes, aligned to nothing
LIMIT = 52 * 2**20  # bytes of the folder
LARGEST = 40_000_000  # bytes of a file
WHOLE, PART = "all", "without"
# What the machine lacks; it has torch, numpy, scipy, scikit-learn, h5py, safetensors, accelerate.
PACKAGES = """
pandas pytz tzdata python-dateutil pydantic pydantic_core annotated-types typing-inspection
performer-pytorch local-attention axial_positional_embedding hyper-connections torch-einops-utils
anndata zarr numcodecs donfig google-crc32c array-api-compat legacy-api-wrap natsort scverse-misc
session-info2 isal
"""
GLIBC = ("_2_28", "_2_27", "_2_24", "_2_17", "2014", "1")  # manylinux
LEVELS = 127  # of a gene vector: int8
QUERY_CELLS, SEED = 2_000, 2021  # of pbmc8k, to annotate


def pack(options: argparse.Namespace) -> None:
    """Write the archives, print what they take, and make sure that they can be unpacked."""
    out = options.out
    out.mkdir(exist_ok=True)
    runs = {WHOLE: options.whole} | ({PART: options.part} if options.part else {})
    with tempfile.TemporaryDirectory() as folder:
        tokens = {name: _rounded(run, Path(folder, name)) for name, run in runs.items()}
        encoder: dict[str, bytes] = {}
        for name, run in runs.items():
            encoder |= _pack_run(run, tokens[name], name)
        if options.gene2vec200:
            vectors = _pack_vectors(options.gene2vec200, options.part, f"{PART}/gene2vec200")
            encoder |= vectors
        _write_archive(out / "encoder.tar.xz", encoder)
        _write_archive(out / "data.tar.xz", _labelled_cells(options.data))
        _write_archive(out / "site.tar.xz", _site())
        _compare(out, runs, tokens)
    _print_sizes(out)


def _rounded(run: Path, folder: Path) -> Path:
    (tokens,) = (run / "results/tokens").iterdir()
    return round_to_bins(tokens, folder)


def unpack(archive: Path, folder: Path) -> None:
    """Restore what an archive holds, and open its token stores, which checks every byte of them."""
    members = _read_archive(archive)
    if f"{WHOLE}/meta.json" not in members:
        for name, content in members.items():
            _write(folder / name, content)
        return
    packed = [name for name in (WHOLE, PART) if f"{name}/meta.json" in members]
    for name in packed:
        own = _below(members, f"{name}/")
        _write(folder / name / "vocabulary.tsv", own["vocabulary.tsv"])
        for vectors in ("gene2vec", "gene2vec200"):
            if f"{vectors}/meta.json" in own:
                _restore_vectors(_below(own, f"{vectors}/"), folder / name / vectors)
    whole, part = folder / WHOLE, folder / PART
    restore_store(_below(members, f"{WHOLE}/"), whole / "tokens")
    if PART in packed:
        own = _below(members, f"{PART}/")
        restore_part(whole / "tokens", own, _genes(whole, part), part / "tokens")


def _pack_run(run: Path, tokens: Path, name: str) -> dict[str, bytes]:
    results = run / "results"
    kept = pack_store(tokens) if name == WHOLE else _store_names(tokens)
    members = kept | {"vocabulary.tsv": (results / "vocabulary.tsv").read_bytes()}
    vectors = _pack_vectors(results / "gene2vec", run, f"{name}/gene2vec")
    return {f"{name}/{member}": content for member, content in members.items()} | vectors


def _store_names(tokens: Path) -> dict[str, bytes]:
    return {file: (tokens / file).read_bytes() for file in ("meta.json", "meta.sha256")}


def _pack_vectors(gene2vec: Path, run: Path, name: str) -> dict[str, bytes]:
    """Return gene vectors rounded to 127 steps of each gene's largest value: 0.4 % of it at most.

    A float16 has no noise to spare for LZMA and takes twice the room.
    """
    vectors = read_vectors(gene2vec, read_vocabulary(run / "results/vocabulary.tsv"))
    steps = (np.abs(vectors).max(axis=1) / LEVELS).astype("<f4")
    rounded = np.round(vectors / steps[:, None]).astype("i1")
    members = {"rounded.i1": rounded.tobytes(), "steps.f4": steps.tobytes()}
    members |= {file: (gene2vec / file).read_bytes() for file in ("meta.json", "genes.tsv")}
    return {f"{name}/{member}": content for member, content in members.items()}


def _restore_vectors(members: Mapping[str, bytes], folder: Path) -> None:
    """Write gene vectors as trained with there: the rounded ones, and their own SHA-256."""
    steps = np.frombuffer(members["steps.f4"], "<f4")
    rounded = np.frombuffer(members["rounded.i1"], "i1").reshape(len(steps), -1)
    _write(folder / "genes.tsv", members["genes.tsv"])
    np.save(folder / "vectors.npy", rounded * steps[:, None])
    meta = json.loads(members["meta.json"])
    meta["rounded_from_sha256"] = meta["vectors_sha256"]
    write_json(folder / "meta.json", meta | {"vectors_sha256": sha256_of(folder / "vectors.npy")})


def _genes(whole: Path, part: Path) -> np.ndarray:
    """Return which gene of the whole's vocabulary each gene of the part's is."""
    number = {gene: n for n, gene in enumerate(read_vocabulary(whole / "vocabulary.tsv").symbol)}
    return np.array([number[gene] for gene in read_vocabulary(part / "vocabulary.tsv").symbol])


def _labelled_cells(data: Path) -> dict[str, bytes]:
    """Return pbmc3k to fine-tune on, and some cells of pbmc8k to annotate; LZMA packs them."""
    reference = anndata.read_h5ad(data / "pbmc3k_labelled.h5ad")
    query = anndata.read_h5ad(data / "pbmc8k_labelled.h5ad")
    rows = np.random.default_rng(SEED).choice(query.n_obs, QUERY_CELLS, replace=False)
    files = {"pbmc3k.h5ad": reference, f"pbmc8k_{QUERY_CELLS}.h5ad": query[np.sort(rows)].copy()}
    with tempfile.TemporaryDirectory() as folder:
        for name, cells in files.items():
            cells.write_h5ad(Path(folder, name))
        return {name: Path(folder, name).read_bytes() for name in files}


def _site() -> dict[str, bytes]:
    """Return the files of the packages that the machine lacks, as pip would install them.

    Unpacked and packed by LZMA they take half of what the wheels do; tests stay behind.
    """
    versions = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    wanted = [f"{name}=={versions[name]}" for name in PACKAGES.split()]
    platforms = [f"--platform=manylinux{glibc}_x86_64" for glibc in GLIBC]
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--quiet", "--no-deps"]
        target = ["--only-binary=:all:", "--python-version=3.12", "--implementation=cp"]
        subprocess.run([*pip, *target, *platforms, "-d", folder, *wanted], check=True)
        for wheel in sorted(Path(folder).glob("*.whl")):
            with zipfile.ZipFile(wheel) as packed:
                names = [name for name in packed.namelist() if "tests" not in Path(name).parts]
                files |= {name: packed.read(name) for name in names if not name.endswith("/")}
    return files


def _write_archive(archive: Path, members: Mapping[str, bytes]) -> None:
    with (
        lzma.open(archive, "wb", filters=FILTERS) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def _read_archive(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]


def _below(members: Mapping[str, bytes], front: str) -> dict[str, bytes]:
    return {
        name.removeprefix(front): content
        for name, content in members.items()
        if name.startswith(front)
    }


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _compare(out: Path, runs: Mapping[str, Path], tokens: Mapping[str, Path]) -> None:
    """Unpack and make sure that tokens and vocabulary are what they were, byte for byte."""
    with tempfile.TemporaryDirectory() as folder:
        unpack(out / "encoder.tar.xz", Path(folder))
        for name, run in runs.items():
            restored = Path(folder, name)
            pairs = [(path, tokens[name] / path.name) for path in (restored / "tokens").iterdir()]
            pairs.append((restored / "vocabulary.tsv", run / "results/vocabulary.tsv"))
            for path, original in pairs:
                if sha256_of(path) != sha256_of(original):
                    raise SystemExit(f"{path.name} of {name} is not {original} after unpacking.")
            print(f"{name}: {len(pairs)} files are the same after unpacking")


def _print_sizes(out: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    total = sum(sizes.values())
    print("| file | bytes |\n|---|---:|")
    print("\n".join(f"| {name} | {size:,} |" for name, size in (sizes | {"all": total}).items()))
    if total > LIMIT or max(sizes.values()) > LARGEST:
        raise SystemExit(f"At most {LIMIT:,} bytes travel, {LARGEST:,} in one file. Carry less.")


def _arguments(words: Iterable[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    packing, unpacking = commands.add_parser("pack"), commands.add_parser("unpack")
    for name in ("whole", "part", "gene2vec200", "data"):
        packing.add_argument(f"--{name}", type=Path, required=name in {"whole", "data"})
    packing.add_argument("--out", type=Path, default=ROOT / ".carry")
    unpacking.add_argument("carried", type=Path)
    unpacking.add_argument("folder", type=Path)
    return parser.parse_args(words)


if __name__ == "__main__":
    chosen = _arguments()
    if chosen.command == "pack":
        pack(chosen)
    else:
        for file in ("encoder.tar.xz", "data.tar.xz"):
            unpack(chosen.carried / file, chosen.folder)
