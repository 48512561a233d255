"""Objects of a file that R's save() wrote: parsed by `rdata`, and only parsed.

R Internals, "Serialization Formats". The file comes from the network, so nothing in it is trusted:
what could hold code is refused by its type before it is read, no class is constructed, and no
number that the file declares reserves memory before the bytes behind it are there.
"""

import bz2
import lzma
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from rdata.parser import DEFAULT_ALTREP_MAP, CharFlags, RObject
from rdata.parser import RObjectType as Type
from rdata.parser._parser import (  # private; the version is pinned
    Parser,
    parse_r_object_info,
)

DATA = {  # closures, environments, promises, calls, byte code and external pointers are not
    *(Type.NIL, Type.NILVALUE, Type.REF, Type.SYM, Type.CHAR, Type.LIST, Type.VEC, Type.S4),
    *(Type.LGL, Type.INT, Type.REAL, Type.STR, Type.ALTREP),
}
WRAPPED = {  # R >= 3.6 wraps vectors; sequences are left out: two numbers would make 2^31 of them
    name: make for name, make in DEFAULT_ALTREP_MAP.items() if name.startswith(b"wrap_")
}
HEADERS = (b"RDX2\nX\n", b"RDX3\nX\n")
MAX_OBJECTS = 10_000  # each takes some 500 bytes here, 4 in the file; a sample has about 30
MAX_STRINGS = 4_000_000  # a sample has one per gene and one per cell
CHAR, LATIN1 = Type.CHAR.value, CharFlags.LATIN1.value << 12  # of the flags of a string
STRING_HEAD = struct.Struct(">ii")
XZ_MEMORY = 1 << 28  # bytes; xz -9 needs 65 MB


def read_objects(path: Path, max_bytes: int) -> dict[str, RObject]:
    """Read the objects of a file, by name.

    Parameters
    ----------
    max_bytes
        The file may not be larger once decompressed; no more than that is decompressed.

    Raises
    ------
    ValueError
        If it is not a complete file of save(), is too large, or holds anything but data.
    """
    try:
        content = _decompress(path, max_bytes)
        if not content.startswith(HEADERS):
            raise ValueError(f"it starts with {content[:7]!r}, not with {HEADERS[1]!r}")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # rdata warns of what no R writes
            parser = _DataParser(content, len(HEADERS[0]))
            parsed = parser.parse_all()
            parser.check_complete()
            return fields(parsed.object)
    except Exception as error:  # a damaged file can make the parser fail in any way
        raise ValueError(
            f"{path} cannot be read as an R file ({error or type(error).__name__}). "
            "Download it again."
        ) from error


def fields(pairs: RObject | None) -> dict[str, RObject]:
    """Return the values of a pairlist by their names, such as the slots of an S4 object."""
    found = {}
    while pairs is not None and pairs.info.type is Type.LIST:
        value, rest = pairs.value
        symbol = pairs.tag.referenced_object or pairs.tag
        found[symbol.value.value.decode()] = value
        pairs = rest
    return found


def _decompress(path: Path, max_bytes: int) -> bytes:
    size = path.stat().st_size
    content = path.read_bytes() if size <= max_bytes else b""
    stream: Any = None
    if content.startswith(b"\x1f\x8b"):
        stream = isal_zlib.decompressobj(wbits=31)  # three times as fast as zlib
    elif content.startswith(b"BZh"):
        stream = bz2.BZ2Decompressor()
    elif content.startswith(b"\xfd7zXZ\x00"):
        stream = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
    data = stream.decompress(content, max_bytes + 1) if stream else content
    if size > max_bytes or len(data) > max_bytes:
        raise ValueError(
            f"decompressed it is larger than {max_bytes / 1e9:g} GB, the largest that "
            "counts.max_rdata_gb allows"
        )
    if stream and (not stream.eof or stream.unused_data):
        raise ValueError("its compressed data end " + ("early" if not stream.eof else "too soon"))
    return data


class _DataParser(Parser):
    """rdata's parser, on bytes in memory, for data alone."""

    def __init__(self, content: bytes, start: int) -> None:
        super().__init__(altrep_constructor_dict=WRAPPED)
        self.content, self.at = content, start
        self.objects = self.strings = 0

    def _take(self, n_bytes: int) -> int:
        """Pass over bytes that must be there; return where they begin."""
        start = self.at
        if not 0 <= n_bytes <= len(self.content) - start:
            raise ValueError(f"{n_bytes} bytes are declared, {len(self.content) - start} are left")
        self.at += n_bytes
        return start

    def _parse_array_values(self, dtype: Any, length: int) -> np.ndarray:
        native = np.dtype(dtype)
        start = self._take(length * native.itemsize)
        return np.frombuffer(
            self.content, native.newbyteorder(">"), count=length, offset=start
        ).astype(native)

    def parse_string(self, length: int) -> bytes:
        start = self._take(length)
        return self.content[start : self.at]

    def check_complete(self) -> None:
        if self.at != len(self.content):
            raise ValueError(f"{len(self.content) - self.at} bytes follow its last object")

    def parse_R_object(self, *lists: Any, **more: Any) -> RObject:
        kind = Type(self._peek(0) & 0xFF)
        if kind not in DATA:
            raise ValueError(f"it holds an object of type {kind.name}, which is not data")
        self.objects += 1
        if self.objects > MAX_OBJECTS:
            raise ValueError(f"it holds more than {MAX_OBJECTS:,} objects")
        if kind is Type.VEC:
            self._require_items(self._peek(4), MAX_OBJECTS - self.objects)
        if kind is Type.STR:
            return self._parse_strings(*lists)
        return super().parse_R_object(*lists, **more)

    def _peek(self, offset: int) -> int:
        return int.from_bytes(self.content[self.at + offset : self.at + offset + 4])

    def _require_items(self, n: int, limit: int) -> None:
        if n > limit:
            raise ValueError(f"{n:,} elements are declared, {limit:,} are allowed")

    def _parse_strings(self, *lists: Any) -> RObject:
        """Parse a vector of strings into a list of str: one object instead of one for each."""
        info = parse_r_object_info(self.parse_int())
        n, content, at = self.parse_int(), self.content, self.at
        self._require_items(n, MAX_STRINGS - self.strings)
        self.strings += n
        values = []
        for _ in range(n):
            flags, length = STRING_HEAD.unpack_from(content, at)
            end = at + 8 + max(length, 0)
            if flags & 0xFF != CHAR or length < -1 or end > len(content):
                raise ValueError("a string is damaged")
            text = content[at + 8 : end]
            if b"\0" in text:  # R has none, and .h5ad cannot hold it
                raise ValueError("a string holds a zero byte")
            values.append(text.decode("latin-1" if flags & LATIN1 else "utf-8"))
            at = end
        self.at = at
        attributes = self.parse_R_object(*lists) if info.attributes else None
        return RObject(info, values, attributes)
