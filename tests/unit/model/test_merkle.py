"""The Merkle tree and the notes, by the vectors of those who made them up."""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from groundplane.model import notes
from groundplane.model.merkle import Tree, leaf_hash

# Of the reference implementation of RFC 6962 (certificate-transparency, merkletree tests).
ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_the_roots_of_the_reference() -> None:
    tree = Tree()
    assert tree.root() == sha256().digest()
    for entry, root in zip(ENTRIES, ROOTS, strict=True):
        tree.add(leaf_hash(entry))
        assert tree.root().hex() == root


def by_the_rfc(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1, word for word."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    half = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\1" + by_the_rfc(leaves[:half]) + by_the_rfc(leaves[half:])).digest()


@given(st.lists(st.binary(max_size=8), max_size=70), st.integers(0, 70))
def test_any_tree_is_that_of_the_rfc_also_when_it_was_put_away_meanwhile(leaves: list[bytes], pause: int) -> None:
    tree = Tree()
    for number, leaf in enumerate(leaves):
        if number == pause:
            tree = Tree(tree.size, tree.peaks)
        tree.add(leaf_hash(leaf))
    assert (tree.size, tree.root()) == (len(leaves), by_the_rfc(leaves))


def test_a_state_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="3 entries has 2 peaks"):
        Tree(3, b"\0" * 32)


# The example of C2SP's signed-note, which is that of Go's package note.
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="


def test_keys_and_signatures_are_those_of_c2sp() -> None:
    public = b64decode(KEY.split("+", 2)[2])[1:]
    assert notes.verifier_key("PeterNeumann", public) == KEY
    raw = b64decode(SIGNATURE)
    assert raw[:4] == notes.key_id("PeterNeumann", public)
    Ed25519PublicKey.from_public_bytes(public).verify(raw[4:], TEXT.encode())


SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"


def test_a_private_key_is_that_of_c2sps_tools() -> None:
    seed = notes.seed(SIGNER)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = key.public_key().public_bytes_raw()
    assert notes.verifier_key("PeterNeumann", public) == KEY
    assert notes.signer_key("PeterNeumann", public, seed) == SIGNER
    assert key.sign(TEXT.encode()) == b64decode(SIGNATURE)[4:]
    for wrong in ("", KEY, SIGNER[:-4], SIGNER[1:]):
        with pytest.raises(ValueError, match="PRIVATE"):
            notes.seed(wrong)


def test_a_checkpoint_comes_back() -> None:
    signed = notes.body("groundplane/x", 17, b"r" * 32)
    made = notes.Checkpoint("groundplane/x", 17, b"r" * 32, signed, (("groundplane/x", b"1234", b"s" * 64),))
    assert notes.parse(made.note) == made
    assert made.note.startswith("groundplane/x\n17\ncnJycnJy")
    assert "\n\n— groundplane/x MTIzNHNz" in made.note and made.note.endswith("\n")


ROOT = "cnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI="


@pytest.mark.parametrize(
    ("note", "wrong"),
    [
        ("", "no signed note"),
        ("a\n1\n", "no signed note"),
        ("a\n\n— a MTIzNHNz\n", "no checkpoint"),
        (f"a\n01\n{ROOT}\n\n— a MTIzNHNz\n", "no number"),
        (f"a\n-1\n{ROOT}\n\n— a MTIzNHNz\n", "no number"),
        ("a\n1\ncnJy\n\n— a MTIzNHNz\n", "no hash"),
        (f"a\n1\n{ROOT}\n\n- a MTIzNHNz\n", "no signature"),
        (f"a\n1\n{ROOT}\n\n— a MTIzNHNz", "no end"),
    ],
)
def test_what_is_no_checkpoint_is_told(note: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        notes.parse(note)
