"""Damage that knows a format: where its numbers, names and checksums are."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from scbert.files import checksum_line, sha256_of
from scbert.training.bundle_files import MANIFEST, write_manifest
from tests.faults.damage import (
    EXECUTED,
    Rng,
    change_json,
    change_safetensors,
    change_table,
    change_tree,
    damage_bytes,
    odd,
    one_of,
    replace_file,
)

SIGNED_AGAIN = "; checksums made anew"
YAML_TRICKS = (
    f"device: !!python/object/apply:os.mkdir [{EXECUTED}]\n",
    "a: &a [x, x]\n" + "".join(f"a{n}: &a{n} [*a, *a]\n" for n in range(30)),
    "a: &a\n  b: *a\n",
    "- 1\n- 2\n",
    "device: [\n",
    "\t: x\n",
    "",
)
R_TYPES = (3, 4, 5, 6, 7, 8, 17, 18, 20, 21, 22, 23, 24, 238, 239, 240, 242, 243, 247, 251, 253)
R_NUMBERS = (-1, 0, 1, 2**31 - 1, -(2**31), 2**20, 255)


def hurt_yaml(path: Path, rng: Rng) -> str:
    """Damage a configuration: mostly one or two of its values."""

    def change(path: Path, rng: Rng) -> str:
        tree = yaml.safe_load(path.read_text())
        what = ", ".join(change_tree(tree, rng) for _ in range(rng.integers(1, 3)))
        path.write_text(yaml.safe_dump(tree))
        return what

    def trick(path: Path, rng: Rng) -> str:
        number = int(rng.integers(len(YAML_TRICKS)))
        path.write_text(YAML_TRICKS[number])
        return f"YAML trick {number}"

    ways = (0.75, change), (0.15, damage_bytes), (0.05, trick), (0.05, replace_file)
    return one_of(rng, *ways)(path, rng)


def hurt_table(path: Path, rng: Rng) -> str:
    """Damage a table."""
    return one_of(rng, (0.75, change_table), (0.2, damage_bytes), (0.05, replace_file))(path, rng)


def hurt_rdata(path: Path, rng: Rng) -> str:
    """Damage an R file: types, numbers and bytes of what is inside, which nothing checks."""

    def put(path: Path, numbers: tuple[int, ...], what: str) -> str:
        content = bytearray(path.read_bytes())
        place = 4 * int(rng.integers(len(content) // 4)) + int(rng.integers(4))
        value = numbers[rng.integers(len(numbers))]
        content[place : place + 4] = struct.pack(">i", value)
        path.write_bytes(content[: 2**20])
        return f"{what} {value} at byte {place}"

    def number(path: Path, rng: Rng) -> str:
        return put(path, R_NUMBERS, "number")

    def kind(path: Path, rng: Rng) -> str:
        return put(path, R_TYPES, "object type")

    ways = (0.35, damage_bytes), (0.3, number), (0.3, kind), (0.05, replace_file)
    return one_of(rng, *ways)(path, rng)


def hurt_h5ad(path: Path, rng: Rng) -> str:
    """Damage an AnnData in HDF5: mostly by what HDF5 itself finds right."""

    def change(path: Path, rng: Rng) -> str:
        with h5py.File(path, "r+") as file:
            places: list[str] = []
            file.visit(places.append)
            place = places[rng.integers(len(places))]
            return f"{place}: {_change_hdf5(file, place, rng)}"

    ways = (0.8, change), (0.15, damage_bytes), (0.05, replace_file)
    return one_of(rng, *ways)(path, rng)


def _change_hdf5(file: h5py.File, place: str, rng: Rng) -> str:
    found = file[place]
    ways = [_other_attribute, _other_attribute, _no_attribute, _gone, _link, _other_kind]
    if isinstance(found, h5py.Dataset):
        ways += [_other_values, _other_values, _other_shape, _huge, _other_type]
    return ways[rng.integers(len(ways))](file, place, rng)


def _other_attribute(file: h5py.File, place: str, rng: Rng) -> str:
    attributes = file[place].attrs
    names = [*attributes] or ["encoding-type"]
    name = names[rng.integers(len(names))]
    kinds = ("csr_matrix", "csc_matrix", "array", "dataframe", "dict", "categorical", "anndata")
    value = odd(rng) if rng.random() < 0.5 else kinds[rng.integers(len(kinds))]
    if name == "shape":
        value = [(-1, 5), (2**40, 2**40), (12,), (0, 0), (12, 80, 1), (80, 12)][rng.integers(6)]
    try:
        attributes[name] = value
    except (TypeError, ValueError, OverflowError, OSError):
        attributes[name] = str(value)[:1000].replace("\0", "")
    return f"{name} = {str(value)[:30]!r}"


def _no_attribute(file: h5py.File, place: str, rng: Rng) -> str:
    names = [*file[place].attrs]
    if not names:
        return _gone(file, place, rng)
    name = names[rng.integers(len(names))]
    del file[place].attrs[name]
    return f"no {name}"


def _gone(file: h5py.File, place: str, _: Rng) -> str:
    del file[place]
    return "gone"


def _link(file: h5py.File, place: str, rng: Rng) -> str:
    del file[place]
    links = (
        h5py.SoftLink("/nowhere"),
        h5py.SoftLink(f"/{place}"),
        h5py.SoftLink("/"),
        h5py.ExternalLink("/etc/passwd", "/"),
        h5py.ExternalLink("../cells.h5ad", "/X"),
    )
    number = int(rng.integers(len(links)))
    file[place] = links[number]
    return f"link {number}"


def _other_kind(file: h5py.File, place: str, _: Rng) -> str:
    group = isinstance(file[place], h5py.Group)
    del file[place]
    if group:
        file[place] = np.arange(12.0)
    else:
        file.create_group(place)
    return "an array" if group else "a group"


def _replace(file: h5py.File, place: str, values: Any) -> None:
    attributes = dict(file[place].attrs)
    del file[place]
    made = file.create_dataset(place, data=values)
    for name, value in attributes.items():
        made.attrs[name] = value


def _other_values(file: h5py.File, place: str, rng: Rng) -> str:
    values = file[place][()]
    if not isinstance(values, np.ndarray) or not values.size:
        _replace(file, place, 7)
        return "7"
    number = int(rng.integers(values.size))
    if values.dtype == object:
        text = ("", "A" * 2000, "../../x", "nan", values.ravel()[0], b"\xff\xfe", "\u202e")
        value = text[rng.integers(len(text))]
    elif values.dtype.kind == "f":
        value = (np.nan, np.inf, -1.0, 1e38, 0.5, -0.0)[rng.integers(6)]
    else:
        low = (np.iinfo(values.dtype).min, np.iinfo(values.dtype).max)
        value = (*low, 0, 1, 79, 80)[rng.integers(6)] if values.dtype.kind in "iu" else 1
    values.ravel()[number] = value
    _replace(file, place, values)
    return f"value {number} = {str(value)[:30]!r}"


def _other_shape(file: h5py.File, place: str, rng: Rng) -> str:
    values = np.atleast_1d(file[place][()])
    shapes: tuple[Callable[[], Any], ...] = (
        lambda: values[:-1],
        lambda: values[None],
        lambda: values[:0],
        lambda: np.concatenate([values, values]),
        lambda: values.ravel()[0],
        lambda: values.T,
    )
    changed = shapes[rng.integers(len(shapes))]()
    _replace(file, place, changed)
    return f"shape {np.shape(changed)}"


def _huge(file: h5py.File, place: str, rng: Rng) -> str:
    """Declare far more than the file holds."""
    dtype, attributes = file[place].dtype, dict(file[place].attrs)
    size = int((10**8, 10**10, 10**13)[rng.integers(3)])
    del file[place]
    shape = (size,) if rng.random() < 0.7 else (size // 10, 10)
    made = file.create_dataset(place, shape, dtype, chunks=(min(size, 10**6), *shape[1:]))
    for name, value in attributes.items():
        made.attrs[name] = value
    return f"declares {shape}"


def _other_type(file: h5py.File, place: str, rng: Rng) -> str:
    values = np.asarray(file[place][()])
    types = ("f8", "i1", "u8", "f2", "S3", "c8", "bool", ">i4")
    name = types[rng.integers(len(types))]
    try:
        changed = values.astype(name)
    except (TypeError, ValueError):
        changed = np.zeros(values.shape, name)
    _replace(file, place, changed)
    return f"as {name}"


def hurt_zarr(path: Path, rng: Rng) -> str:
    """Damage a folder of zarr: its metadata, its chunks, its files."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    metadata = [file for file in files if file.name == "zarr.json"]
    chunks = [file for file in files if file.name != "zarr.json"]
    if rng.random() < 0.6:
        file = metadata[rng.integers(len(metadata))]
        if rng.random() < 0.3:
            return f"{_within(file, path)}: {_change_array(file, rng)}"
        return f"{_within(file, path)}: {change_json(file, rng)}"
    chosen = chunks if rng.random() < 0.7 else files
    file = chosen[rng.integers(len(chosen))]
    return (
        f"{_within(file, path)}: {one_of(rng, (0.7, damage_bytes), (0.3, replace_file))(file, rng)}"
    )


