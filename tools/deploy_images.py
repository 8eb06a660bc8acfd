"""The images of deploy/, made of Debian's packages and this working copy, and pushed to a registry.

    .venv/bin/python tools/deploy_images.py --registry [http://]HOST[:PORT][/PREFIX] [-o FOLDER] [NAME]...

control-plane: Debian's Python, the wheels of uv.lock, and this version of Groundplane. staging: what stages work on
Kubernetes. postgres: Debian's PostgreSQL. object-store: versitygw, an example. Without a NAME all of them are made.
-o writes a Kustomize component that puts these images, by their digests, in the place of the names in deploy/base.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from groundplane.client.launcher import home_folder
from groundplane.images import debs, layers, staging, uv, wheels
from groundplane.images.debian import DebianBuilder
from groundplane.images.downloads import Downloads
from groundplane.images.rootfs import HOME, USER, Rootfs
from groundplane.images.store import ImageStore
from groundplane.model.environments import Environment
from groundplane.model.errors import GroundError
from groundplane.model.locks import Lock
from groundplane.oci import registry
from groundplane.oci.reference import parse
from groundplane.spi.images import Image, Layer, Recipe

ROOT = Path(__file__).parents[1]
_SUITE = "trixie"
_EXTRAS = ("postgres", "kubernetes")
_CONFIG: Mapping[str, Any] = {
    "User": f"{USER}:{USER}",
    "Env": [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG=C.UTF-8",
        f"HOME={HOME}",
        "PYTHONDONTWRITEBYTECODE=1",
    ],
    "WorkingDir": HOME,
}


class Images:
    """Makes them in a home's store of images, where the layers of Debian's packages are shared."""

    def __init__(self, home: Path) -> None:
        self.store = ImageStore(home / "images")
        self._builder = DebianBuilder(self.store, Downloads(home / "images" / "downloads"))

    def control_plane(self) -> Image:
        """Its wheels are those of uv.lock."""
        with tempfile.TemporaryDirectory() as folder:
            _exported(Path(folder))
            recipe = Recipe(
                Environment("control-plane"), "python", "", (), folder=Path(folder), suite=_SUITE,
                debs=("ca-certificates", "python3"), native="pylock.toml",
            )  # fmt: skip
            lock = self._builder.lock(recipe, _tell)

        def package(rootfs: Rootfs, lock: Lock) -> None:
            target = wheels.target(debs.in_image(lock), lock.base.architecture if lock.base else "")
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run([uv.program(), "build", "-q", "--wheel", "-o", folder], cwd=ROOT, check=True)
                wheels.unpack(Path(folder).glob("*.whl"), target, rootfs.tree)
            below = [rootfs.tree.with_name(f"below-{n}.tar") for n, _ in enumerate(self._base(lock).layers)]
            for layer, tar in zip(self._base(lock).layers, below, strict=True):
                self.store.unpack(layer, tar)
            rootfs.filled(below, {}, wheels.places(target)["purelib"], {}, wheels.compile_script(target))

        return self._with_layer("control-plane", lock, package)

    def staging(self) -> Image:
        """As the control plane names it."""
        return staging.image(self.store, self._builder, _tell)

    def postgres(self) -> Image:
        """Without a configuration: deploy/base has it."""
        lock = self._lock("postgres", "postgresql")
        return self._named("postgres", lock, self._base(lock).layers)

    def object_store(self) -> Image:
        """versitygw, as the tests have it."""

        def program(rootfs: Rootfs, _: Lock) -> None:
            said = subprocess.run([ROOT / "tools" / "versitygw"], stdout=subprocess.PIPE, text=True, check=True)
            target = rootfs.tree / "usr/local/bin/versitygw"
            target.parent.mkdir(parents=True)
            shutil.copyfile(said.stdout.strip(), target)
            target.chmod(0o755)

        return self._with_layer("object-store", self._lock("object-store", "ca-certificates"), program)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _lock(self, name: str, *packages: str) -> Lock:
        return self._builder.lock(Recipe(Environment(name), "", "", (), suite=_SUITE, debs=packages), _tell)

    def _base(self, lock: Lock) -> Image:
        found = self.store.find(lock.recipe)
        assert found is not None, "it was built with its lock"  # noqa: S101
        return found

    def _with_layer(self, name: str, lock: Lock, fill: Callable[[Rootfs, Lock], None]) -> Image:
        """What `fill` puts into the tree, above the lock's layers."""
        assert lock.base is not None  # noqa: S101
        with self.store.scratch() as scratch:
            rootfs = Rootfs(scratch, lock.base.suite, lock.base.epoch, _tell)
            fill(rootfs, lock)
            tar = scratch / "own.tar"
            there = {path.relative_to(rootfs.tree).as_posix() for path in rootfs.tree.rglob("*") if path.is_dir()}
            layers.tree(rootfs.tree, tar, lock.base.epoch, below={each for each in there if "groundplane" not in each})
            return self._named(name, lock, (*self._base(lock).layers, self.store.add_layer(tar)))

    def _named(self, name: str, lock: Lock, found: tuple[Layer, ...]) -> Image:
        assert lock.base is not None  # noqa: S101
        recipe = hashlib.sha256(repr((name, [each.diff for each in found], _CONFIG)).encode()).hexdigest()
        return self.store.add_image(
            recipe=recipe, builder="deploy", reference=f"{name}:{recipe[:16]}", layers=found, config=_CONFIG,
            epoch=lock.base.epoch, built_at=time.time_ns() // 1000, architecture=lock.base.architecture,
        )  # fmt: skip


def _exported(folder: Path) -> None:
    """The project's own lock with the extras that a control plane in a cluster needs."""
    extras = [word for extra in _EXTRAS for word in ("--extra", extra)]
    options = ("--frozen", "--no-default-groups", "--no-emit-project", "--no-header", "--format", "pylock.toml")
    target = folder / "pylock.toml"
    subprocess.run([uv.program(), "export", "-q", *options, *extras, "-o", target], cwd=ROOT, check=True)


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


_MAKERS: Mapping[str, Callable[[Images], Image]] = {
    "control-plane": Images.control_plane,
    "staging": Images.staging,
    "postgres": Images.postgres,
    "object-store": Images.object_store,
}


def push(images: Images, address: str, name: str) -> str:
    """Makes an image and pushes what the registry lacks of it; its name there, by digest."""
    scheme, _, prefix = address.rpartition("://")
    made = _MAKERS[name](images)
    target = parse(f"{prefix}/{made.reference}")
    done = registry.push(images.store.blob, made.manifest, target, _tell, plain=scheme == "http")
    return f"{target.name}@{done.digest}"


def component(names: Mapping[str, str]) -> str:
    """A Kustomize component that puts the images in the place of `groundplane/NAME`."""
    lines = ["apiVersion: kustomize.config.k8s.io/v1alpha1", "kind: Component", "images:"]
    for name, found in sorted(names.items()):
        repository, _, digest = found.partition("@")
        lines += [f"  - name: groundplane/{name}", f"    newName: {repository}", f"    digest: {digest}"]
    return "\n".join(lines) + "\n"


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(_MAKERS)}")
    parser.add_argument("--registry", required=True, metavar="[http://]HOST[:PORT][/PREFIX]")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="of the Kustomize component")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(_MAKERS))
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}: the images are {', '.join(_MAKERS)}")
    try:
        images = Images(home_folder())
        found = {name: push(images, options.registry, name) for name in options.names or _MAKERS}
    except GroundError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    for name, reference in found.items():
        print(f"{name} {reference}")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "kustomization.yaml").write_text(component(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
