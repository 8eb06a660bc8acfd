"""RFC 6962's Merkle tree, as far as it is needed to let it grow: its peaks, of which the root follows. Pure."""

from __future__ import annotations

from hashlib import sha256

HASH_BYTES = 32


def leaf_hash(entry: bytes) -> bytes:
    """The hash of an entry."""
    return sha256(b"\0" + entry).digest()


class Tree:
    """A tree that only grows. State: the roots of its full subtrees, largest first, log2(size) of them at most."""

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: bytes = b"") -> None:
        """peaks: as `peaks` gave them. Raises ValueError when there are not as many as the size needs."""
        if len(peaks) != HASH_BYTES * size.bit_count():
            raise ValueError(f"a tree of {size} entries has {size.bit_count()} peaks, not {len(peaks) / HASH_BYTES:g}")
        self.size = size
        self._peaks = [peaks[start : start + HASH_BYTES] for start in range(0, len(peaks), HASH_BYTES)]

    @property
    def peaks(self) -> bytes:
        """The state, to be kept beside the size."""
        return b"".join(self._peaks)

    def add(self, hashed: bytes) -> None:
        """One more entry, by its leaf hash."""
        size = self.size
        while size & 1:  # the last two peaks are as large as each other: they become one
            hashed = sha256(b"\1" + self._peaks.pop() + hashed).digest()
            size >>= 1
        self._peaks.append(hashed)
        self.size += 1

    def root(self) -> bytes:
        """The Merkle tree hash of what is in it."""
        if not self._peaks:
            return sha256().digest()
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = sha256(b"\1" + peak + root).digest()
        return root
