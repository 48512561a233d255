"""HDF5 files from outside: what is refused before memory is taken for what they declare."""

import importlib
import importlib.util
import shlex
from pathlib import Path
from typing import Any

import h5py
import numpy as np

MOST_PACKED = 1032  # deflate, HDF5's own compression, makes at most so many bytes of one
MOST_PACKED_EVER = 100_000  # Zstandard makes 32,768 bytes of one, no other more
LARGE = 2**28  # bytes; less can be read whatever it is
FIRST_PLUGIN = 256  # numbers below are of filters that HDF5 itself has, or may be built with
FILTERS = {  # as The HDF Group registers them
    **{307: "bzip2", 32000: "LZF", 32001: "Blosc", 32004: "LZ4", 32008: "Bitshuffle"},
    **{32013: "ZFP", 32015: "Zstandard", 32017: "SZ", 32026: "Blosc2"},
}
NAMED_MATRICES = ("layers", "obsm", "varm", "obsp", "varp")  # of an AnnData
LONGEST_NAME = 1024  # bytes; an Ensembl id has 15, Cell Ranger's barcodes have 18
BYTES_AT_ONCE = 2**28  # of names


class MissingFilter(ValueError):
    """The compression of a file cannot be undone here."""


class SlashInName(ValueError):
    """A matrix has a name under which anndata cannot read it."""


OUTSIDE = (
    "is a link into another file. Links are not followed, for safety: save all data in one file."
)
ASTRAY = "is a link that leads nowhere, so the file is damaged. Write or download it again."


