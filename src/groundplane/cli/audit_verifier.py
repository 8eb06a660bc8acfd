#!/usr/bin/env python3
"""Verifies an exported audit log of Groundplane against checkpoints that were kept elsewhere.

    python audit_verifier.py --checkpoint C [--checkpoint D …] --key VKEY LOG.jsonl

Exit code 0: the log is the one that was signed. 1: it is not, or a checkpoint is not signed by that key; what was found
stands on standard error. 2: wrong usage, a file that cannot be read.

This file needs Python (3.11 or newer was tried) and the package `cryptography`, and nothing of Groundplane: read it, it
is short.

How it works
------------
LOG.jsonl (`ground audit export`) has one event a line, in the order of the log. A line without its newline is an
*entry*. The entries are the leaves of a Merkle tree as RFC 6962 §2.1 defines it:

    leaf hash   SHA-256(0x00 || entry)
    node hash   SHA-256(0x01 || left || right)

so one hash, the *root*, stands for all entries and their order. A checkpoint (https://c2sp.org/tlog-checkpoint) says
which root the log had at which size:

    groundplane/0123456789abcdef            origin: the name of the log
    17                                      size: number of entries
    qINS1GRFLKM3tY0Gm3PBU0pXQYbPl+1sZ…=     root, base64
                                            an empty line
    — groundplane/0123456789abcdef Zm9v…    signature (https://c2sp.org/signed-note)

This program hashes every line again and compares the root at the size of each checkpoint. An event that was edited,
deleted, inserted or moved, anywhere below that size, gives another root. A root tells that, and not which event it was:
that lies between the largest checkpoint that agrees and the smallest that does not, so more checkpoints tell it more
closely. Events behind the last checkpoint are covered by none: take a newer checkpoint to have them covered.

Two kinds of lines are not entries themselves:

    {"revealed":{…},"action":…      written by `--reveal`: without its first member it is the entry
    {"leaf_hash":"BASE64"}          the event's content was dropped by retention, only its leaf hash is kept; such lines
                                    may stand at the beginning of the log alone, and are counted aloud
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ED25519 = b"\x01"  # the signature type in C2SP's verifier keys
HASH_BYTES, ID_BYTES, KEY_BYTES, SIGNATURE_BYTES = 32, 4, 32, 64
REVEALED = b'{"revealed":'
DROPPED = b'{"leaf_hash":"'


class Wrong(Exception):
    """What was found."""


# --- the key ----------------------------------------------------------------------------------------------------------


class Key:
    """A C2SP verifier key: NAME+ID+BASE64, ID being 4 bytes in hex."""

    def __init__(self, text: str) -> None:
        parts = text.strip().split("+", 2)
        if len(parts) != 3:
            raise Wrong("the key is not of the form NAME+HEX+BASE64")
        self.name, shown, encoded = parts
        raw = decoded(encoded)
        if raw[:1] != ED25519 or len(raw) != 1 + KEY_BYTES:
            raise Wrong("the key is no Ed25519 key")
        self.id = hashlib.sha256(self.name.encode() + b"\n" + raw).digest()[:ID_BYTES]
        if shown != self.id.hex():
            raise Wrong("the key is damaged: its name, its 4 bytes and its base64 do not belong together")
        self.public = Ed25519PublicKey.from_public_bytes(raw[1:])

    def verifies(self, signature: bytes, text: bytes) -> bool:
        try:
            self.public.verify(signature, text)
        except InvalidSignature:
            return False
        return True


# --- checkpoints ------------------------------------------------------------------------------------------------------


class Checkpoint:
    """A signed head of the log: size and root. Raises Wrong when it is not of that log and signed by that key."""

    def __init__(self, where: str, note: str, key: Key) -> None:
        self.where = where
        text, blank, tail = note.rpartition("\n\n")
        lines = text.split("\n")
        if not blank or len(lines) < 3:
            raise Wrong(f"{where} is no checkpoint")
        origin, size, root = lines[:3]
        if origin != key.name:
            raise Wrong(f"{where} is of another log: its origin is {origin}, that of the key {key.name}")
        if not (size.isascii() and size.isdigit()) or str(int(size)) != size:
            raise Wrong(f"{where}: {size!r} is no size")
        self.size, self.root = int(size), decoded(root)
        if len(self.root) != HASH_BYTES:
            raise Wrong(f"{where}: {root!r} is no root")
        signed = (text + "\n").encode()
        if not any(key.verifies(each, signed) for each in signatures(tail, key)):
            raise Wrong(f"{where} is not signed by the key {key.name}+{key.id.hex()}")


def signatures(tail: str, key: Key) -> Iterator[bytes]:
    """Those that say they are the key's: lines `— NAME BASE64`, of the key's 4 bytes and the signature itself."""
    for line in tail.split("\n"):
        parts = line.split(" ")
        if len(parts) == 3 and parts[0] == "\u2014" and parts[1] == key.name:
            raw = decoded(parts[2])
            if raw[:ID_BYTES] == key.id and len(raw) == ID_BYTES + SIGNATURE_BYTES:
                yield raw[ID_BYTES:]


# --- the tree ---------------------------------------------------------------------------------------------------------


class Tree:
    """A Merkle tree that grows. `peaks` are the roots of its full subtrees, from the largest (left) to the smallest."""

    def __init__(self) -> None:
        self.size = 0
        self.peaks: list[bytes] = []

    def add(self, leaf_hash: bytes) -> None:
        node, size = leaf_hash, self.size
        while size % 2:  # as many full subtrees of equal size join as the size, in binary, ends with ones
            node = hashlib.sha256(b"\x01" + self.peaks.pop() + node).digest()
            size //= 2
        self.peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        if not self.peaks:
            return hashlib.sha256(b"").digest()
        node = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            node = hashlib.sha256(b"\x01" + peak + node).digest()
        return node


# --- the log ----------------------------------------------------------------------------------------------------------


def leaf_hash(line: bytes, number: int) -> tuple[bytes, bool]:
    """The leaf hash of a line, and whether only the hash was there."""
    if line.startswith(DROPPED):
        raw = decoded(line[len(DROPPED) : -2].decode("ascii", "replace"))
        if not line.endswith(b'"}') or len(raw) != HASH_BYTES:
            raise Wrong(f"event {number}: its line is no leaf hash")
        return raw, True
    if line.startswith(REVEALED):
        line = entry_of(line, number)
    return hashlib.sha256(b"\x00" + line).digest(), False


def entry_of(line: bytes, number: int) -> bytes:
    """A line of `--reveal` without its first member, which is the readable copy."""
    try:
        text = line.decode("utf-8")
        _, end = json.JSONDecoder().raw_decode(text, len(REVEALED))
    except ValueError:
        raise Wrong(f"event {number}: its line is no JSON") from None
    return b"{" + text[end + 1 :].encode("utf-8")


def identity(line: bytes) -> str:
    """The event's id, to name it by."""
    try:
        return json.loads(line)["id"]
    except (ValueError, KeyError, TypeError):
        return "of no id"