def _within(file: Path, folder: Path) -> str:
    return str(file.relative_to(folder))


def _change_array(file: Path, rng: Rng) -> str:
    content = json.loads(file.read_text())
    if not content.get("shape"):
        return change_json(file, rng)
    match rng.integers(4):
        case 0:
            size = (10**8, 10**10, 10**13, -1, 0)[rng.integers(5)]
            content["shape"][0] = size
            what = f"declares {content['shape']}"
        case 1:
            codecs = ("numcodecs.pickle", "pickle", "numcodecs.json2", "gzip", "transpose", "x")
            name = codecs[rng.integers(len(codecs))]
            content["codecs"].append({"name": name, "configuration": {}})
            what = f"codec {name}"
        case 2:
            types = ("float64", "int8", "string", "complex64", "bool", "object", "r8", "uint64")
            content["data_type"] = types[rng.integers(len(types))]
            what = f"as {content['data_type']}"
        case _:
            size = (0, -1, 10**9, 10**13)[rng.integers(4)]
            content["chunk_grid"]["configuration"]["chunk_shape"][0] = size
            what = f"chunks of {size}"
    file.write_text(json.dumps(content))
    return what


def hurt_store(path: Path, rng: Rng) -> str:
    """Damage a token store; of half of the tries the checksums are made anew."""
    files = sorted(path.iterdir())
    file = files[rng.integers(len(files))]
    signed = rng.random() < 0.5
    ways = [(0.6, damage_bytes), (0.1, replace_file)]
    if file.suffix == ".json":
        ways = [(0.9, change_json)]
    elif file.suffix in (".u16", ".u8", ".i64", ".u32"):
        ways.append((0.8, _other_number))
    elif file.suffix == ".tsv":
        ways.append((0.8, change_table))
    what = f"{file.name}: {one_of(rng, *ways)(file, rng)}"
    return what + (sign_store(path) if signed else "")