def refuse_links(file: h5py.File, name: str) -> None:
    """Refuse a file that takes something from another file, which would be read, or altered.

    Raises
    ------
    ValueError
        Naming the link, or because the file is damaged.
    """
    found: list[tuple[str, str]] = []  # what is wrong, and where

    def look_at_link(place: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            found.append((OUTSIDE, place))
        elif isinstance(link, h5py.SoftLink) and not _leads_somewhere(file, place):
            found.append((ASTRAY, place))

    def look_at_data(place: str, data: Any) -> None:
        if isinstance(data, h5py.Dataset) and (data.external or data.is_virtual):
            found.append((OUTSIDE, place))

    try:
        file.visititems_links(look_at_link)
        file.visititems(look_at_data)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ValueError(f"{name} is damaged ({error}). Write or download it again.") from error
    if found:
        wrong, place = min(found)
        raise ValueError(f"'{place}' of {name} {wrong}")


def _leads_somewhere(file: h5py.File, place: str) -> bool:
    try:
        return file[place] is not None
    except (KeyError, RuntimeError):  # nothing is there, or it leads back to itself
        return False


def refuse_slashes(store: Any, name: str) -> None:
    """Refuse an AnnData with a matrix that was written under a name with a slash.

    On disk that is a group within a group, which anndata cannot read again.

    Parameters
    ----------
    store
        The group of HDF5 or zarr that holds the AnnData; that of a damaged file is let through.

    Raises
    ------
    SlashInName
        With what renames it.
    """
    for part in NAMED_MATRICES:
        held = store.get(part)
        if held is None or hasattr(held, "dtype"):  # as versions before 0.7 wrote obsm
            continue
        nested = {key: _matrices_below(held[key], key) for key in held}
        names = [place for places in nested.values() for place in places]
        if names:
            groups = [key for key, places in nested.items() if places]
            raise SlashInName(_renaming(part, names, groups, held, name))


def _matrices_below(found: Any, place: str) -> list[str]:
    """Return where the matrices are in a group that is no matrix itself."""
    if _is_matrix(found):
        return []
    inner = {f"{place}/{key}": found[key] for key in found}
    return [
        one
        for key, value in inner.items()
        for one in ([key] if _is_matrix(value) else _matrices_below(value, key))
    ]


def _is_matrix(found: Any) -> bool:
    """Whether anndata wrote it as one: an array, or a group that says what it is."""
    said = found.attrs.get("encoding-type", "dict") != "dict" or "h5sparse_format" in found.attrs
    return hasattr(found, "dtype") or said


def _renaming(part: str, names: list[str], groups: list[str], held: Any, name: str) -> str:
    new = names[0].replace("/", "|")  # as columns of probabilities are called
    text = (
        f"{part} of {name} has '{names[0]}' ({len(names)} such): anndata writes names with a "
        "slash, but cannot read them again. Rename them where the cells are in memory, "
        f"adata.{part}[{new!r}] = adata.{part}.pop({names[0]!r}), and write the file again"
    )
    if not isinstance(held, h5py.Group):
        return f"{text}."
    code = (
        f"import h5py; f = h5py.File({name!r}, 'r+')[{held.name!r}]; "
        f"[f.move(a, a.replace('/', '|')) for a in {names}]; [f.pop(a) for a in {groups}]"
    )
    return f"{text}; or in the file: python -c {shlex.quote(code)}"  # names are of the file


def require_filters(file: h5py.File, name: str) -> None:
    """Refuse a file whose compression this machine cannot undo; hdf5plugin is used if it is there.

    Raises
    ------
    MissingFilter
        Naming what is compressed, the filter, and what to install.
    """
    missing = _missing_filter(file)
    if missing and importlib.util.find_spec("hdf5plugin"):
        importlib.import_module("hdf5plugin")  # registers its filters
        missing = _missing_filter(file)
    if missing:
        place, code, label = missing
        filter_name = FILTERS.get(code) or label or "unknown"
        remedy = "Do: pip install hdf5plugin, or write" if code >= FIRST_PLUGIN else "Write"
        raise MissingFilter(
            f"'{place}' of {name} is compressed with the HDF5 filter {filter_name} ({code}), which "
            f"is not installed. {remedy} the file again with compression='gzip'."
        )


def _missing_filter(file: h5py.File) -> tuple[str, int, str] | None:
    """Return the first dataset with a filter that is not here, its number and its name."""

    def look(place: str, found: Any) -> tuple[str, int, str] | None:
        if not isinstance(found, h5py.Dataset):
            return None
        made = found.id.get_create_plist()
        for number in range(made.get_nfilters()):
            code, _, _, label = made.get_filter(number)
            if not h5py.h5z.filter_avail(code):
                return place, code, label.decode(errors="replace")
        return None

    return file.visititems(look)


def require_stored(file: h5py.File, name: str) -> None:
    """Refuse a file that declares far more than it holds: what is not there is read as zeros.

    Raises
    ------
    ValueError
        Naming the array, what it declares and what is stored of it.
    """

    def look(place: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset):
            require_plausible(place, found.nbytes, found.id.get_storage_size(), name)

    file.visititems(look)


def require_plausible(place: str, declared: int, stored: int, name: str) -> None:
    """Refuse an array of so few bytes that no compression made them of those that it declares."""
    if declared >= LARGE and declared > MOST_PACKED_EVER * stored:
        raise ValueError(
            f"'{place}' of {name} declares {declared:,} bytes, but {stored:,} are stored, so that "
            "most of it is not there. Write or download the file again."
        )


def list_in(group: h5py.Group, name: str, kinds: str) -> h5py.Dataset:
    """Return a dataset of one dimension, not read.

    Parameters
    ----------
    kinds
        What it may hold, as numpy's letters: i, u, f; S and O for names.

    Raises
    ------
    ValueError
        If it is none, holds something else, or declares more than its bytes in the file can hold.
    """
    found = group[name]
    if not isinstance(found, h5py.Dataset) or found.ndim != 1 or found.dtype.kind not in kinds:
        raise ValueError(f"'{name}' is not a list of {'names' if 'S' in kinds else 'numbers'}")
    stored = found.id.get_storage_size()
    if found.nbytes > MOST_PACKED * stored:
        raise ValueError(
            f"'{name}' declares {found.nbytes:,} bytes, but holds {stored:,}, and compression "
            f"makes one of {MOST_PACKED} at most"
        )
    return found


def read_names(names: h5py.Dataset) -> np.ndarray:
    """Read a list of names, (n,), str; no more of it at once than BYTES_AT_ONCE or one name.

    Raises
    ------
    ValueError
        If a name is too long, or is not UTF-8.
    """
    kind = h5py.check_string_dtype(names.dtype)
    if kind is None:
        raise ValueError(f"names are of type {names.dtype}, but text is needed")
    longest = kind.length or Path(names.file.filename).stat().st_size  # many may share one place
    at_once = max(1, BYTES_AT_ONCE // longest)
    found: list[str] = []
    for start in range(0, len(names), at_once):
        some = names[start : start + at_once]
        too_long = max(map(len, some))
        if too_long > LONGEST_NAME:
            raise ValueError(f"a name has {too_long} bytes, but {LONGEST_NAME} are the most")
        found += [name.decode() for name in some]
    return np.array(found, dtype=object)


def read_ends(indptr: h5py.Dataset, n: int, *n_values: int) -> np.ndarray:
    """Read where each row of a sparse matrix of n rows ends, (n + 1,), int64.

    Raises
    ------
    ValueError
        If it does not ascend from 0 to the number of values, which must be the same for all given.
    """
    ends = indptr[:].astype(np.int64) if indptr.size == n + 1 else np.zeros(0, dtype=np.int64)
    if not len(ends) or ends[0] != 0 or (np.diff(ends) < 0).any():
        raise ValueError(f"indptr must ascend from 0 and have {n + 1} numbers")
    if set(n_values) != {int(ends[-1])}:
        raise ValueError(f"indptr ends at {ends[-1]}, but there are {n_values} values and indices")
    return ends