def walk(path: str, checkpoints: list[Checkpoint], tell: Callable[[str], object]) -> tuple[int, int]:
    """Hashes the whole log; raises Wrong at the first checkpoint that it differs from. Gives size and dropped count."""
    tree, dropped, agreed = Tree(), 0, 0
    pending = sorted(checkpoints, key=lambda each: each.size)
    first = b""  # the line behind the last checkpoint that agreed: what differs lies there or later

    def compare() -> None:
        nonlocal agreed, first
        while pending and pending[0].size == tree.size:
            each = pending.pop(0)
            if tree.root() != each.root:
                raise Wrong(differing(each, agreed, identity(first)))
            agreed, first = each.size, b""
            tell(f"size {each.size}: as {each.where} says")

    compare()
    with Path(path).open("rb") as log:
        for line in log:
            if line.endswith(b"\n"):
                line = line[:-1]
            if tree.size == agreed:
                first = line
            hashed, bare = leaf_hash(line, tree.size)
            if bare:
                if dropped != tree.size:
                    raise Wrong(f"event {tree.size} has lost its content, and the one before it has not")
                dropped += 1
            tree.add(hashed)
            if pending and pending[0].size == tree.size:
                compare()
    if pending:
        raise Wrong(missing(pending[0], agreed, tree.size))
    return tree.size, dropped


def differing(checkpoint: Checkpoint, agreed: int, first: str) -> str:
    """What is known of a log that has another root than the checkpoint. agreed: the size up to which it is as another
    one says, 0 for none. first: the id of the event behind."""
    size, where = checkpoint.size, checkpoint.where
    if size == 0:
        return f"{where} was signed over no events, and its root is not that of an empty log"
    told = f"the first {size} events are not those of {where}"
    told += f": the first {agreed} are as signed, and " if agreed else ": "
    if size == agreed + 1:
        return told + f"event {agreed} ({first}) is not the one that was signed"
    return (
        f"{told}at least one was changed, inserted, deleted or moved somewhere from event {agreed} ({first}) to event "
        f"{size - 1}. Checkpoints of sizes between {agreed} and {size} tell where more closely; `ground audit verify` "
        f"on the server names the event, if the server's log was changed and not this file alone"
    )


def missing(checkpoint: Checkpoint, agreed: int, size: int) -> str:
    """What is known of a log that is shorter than the checkpoint."""
    told = f"the log has {size} events, and {checkpoint.where} was signed over {checkpoint.size}: "
    if agreed == size:
        return told + f"all that follow are missing, events {size} to {checkpoint.size - 1}"
    return told + f"{checkpoint.size - size} are missing, at its end or anywhere from event {agreed} on"


def two_roots(checkpoints: list[Checkpoint]) -> None:
    """No honest log signs two roots at one size."""
    seen: dict[int, Checkpoint] = {}
    for each in checkpoints:
        other = seen.setdefault(each.size, each)
        if other.root != each.root:
            raise Wrong(f"two roots were signed at size {each.size}: {other.where} and {each.where}")


# --- the command ------------------------------------------------------------------------------------------------------


def decoded(text: str) -> bytes:
    """Base64; empty when it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def main() -> int:
    parser = argparse.ArgumentParser(description="Verifies an exported audit log against signed checkpoints.")
    parser.add_argument("log", metavar="LOG.jsonl", help="what `ground audit export` wrote")
    parser.add_argument("--checkpoint", action="append", required=True, help="a checkpoint kept elsewhere; repeatable")
    parser.add_argument("--key", required=True, help="the verifier key, as `ground audit key` printed it")
    options = parser.parse_args()

    def tell(text: str) -> None:
        sys.stdout.write(text + "\n")

    try:
        key = Key(options.key)
        checkpoints: list[Checkpoint] = []
        for path in options.checkpoint:
            with Path(path).open(encoding="utf-8", errors="replace", newline="") as file:
                checkpoints.append(Checkpoint(path, file.read(), key))
        two_roots(checkpoints)
        size, dropped = walk(options.log, checkpoints, tell)
    except Wrong as wrong:
        sys.stderr.write(f"NOT VERIFIED: {wrong}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    covered = max(each.size for each in checkpoints)
    if dropped:
        tell(f"of the first {dropped} events only the hashes are there: their content was dropped")
    if size > covered:
        tell(f"the last {size - covered} events are newer than every checkpoint: nothing vouches for them")
    tell(f"VERIFIED: {covered} events are those that were signed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