def _other_number(path: Path, rng: Rng) -> str:
    dtype = {".u16": "<u2", ".u8": "u1", ".i64": "<i8", ".u32": "<u4"}[path.suffix]
    values = np.fromfile(path, dtype)
    number = int(rng.integers(len(values)))
    limits = np.iinfo(values.dtype)
    value = (limits.min, limits.max, 0, 1, 2, 79, 80, 90, 96)[rng.integers(9)]
    values[number] = value
    values.tofile(path)
    return f"number {number} = {value}"


def sign_store(path: Path) -> str:
    """Make the checksums of a store anew, as far as its files allow."""
    meta = path / "meta.json"
    try:
        content = json.loads(meta.read_text())
        for name, one in content["files"].items():
            one.update(bytes=(path / name).stat().st_size, sha256=sha256_of(path / name))
        meta.write_text(json.dumps(content))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # what is left of it is signed
    if meta.is_file() and not (path / "meta.sha256").is_dir():
        (path / "meta.sha256").write_bytes(checksum_line(meta))
    return SIGNED_AGAIN


def hurt_bundle(path: Path, rng: Rng) -> str:
    """Damage a model; of most tries the checksums are made anew."""
    return _hurt_folder(path, rng, _sign_bundle, 0.7)


def hurt_checkpoint(path: Path, rng: Rng) -> str:
    """Damage one of the checkpoints of a run; of half of the tries the checksums are made anew."""
    steps = sorted(path.glob("step*"))
    chosen = steps[-1] if rng.random() < 0.7 else steps[rng.integers(len(steps))]
    if rng.random() < 0.05:
        lock = path / "holder.json"
        lock.write_text("{}" if rng.random() < 0.5 else '{"host": 1, "process": [], "since": null}')
        return f"{lock.name} of nobody"
    return f"{chosen.name}/{_hurt_folder(chosen, rng, _sign_checkpoint, 0.5)}"


def _hurt_folder(path: Path, rng: Rng, sign: Callable[[Path], None], share: float) -> str:
    files = sorted(path.iterdir())
    file = files[rng.integers(len(files))]
    ways: list[tuple[float, Callable[[Path, Rng], str]]] = [
        (0.2, damage_bytes),
        (0.05, replace_file),
    ]
    if file.suffix == ".json":
        ways.append((0.75, change_json))
    elif file.suffix == ".safetensors":
        ways.append((0.75, change_safetensors))
    elif file.suffix == ".tsv":
        ways.append((0.75, change_table))
    signed = rng.random() < share
    what = f"{file.name}: {one_of(rng, *ways)(file, rng)}"
    if signed:
        sign(path)
        what += SIGNED_AGAIN
    return what


def _sign_bundle(path: Path) -> None:
    if all(file.is_file() for file in path.iterdir()):
        (path / MANIFEST).unlink(missing_ok=True)
        write_manifest(path)


def _sign_checkpoint(path: Path) -> None:
    files = [file for file in path.iterdir() if file.name != "manifest.json" and file.is_file()]
    sums = {file.name: sha256_of(file) for file in files}
    if not (path / "manifest.json").is_dir():
        (path / "manifest.json").write_text(json.dumps(sums))
