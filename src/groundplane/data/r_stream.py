"""R's serialisation (XDR), as saveRDS() and save() write it and readRDS() reads it.

Written from "R Internals" §1.8 ("Serialization Formats"). An own codec, because pyreadr writes moments as text, forgets
the order of factor levels and the time zone, and hands back nothing at all for a list or a model.
"""

import bz2
import gzip
import lzma
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

NA_INTEGER: Final = -(2**31)
#: R's NA among doubles is a NaN whose lower word is 1954.
_NA_REAL: Final = np.frombuffer(struct.pack(">Q", 0x7FF00000000007A2), dtype=">f8")[0]
_NA_LOW_WORD: Final = 1954

_NILVALUE, _GLOBALENV, _EMPTYENV, _BASEENV, _BASENAMESPACE = 254, 253, 242, 241, 247
_UNBOUND, _MISSINGARG, _NAMESPACE, _PACKAGE, _REFERENCE, _ALTREP = 252, 251, 249, 250, 255, 238
_SYMBOL, _PAIRLIST, _CLOSURE, _ENVIRONMENT, _PROMISE, _LANGUAGE = 1, 2, 3, 4, 5, 6
_SPECIAL, _BUILTIN, _CHARACTER, _LOGICAL, _INTEGER, _REAL, _COMPLEX, _STRING = 7, 8, 9, 10, 13, 14, 15, 16
_DOTS, _LIST, _EXPRESSION, _BYTECODE, _EXTPTR, _WEAKREF, _RAW, _S4 = 17, 19, 20, 21, 22, 23, 24, 25
_HAS_OBJECT, _HAS_ATTRIBUTES, _HAS_TAG = 0x100, 0x200, 0x400
_BYTES, _LATIN1, _UTF8, _ASCII = 0x2000, 0x4000, 0x8000, 0x40000
_PAIRED: Final = (_PAIRLIST, _LANGUAGE, _CLOSURE, _PROMISE, _DOTS)


class RStreamError(ValueError):
    """The bytes are no R object that can be read; the message says why, in a phrase."""


@dataclass(slots=True)
class RVector:
    """A vector of R: `kind` is logical, integer, double, complex, character, list, raw or expression.

    `values` is a numpy array (int32 with NA_INTEGER for logical and integer, float64 for double) or, for character and
    list, a Python list (None for NA_character_). `attributes` keep their order.
    """

    kind: str
    values: Any
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def classes(self) -> list[str]:
        """The class attribute; empty when there is none."""
        found = self.attributes.get("class")
        return list(found.values) if isinstance(found, RVector) and found.kind == "character" else []


@dataclass(slots=True)
class RPairs:
    """A pairlist or call: (tag or None, value) pairs."""

    pairs: list[tuple[str | None, Any]]


@dataclass(slots=True)
class ROther:
    """Anything that is no data: an environment, a function, a name. `what` says which, in a word."""

    what: str


def na_real() -> Any:
    """R's NA among doubles, big-endian, to be put into a `>f8` array as it is."""
    return _NA_REAL


def is_na_real(values: Any) -> Any:
    """Tell for each double whether it is NA (rather than a number or NaN)."""
    words = np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)
    return np.isnan(values) & ((words & np.uint64(0xFFFFFFFF)) == np.uint64(_NA_LOW_WORD))


def load(path: Path) -> Any:
    """Read an .rds or .rdata file: an RVector, RPairs (a workspace), ROther or None (NULL). Raises RStreamError."""
    content = _decompressed(path.read_bytes())
    for magic in (b"RDX2\n", b"RDX3\n"):
        content = content.removeprefix(magic)
    if content[:2] != b"X\n":
        if content[:2] == b"A\n" or content[:3] == b"RDA":
            raise RStreamError("it was saved as text; save it without ascii = TRUE")
        raise RStreamError("it is no R object")
    try:
        return _Reader(content).document()
    except (struct.error, IndexError, ValueError, RecursionError) as error:
        if isinstance(error, RStreamError):
            raise
        raise RStreamError(f"it is damaged or cut off ({error})") from error


