"""A 10x folder (matrix, barcodes, genes) out of an archive that nobody vouches for."""

import shutil
import tarfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

from scbert.files import DAMAGE, open_decompressed

PARTS = {
    "matrix": ("matrix.mtx.gz", "matrix.mtx"),
    "barcodes": ("barcodes.tsv.gz", "barcodes.tsv"),
    "genes": ("features.tsv.gz", "features.tsv", "genes.tsv.gz", "genes.tsv"),
}
NAMES = {name: part for part, names in PARTS.items() for name in names}


def require_matrix_market(path: Path) -> None:
    """Refuse what is not a Matrix Market file, compressed or not."""
    with open_decompressed(path) as handle:
        start = handle.read(14)
    if start != b"%%MatrixMarket":
        raise ValueError(f"it is not a Matrix Market file (it starts with {start!r})")


def unpack_mtx(archive: Path, folder: Path, max_bytes: float) -> None:
    """Take the three files of a 10x folder out of a tar archive, and nothing else.

    The names in the archive decide nothing about where files are written.

    Parameters
    ----------
    folder
        Made here; gets the files under their own names.
    max_bytes
        Of the three files together.

    Raises
    ------
    ValueError
        If the archive is damaged, names places outside itself, holds links or devices by those
        names, or not exactly one such folder, or too much.
    """
    try:
        with tarfile.open(archive) as tar:
            members = _choose(tar)
            size = sum(member.size for member in members.values())
            if size > max_bytes:
                raise ValueError(
                    f"its matrix is {size} bytes, more than download.max_gb ({max_bytes / 1e9:g})"
                )
            folder.mkdir()
            for name, member in members.items():
                content = tar.extractfile(member)
                assert content is not None  # it is a regular file
                with content, (folder / name).open("wb") as handle:
                    shutil.copyfileobj(content, handle)
    except (tarfile.TarError, *DAMAGE) as error:
        raise ValueError(f"it cannot be unpacked ({error})") from error


def _choose(tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    folders: dict[PurePosixPath, dict[str, tarfile.TarInfo]] = defaultdict(dict)
    for member in tar:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"it names a place outside itself: {member.name}")
        tarfile.data_filter(member, "/nowhere")  # refuses devices, and links that lead outside
        if path.name in NAMES:
            if not member.isreg():
                raise ValueError(
                    f"{member.name} in it is not a regular file but a link or a folder"
                )
            folders[path.parent][path.name] = member
    whole = {path: files for path, files in folders.items() if _is_complete(files)}
    if len(whole) != 1:
        raise ValueError(
            f"it holds {len(whole)} folders with exactly one matrix, one list of barcodes and one "
            f"of genes ({', '.join(sorted(map(str, whole))) or 'none'}), but one is needed. Unpack "
            "it and name the folder in the table instead"
        )
    return next(iter(whole.values()))


def _is_complete(files: dict[str, tarfile.TarInfo]) -> bool:
    return sorted(NAMES[name] for name in files) == sorted(PARTS)
