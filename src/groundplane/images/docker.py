"""Images of others: pulled by a Docker engine, or built by it from a Dockerfile, and kept in the store like all."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from groundplane.images import context as contexts
from groundplane.images import dockerbuild, found, normal, pooled, probing, pulls, saved, turns
from groundplane.images.context import Context
from groundplane.images.pulls import Held
from groundplane.images.store import ImageStore, own_reference
from groundplane.model.errors import Invalid, Unavailable
from groundplane.model.locks import Lock, Upstream
from groundplane.oci.address import Address
from groundplane.oci.engine import Engine, Refused
from groundplane.spi.images import Image, Layer, Progress, Recipe

_EPOCH = 1754697600
"""Seconds: no file that a Dockerfile adds is younger than the images it stands on; this where they do not say."""
_SANE = 315532800  # 1980: some builders date their images at 0, and archives know no earlier year


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the image comes from: one that the engine has, or a context and the images that it stands on."""

    upstream: Upstream
    held: Held | None = None
    context: Context | None = None
    bases: Mapping[str, Held] = field(default_factory=dict[str, Held])


class DockerBuilder:
    """See `spi.images.Builder`. folder: the project's, without which no Dockerfile can be built."""

    name = "docker"

    def __init__(self, store: ImageStore, address: Address, folder: Path | None = None) -> None:
        self._store = store
        self._address = address
        self._folder = folder

    def lock(self, recipe: Recipe, progress: Progress) -> Lock:
        """Pulls or builds, imports, probes, and reads what packages there are. What the engine has is not pulled
        anew, and a Dockerfile that has not changed, nor what it copies, is not built anew."""
        environment = recipe.environment
        if more := (*environment.packages, *environment.system_packages):
            raise Invalid(
                f"environment {environment.name!r} asks for {', '.join(more)}, and an image has what it has",
                hint='leave --builder away, or build on it: from = "Dockerfile"',
            )
        with closing(Engine(self._address)) as engine:
            source = self._asked(engine, recipe, progress)
            made = Lock(
                name=environment.name,
                definition=environment.definition,
                toolchain=recipe.toolchain,
                engine=recipe.engine,
                version="",
                program="",
                builder=self.name,
                upstream=source.upstream,
            )
            known = self._store.find(made.recipe)
            if known is not None and source.held is None and not self._was_probed(known, recipe):
                self._store.remove(known.recipe)  # the engine has it no more, and nobody has asked for this program
            image = self._image(engine, made, source, recipe, progress)
            program, said = self._probed(engine, image, source, recipe)
        if recipe.programs and not program and (environment.engine or environment.toolchain):
            raise Invalid(
                f"{image.reference} has no {' or '.join(recipe.programs)} on its PATH",
                hint=f"environment {environment.name!r} says that it has {recipe.engine}",
                code="missing_engine",
            )
        progress("reading its packages")
        noted = found.notes(self._store.unpacked(layer.digest) for layer in image.layers)
        version = re.search(recipe.version, said) if recipe.version and said else None
        return replace(
            made,
            upstream=replace(source.upstream, config=image.config),
            version=version[1] if version else "",
            program=program,
            layers=tuple(layer.diff for layer in image.layers),
            probe=said,
            distribution=found.distribution(noted),
            found=found.packages(noted),
        )

    def build(self, lock: Lock, progress: Progress, pool: Path | None = None) -> Image:
        """What the lock names, exactly. Raises Unavailable `image_build_failed` where something else comes out."""
        known = self._store.find(lock.recipe)
        if known is not None and known.is_of(lock):
            return known
        if known is not None:  # of another lock: this one counts
            self._store.remove(known.recipe)
        if pool is not None:
            with turns.alone(self._store.folder, lock.recipe, progress):
                return pooled.take(self._store, lock, self._empty(lock), pool)
        with closing(Engine(self._address)) as engine:
            source = self._locked(engine, lock, progress)
            image = self._image(engine, lock, source, None, progress)
        made = tuple(layer.diff for layer in image.layers)
        assert lock.upstream is not None  # noqa: S101
        if made != lock.layers or image.config != lock.upstream.config:
            config = json.loads(self._store.blob(image.config).read_bytes())
            self._store.remove(image.recipe)
            raise _other(lock, made, config)
        return image

    def pool(self, lock: Lock, folder: Path, progress: Progress) -> set[str]:
        """The image itself: neither a registry nor a build would give it again for certain."""
        return pooled.put(self._store, self.build(lock, progress), folder)

    # --- where it comes from ----------------------------------------------------------------------------------------

    def _asked(self, engine: Engine, recipe: Recipe, progress: Progress) -> _Source:
        environment = recipe.environment
        if not environment.dockerfile:
            held = pulls.ensure(engine, environment.image, progress)
            return _Source(Upstream(environment.image, held.digest, held.id), held)
        context = self._context(environment.name, environment.dockerfile)
        bases = {name: pulls.ensure(engine, name, progress) for name in context.dockerfile.bases}
        _check_triggers(bases)
        upstream = Upstream(
            reference=environment.dockerfile,
            dockerfile=_sha256(context.dockerfile.text),
            context=context.sha256,
            bases={name: held.digest or f"sha256:{held.id}" for name, held in bases.items()},
        )
        return _Source(upstream, context=context, bases=bases)

    def _locked(self, engine: Engine, lock: Lock, progress: Progress) -> _Source:
        upstream = lock.upstream
        assert upstream is not None  # noqa: S101
        if not upstream.dockerfile:
            held = pulls.exact(engine, upstream.reference, upstream.digest, upstream.config, progress)
            return _Source(upstream, held)
        context = self._context(lock.name, upstream.reference)
        if (_sha256(context.dockerfile.text), context.sha256) != (upstream.dockerfile, upstream.context):
            raise Invalid(
                f"{upstream.reference}, or a file that it copies, is another than when {lock.name!r} was locked",
                hint=f"ground env lock {lock.name}",
                code="stale_lock",
            )
        bases = {
            name: pulls.exact(engine, name, digest, digest.removeprefix("sha256:"), progress)
            for name, digest in upstream.bases.items()
        }
        return _Source(upstream, context=context, bases=bases)

    def _context(self, name: str, dockerfile: str) -> Context:
        if self._folder is None:
            raise Invalid(
                f"environment {name!r} is built from {dockerfile}, in its project's folder",
                hint=f"ground env build {name}, there",
            )
        return contexts.read(self._folder, dockerfile)

    # --- making -----------------------------------------------------------------------------------------------------

    def _image(
        self,
        engine: Engine,
        lock: Lock,
        source: _Source,
        recipe: Recipe | None,
        progress: Progress,
    ) -> Image:
        """recipe: None where the lock has all its answers."""
        with turns.alone(self._store.folder, lock.recipe, progress):
            known = self._store.find(lock.recipe)
            if known is not None:
                return known
            with dockerbuild.labelled(engine, self._store) as (scratch, label):
                epoch = max((_created(held) for held in source.bases.values()), default=_EPOCH)
                if source.context is not None:
                    ids = {name: held.id for name, held in source.bases.items()}
                    made = dockerbuild.build(engine, source.context, ids, epoch, label, progress)
                else:
                    assert source.held is not None  # noqa: S101
                    made = source.held.id
                progress("importing the image")
                try:
                    image = self._imported(engine, lock, source, made, scratch, epoch)
                except Refused as error:
                    raise pulls.told(error, lock.name) from error
                if recipe is not None and recipe.programs and source.held is None:
                    self._ask(engine, image, made, recipe, label)
                return image

    def _imported(self, engine: Engine, lock: Lock, source: _Source, made: str, scratch: Path, epoch: int) -> Image:
        below = {diff for held in source.bases.values() for diff in saved.diffs(_config_of(engine, held))}
        as_they_are = source.context is None

        def keep(tar: Path, diff: str) -> Layer:
            if as_they_are or f"sha256:{diff}" in below:
                return self._store.known(diff) or self._store.add_layer(tar)
            fresh = tar.with_suffix(".normal")
            normal.layer(tar, fresh, epoch)
            try:
                return self._store.add_layer(fresh)
            finally:
                fresh.unlink()

        taken = saved.read(engine.stream("GET", f"/images/{made}/get"), scratch, keep)
        config = taken.config
        if not as_they_are:
            base = normal.base_of(json.loads(config), [_config_of(engine, held) for held in source.bases.values()])
            diffs = [layer.diff for layer in taken.layers]
            config = normal.config(config, diffs, base, epoch, dockerbuild.OWN)
        upstream = replace(source.upstream, config=hashlib.sha256(config).hexdigest())
        image = self._empty(replace(lock, upstream=upstream))
        return self._store.add_configured(replace(image, layers=taken.layers), config)

    def _probed(self, engine: Engine, image: Image, source: _Source, recipe: Recipe) -> tuple[str, str]:
        """(program, what it printed), as it was found when the image was first asked for it."""
        if not recipe.programs:
            return "", ""
        if not self._was_probed(image, recipe):
            assert source.held is not None  # noqa: S101 - what was built is asked while the engine has it
            with dockerbuild.labelled(engine, self._store) as (_, label):
                self._ask(engine, image, source.held.id, recipe, label)
        program, said = json.loads(self._answer(image, recipe).read_bytes())
        return program, said

    def _ask(self, engine: Engine, image: Image, made: str, recipe: Recipe, label: Mapping[str, str]) -> None:
        answer = probing.probe(engine, made, recipe.programs, recipe.probe, label)
        self._store.put(self._answer(image, recipe), json.dumps(answer).encode())

    def _was_probed(self, image: Image, recipe: Recipe) -> bool:
        return not recipe.programs or self._answer(image, recipe).is_file()

    def _answer(self, image: Image, recipe: Recipe) -> Path:
        return self._store.document(image, f"probe-{recipe.engine}.json")

    def _empty(self, lock: Lock) -> Image:
        """All that is known of the lock's image, but its layers and digests."""
        assert lock.upstream is not None  # noqa: S101
        of_ours = own_reference(lock.name, lock.recipe)
        return Image(
            recipe=lock.recipe,
            builder=self.name,
            reference=of_ours if lock.upstream.dockerfile else lock.upstream.reference,
            manifest="",
            config="",
            layers=(),
            built_at=time.time_ns() // 1000,
        )