def _decompressed(content: bytes) -> bytes:
    try:
        if content.startswith(b"\x1f\x8b"):
            return gzip.decompress(content)
        if content.startswith(b"BZh"):
            return bz2.decompress(content)
        if content.startswith(b"\xfd7zXZ"):
            return lzma.decompress(content)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise RStreamError(f"it is damaged or cut off ({error})") from error
    return content


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 2
        self._references: list[Any] = []
        self._native = "utf-8"

    def document(self) -> Any:
        version = self._int()
        self._at += 8
        if version == 3:
            length = self._int()
            self._native = self._take(length).decode("ascii")
        elif version != 2:
            raise RStreamError(f"it has format version {version}; 2 and 3 are read")
        return self._item()

    def _take(self, length: int) -> bytes:
        if length < 0 or self._at + length > len(self._content):
            raise RStreamError("it is damaged or cut off")
        self._at += length
        return self._content[self._at - length : self._at]

    def _int(self) -> int:
        return int.from_bytes(self._take(4), "big", signed=True)

    def _length(self) -> int:
        length = self._int()
        return length if length >= 0 else (self._int() << 32) + (self._int() & 0xFFFFFFFF)

    def _array(self, dtype: str, length: int) -> Any:
        kind = np.dtype(dtype)
        return np.frombuffer(self._take(length * kind.itemsize), dtype=kind).astype(kind.newbyteorder("="))

    def _item(self) -> Any:
        flags = self._int() & 0xFFFFFFFF
        kind = flags & 0xFF
        if kind == _NILVALUE or kind == 0:
            return None
        if kind in (_LOGICAL, _INTEGER, _REAL, _COMPLEX, _STRING, _LIST, _EXPRESSION, _RAW):
            return self._vector(kind, flags)
        if kind == _CHARACTER:
            return self._text(flags)
        if kind == _SYMBOL:
            return self._remember(ROther(f"symbol {self._item()}"))
        if kind == _REFERENCE:
            packed = flags >> 8
            return self._references[(packed or self._int()) - 1]
        if kind in _PAIRED:
            pairs = self._pairs(flags)
            return pairs if kind == _PAIRLIST else ROther("call" if kind == _LANGUAGE else "function")
        if kind == _ALTREP:
            return self._compact()
        return self._other(kind, flags)

    def _remember(self, thing: Any) -> Any:
        self._references.append(thing)
        return thing

    def _vector(self, kind: int, flags: int) -> RVector:
        length = self._length()
        if kind in (_LOGICAL, _INTEGER):
            vector = RVector("logical" if kind == _LOGICAL else "integer", self._array(">i4", length))
        elif kind == _REAL:
            vector = RVector("double", self._array(">f8", length))
        elif kind == _COMPLEX:
            vector = RVector("complex", self._array(">c16", length))
        elif kind == _RAW:
            vector = RVector("raw", self._array("u1", length))
        elif kind == _STRING:
            vector = RVector("character", [self._text(self._int()) for _ in range(length)])
        else:
            named = "list" if kind == _LIST else "expression"
            vector = RVector(named, [self._item() for _ in range(length)])
        if flags & _HAS_ATTRIBUTES:
            vector.attributes = _named(self._item())
        return vector

    def _text(self, flags: int) -> str | None:
        length = self._int()
        if length == -1:
            return None
        raw = self._take(length)
        if flags & (_UTF8 | _ASCII):
            return raw.decode("utf-8", errors="replace")
        if flags & _LATIN1:
            return raw.decode("cp1252", errors="replace")
        encoding = "latin-1" if flags & _BYTES else self._native
        try:
            return raw.decode(encoding)
        except (LookupError, UnicodeDecodeError):
            return raw.decode("latin-1")

    def _pairs(self, flags: int) -> RPairs:
        pairs: list[tuple[str | None, Any]] = []
        while True:
            if flags & _HAS_ATTRIBUTES:
                self._item()
            tag = self._item() if flags & _HAS_TAG else None
            name = tag.what.removeprefix("symbol ") if isinstance(tag, ROther) else None
            pairs.append((name, self._item()))
            flags = self._int() & 0xFFFFFFFF
            if flags & 0xFF not in _PAIRED:
                self._at -= 4
                if (rest := self._item()) is not None:
                    pairs.append((None, rest))
                return RPairs(pairs)

    def _compact(self) -> Any:
        """Read a vector that R keeps in a shorter form (1:n, numbers not yet made text, a wrapped vector)."""
        info, state, attributes = self._item(), self._item(), self._item()
        name = info.pairs[0][1].what.removeprefix("symbol ") if isinstance(info, RPairs) else ""
        if name in ("compact_intseq", "compact_realseq"):
            count, first, step = (float(value) for value in state.values)
            sequence = first + step * np.arange(int(count))
            whole = name == "compact_intseq"
            vector = RVector("integer", sequence.astype(np.int32)) if whole else RVector("double", sequence)
        elif name == "deferred_string":
            vector = _spelt(state.pairs[0][1])
        elif name.startswith("wrap_"):
            wrapped = state.values[0] if isinstance(state, RVector) else state.pairs[0][1]
            vector = RVector(wrapped.kind, wrapped.values, dict(wrapped.attributes))
        else:
            raise RStreamError(f"it holds a vector of the special form {name}")
        vector.attributes.update(_named(attributes))
        return vector

    def _other(self, kind: int, flags: int) -> Any:
        if kind == _ENVIRONMENT:
            self._int()
            place = self._remember(ROther("environment"))
            for _ in range(4):
                self._item()
            return place
        if kind in (_NAMESPACE, _PACKAGE):
            self._int()
            for _ in range(self._int()):
                self._item()
            return self._remember(ROther("namespace"))
        if kind in (_EXTPTR, _WEAKREF):
            place = self._remember(ROther("pointer"))
            for _ in range(2 if kind == _EXTPTR else 0):
                self._item()
            if flags & _HAS_ATTRIBUTES:
                self._item()
            return place
        if kind in (_GLOBALENV, _EMPTYENV, _BASEENV, _BASENAMESPACE, _UNBOUND, _MISSINGARG):
            return ROther("environment")
        if kind in (_SPECIAL, _BUILTIN):
            self._take(self._int())
            return ROther("function")
        if kind == _S4:
            if flags & _HAS_ATTRIBUTES:
                self._item()
            return ROther("S4 object")
        if kind == _BYTECODE:
            raise RStreamError("it holds a function")
        raise RStreamError(f"it holds an R object of an unknown kind ({kind})")


