"""Wheels: which ones of a lock fit an image, what is refused, and where they come to lie."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest

from groundplane.images import wheels
from groundplane.images.uv import Target
from groundplane.model.errors import Invalid, Unavailable
from groundplane.model.locks import Deb

TARGET = Target("3.13.5", 41, "x86_64")
LINUX = "sys_platform == 'linux'"
OLD = "python_version < '3.12'"
HEAD = 'lock-version = "1.0"\ncreated-by = "test"\n'


def deb(name: str, version: str) -> Deb:
    return Deb(name, version, "amd64", "0" * 64, 1, f"pool/{name}.deb")


def wheel(name: str, size: str = ", size = 7") -> str:
    hashes = f'hashes = {{sha256 = "{hashlib.sha256(name.encode()).hexdigest()}"}}'
    return f'{{url = "https://index.test/{name}"{size}, {hashes}}}'


def lock(*packages: str) -> str:
    return HEAD + "".join(f"[[packages]]\n{each}\n" for each in packages)


def test_the_images_python_is_told_by_its_packages() -> None:
    debs = [deb("python3", "3.13.5-1"), deb("python3.13", "3.13.7-2+deb13u1"), deb("libc6", "2.41-12")]
    assert wheels.target(debs, "amd64") == Target("3.13.7", 41, "x86_64")
    assert wheels.target([deb("python3", "3.9.2-3"), deb("libc6", "2.31-13")], "arm64") == Target(
        "3.9.2", 31, "aarch64"
    )
    with pytest.raises(Invalid, match="no python3"):
        wheels.target([deb("libc6", "2.41-12")], "amd64")


def test_what_fits_best_is_chosen_for_the_image_and_not_for_this_host() -> None:
    names = (
        "a-1-cp313-cp313-manylinux_2_41_x86_64.whl",
        "a-1-cp313-cp313-manylinux_2_42_x86_64.whl",
        "a-1-cp313-cp313-manylinux2014_x86_64.whl",
        "a-1-cp311-cp311-manylinux2014_x86_64.whl",
        "a-1-cp313-cp313-musllinux_1_2_x86_64.whl",
        "a-1-cp313-cp313-win_amd64.whl",
    )
    text = lock(f'name = "a"\nversion = "1"\nwheels = [{", ".join(map(wheel, names))}]')
    (found,) = wheels.chosen(text, TARGET, "pylock.toml")
    assert (found.file, found.size) == (names[0], 7)
    assert found.url == f"https://index.test/{names[0]}"
    (older,) = wheels.chosen(text, Target("3.13.5", 36, "x86_64"), "pylock.toml")
    assert older.file == names[2]
    with pytest.raises(Invalid, match=r"a has no wheel for Python 3\.13 on aarch64"):
        wheels.chosen(text, Target("3.13.5", 41, "aarch64"), "pylock.toml")


def test_markers_are_the_images() -> None:
    text = lock(
        f'name = "b"\nversion = "2"\nmarker = "{LINUX}"\nwheels = [{wheel("b-2-py3-none-any.whl", "")}]',
        f'name = "c"\nversion = "3"\nmarker = "{OLD}"\nwheels = [{wheel("c-3-py3-none-any.whl")}]',
    )
    (found,) = wheels.chosen(text, TARGET, "pylock.toml")
    assert (found.name, found.size) == ("b", 0)


@pytest.mark.parametrize(
    ("text", "said", "code"),
    [
        (
            lock('name = "a"\nversion = "1"\nsdist = {url = "https://index.test/a-1.tar.gz", hashes = {sha256 = "0"}}'),
            "a has no wheel for Python 3.13 on x86_64-manylinux_2_40: pylock.toml has its source alone",
            "no_wheel",
        ),
        (lock('name = "a"\ndirectory = {path = "."}'), "a comes from a folder", "unsupported_source"),
        (
            lock('name = "a"\nvcs = {type = "git", url = "https://x.test/a", commit-id = "1"}'),
            "a comes from a folder, a repository",
            "unsupported_source",
        ),
        (
            lock('name = "a"\nversion = "1"\nwheels = [{url = "x://x/a-1-py3-none-any.whl", hashes = {md5 = "0"}}]'),
            "a has no sha256",
            "no_hash",
        ),
        (f'{HEAD}requires-python = ">=3.14"\npackages = []\n', "is not for the image's Python 3.13.5", "unresolvable"),
        ("nonsense", "pylock.toml is damaged", "invalid"),
        ('lock-version = "7.0"\ncreated-by = "x"\npackages = []', "pylock.toml is damaged", "invalid"),
    ],
)
def test_what_cannot_be_installed_is_named(text: str, said: str, code: str) -> None:
    with pytest.raises(Invalid) as raised:
        wheels.chosen(text, TARGET, "pylock.toml")
    assert said in raised.value.message
    assert raised.value.code == code
    assert raised.value.hint


@pytest.mark.parametrize(
    ("requirement", "said"),
    [("numpy=>2", "no requirement"), ("a @ file:///tmp/a.whl", "is an address"), ("a\nb", "control character")],
)
def test_what_is_no_requirement_is_named(requirement: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        wheels.checked([requirement], "py")


def made(folder: Path, more: str = "") -> Path:
    """A wheel with a module, a program and a data file."""
    path = folder / "tiny-1-py3-none-any.whl"
    files = {
        "tiny.py": "def main():\n    print('tiny')\n",
        "tiny-1.data/data/share/tiny/note": "note\n",
        "tiny-1.data/scripts/tiny-sh": "#!python\nprint(1)\n",
        "tiny-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n",
        "tiny-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny-1.dist-info/entry_points.txt": "[console_scripts]\ntiny = tiny:main\n",
        **({more: ""} if more else {}),
    }
    with zipfile.ZipFile(path, "w") as archive:
        record = ""
        for name, text in files.items():
            archive.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(text)}\n"
        archive.writestr("tiny-1.dist-info/RECORD", f"{record}tiny-1.dist-info/RECORD,,\n")
    return path


def test_a_wheel_lies_where_debians_python_looks(tmp_path: Path) -> None:
    wheels.unpack([made(tmp_path)], TARGET, tmp_path / "tree")
    usr = tmp_path / "tree" / "usr" / "local"
    assert (usr / "lib/python3.13/dist-packages/tiny.py").is_file()
    assert (usr / "share/tiny/note").read_text() == "note\n"
    for name in ("tiny", "tiny-sh"):
        assert (usr / "bin" / name).read_text().startswith("#!/usr/bin/python3.13\n")
        assert (usr / "bin" / name).stat().st_mode & 0o111
    every = b"".join(path.read_bytes() for path in usr.rglob("*") if path.is_file())
    assert str(tmp_path).encode() not in every


def test_a_wheel_that_is_none_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad-1-py3-none-any.whl"
    bad.write_bytes(b"no zip")
    with pytest.raises(Unavailable, match=r"bad-1-py3-none-any\.whl cannot be unpacked"):
        wheels.unpack([bad], TARGET, tmp_path / "tree")


def test_no_wheel_writes_outside(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be unpacked"):
        wheels.unpack([made(tmp_path, "../../../../../../etc/evil")], TARGET, tmp_path / "tree")
    assert not list(tmp_path.rglob("evil"))