def _config_of(engine: Engine, held: Held) -> dict[str, Any]:
    """As much of an image's configuration as the engine tells without giving the image."""
    history: list[Any] = engine.call("GET", f"/images/{held.id}/history")
    return {"rootfs": {"diff_ids": held.facts.get("RootFS", {}).get("Layers") or []}, "history": history}


def _created(held: Held) -> int:
    said = str(held.facts.get("Created") or "")
    try:
        seconds = int(datetime.fromisoformat(re.sub(r"\.\d+", "", said)).timestamp())
    except ValueError:
        return _EPOCH
    return seconds if seconds > _SANE else _EPOCH


def _check_triggers(bases: Mapping[str, Held]) -> None:
    """Raises Invalid for a base that would copy what its Dockerfile does not name."""
    for name, held in bases.items():
        config: Mapping[str, Any] = held.facts.get("Config") or {}
        if triggers := config.get("OnBuild"):
            raise Invalid(
                f"{name} runs {triggers[0]!r} in each image that stands on it",
                hint="take a base without ONBUILD, and write what it would do into the Dockerfile",
            )


def _other(lock: Lock, made: Sequence[str], config: Mapping[str, Any]) -> Unavailable:
    """Names the first layer that differs, and the instruction that made it."""
    pairs = zip(made, lock.layers, strict=False)
    number = next((n for n, (is_, was) in enumerate(pairs) if is_ != was), min(len(made), len(lock.layers)))
    steps = [str(entry.get("created_by", "")) for entry in config.get("history", ()) if not entry.get("empty_layer")]
    nth: Callable[[Sequence[str]], str] = lambda of: f"sha256:{of[number][:16]}…" if number < len(of) else "missing"  # noqa: E731
    said = f"layer {number} of {lock.name} came out other than locked: {nth(made)} is not {nth(lock.layers)}"
    if number >= max(len(made), len(lock.layers)):
        said = f"the configuration of {lock.name} came out other than locked"
    by = f" (made by: {steps[number][-200:]})" if number < len(steps) else ""
    return Unavailable(
        said + by,
        hint="what it runs does not do the same every day; `ground env pool -o POOL` where it was built keeps that "
        f"very image (build with --offline POOL), and `ground env lock {lock.name}` takes what comes out now",
        code="image_build_failed",
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