def _named(pairs: Any) -> dict[str, Any]:
    return {name: value for name, value in pairs.pairs if name} if isinstance(pairs, RPairs) else {}


def _spelt(vector: RVector) -> RVector:
    """Spell numbers as as.character() does, to fifteen digits."""
    if vector.kind == "integer":
        return RVector("character", [None if value == NA_INTEGER else str(value) for value in vector.values.tolist()])
    missing = is_na_real(vector.values)
    numbers = zip(vector.values.tolist(), missing.tolist(), strict=True)
    return RVector("character", [None if gone else f"{value:.15g}" for value, gone in numbers])


def save(vector: RVector, path: Path) -> None:
    """Write an .rds file, format version 2 (every R since 1.4 reads it), gzip without a time stamp."""
    writer = _Writer()
    writer.item(vector)
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=4, mtime=0) as file:
        file.write(b"X\n" + struct.pack(">iii", 2, 0x00040202, 0x00020300))
        for part in writer.parts:
            file.write(part)


class _Writer:
    _KINDS: Final = {"logical": _LOGICAL, "integer": _INTEGER, "double": _REAL, "character": _STRING, "list": _LIST}

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._symbols: dict[str, int] = {}

    def item(self, vector: RVector) -> None:
        flags = self._KINDS[vector.kind]
        if vector.attributes:
            flags |= _HAS_ATTRIBUTES | (_HAS_OBJECT if "class" in vector.attributes else 0)
        self.parts.append(struct.pack(">ii", flags, len(vector.values)))
        if vector.kind in ("logical", "integer"):
            self.parts.append(np.asarray(vector.values).astype(">i4").tobytes())
        elif vector.kind == "double":
            # A byte swap, not a cast, so that NA keeps its own bits.
            self.parts.append(np.ascontiguousarray(vector.values, dtype=np.float64).byteswap().tobytes())
        elif vector.kind == "character":
            self.parts.extend(map(_charsxp, vector.values))
        else:
            for value in vector.values:
                self.item(value)
        if vector.attributes:
            for name, value in vector.attributes.items():
                self.parts.append(struct.pack(">i", _PAIRLIST | _HAS_TAG))
                self._symbol(name)
                self.item(value)
            self.parts.append(struct.pack(">i", _NILVALUE))

    def _symbol(self, name: str) -> None:
        if known := self._symbols.get(name):
            self.parts.append(struct.pack(">i", (known << 8) | _REFERENCE))
            return
        self._symbols[name] = len(self._symbols) + 1
        self.parts.append(struct.pack(">i", _SYMBOL) + _charsxp(name))


def _charsxp(text: str | None) -> bytes:
    if text is None:
        return struct.pack(">ii", _CHARACTER, -1)
    raw = text.encode()
    return struct.pack(">ii", _CHARACTER | (_ASCII if len(raw) == len(text) else _UTF8), len(raw)) + raw
