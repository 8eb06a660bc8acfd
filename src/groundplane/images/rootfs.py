"""Root file systems from a handful of .deb files: mmdebstrap, with the network off, and the same bytes every time."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from groundplane.images import rootless
from groundplane.images.disk import full
from groundplane.model.errors import Denied, Unavailable
from groundplane.model.locks import Deb
from groundplane.spi.images import Progress

USER, HOME = 1000, "/home/ground"
_PR_SET_PDEATHSIG = 1
_KEPT_LINES = 400
_NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
_TOLD = ("I: downloading", "I: extracting archives", "I: installing", "I: creating tarball")
_BASE_HOOK = f"""
echo 'ground:x:{USER}:{USER}::{HOME}:/bin/sh' >> "$1/etc/passwd"
echo 'ground:x:{USER}:' >> "$1/etc/group"
mkdir -p "$1{HOME}" "$1/ground/work" "$1/ground/support"
chown {USER}:{USER} "$1{HOME}"
"""
# A script of our own: mmdebstrap's `tar-in` sends the tar through a pipe, which breaks when tar has read all it needs.
_UNPACK_HOOK = """
set -eu
for layer in "$(dirname "$0")"/below/*.tar; do
    tar --extract --file "$layer" --directory "$1" --numeric-owner --same-owner --preserve-permissions \\
        --exclude './dev/*' --xattrs --xattrs-include='*'
    find "$1" -xdev -name '.wh.*' | while IFS= read -r mark; do
        name=${mark##*/}
        rm -rf "${mark%/*}/${name#.wh.}" "$mark"
    done
done
"""
# What packages of a language bring may be anybody's: root without these rights finds no way out of a chroot.
_LESS = (
    "setpriv --inh-caps=-all --bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+setgid,+setuid --no-new-privs --"
)
# Fills one folder of the image by a script that runs in it; what else the script leaves in there goes with it.
_FILL_HOOK = f"""
set -eu
folder=$(dirname "$0")
place=$(cat "$folder/place")
mkdir -p "$1/ground/sources" "$1$(dirname "$place")"
for file in "$folder"/sources/*; do
    [ ! -e "$file" ] || cp -L "$file" "$1/ground/sources/"
done
rm -rf "$1$place"
mv "$folder/tree$place" "$1$place"
cp "$folder/script" "$1/ground/script"
chroot "$1" {_LESS} /bin/sh -eu /ground/script < /dev/null
if [ "$(readlink -f "$1$place")" != "$(readlink -f "$1")$place" ]; then
    echo "E: what was installed has made $place lead elsewhere"
    exit 1
fi
mv "$1$place" "$folder/tree$place"
"""
# What two builds of the same packages would differ in, or what belongs to the machine that built it.
_CLEAN_HOOK = """
rm -rf "$1"/var/cache/* "$1"/var/log/* "$1"/var/lib/apt/* "$1"/var/lib/dpkg/*-old "$1"/etc/*- "$1"/tmp/* "$1"/run/*
rm -f "$1"/etc/resolv.conf "$1"/etc/hostname "$1"/etc/.pwd.lock "$1"/var/lib/dbus/machine-id "$1"/etc/machine-id
rm -f "$1"/var/lib/dpkg/lock "$1"/var/lib/dpkg/lock-frontend "$1"/var/lib/dpkg/triggers/Lock
rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d "$1"/var/lib/systemd/catalog/database "$1"/root/.??*
"""
_PROBE_HOOK = f"""
folder=$(dirname "$0")
while read -r program; do
    found=$(chroot "$1" /bin/sh -c 'command -v "$0"' "$program") || continue
    echo "$found" > "$folder/program"
    set -- "$1" "$found" $(cat "$folder/probe-arguments")
    root=$1; shift
    chroot "$root" {_LESS} "$@" < /dev/null > "$folder/probe" 2>&1
    break
done < "$folder/programs"
exit 0
"""


class Rootfs:
    """Builds in a scratch folder; tree: what `filled` fills, as it lies below the image's root. Packages' own scripts
    run in the chroot. Where this process is root, they have no network, and processes and mounts of their own, so that
    whatever kills the build ends them; and they are root of nothing (see `rootless`) where this host lets them be
    that. Elsewhere mmdebstrap's own means count."""

    def __init__(self, scratch: Path, suite: str, epoch: int, progress: Progress, *, confined: bool = False) -> None:
        """confined: whether it is for somebody whose host this is not; it is then built so, or not at all."""
        if shutil.which("mmdebstrap") is None:
            raise Unavailable(
                "this machine has no mmdebstrap to build images with",
                hint="apt-get install mmdebstrap, or use --builder docker",
                code="no_builder",
            )
        self._scratch, self._suite, self._epoch, self._progress = scratch, suite, epoch, progress
        self._confined = confined
        self.tree = scratch / "tree"

    def base(self, debs: Mapping[str, tuple[Deb, Path]], target: Path) -> None:
        """The suite's essential packages, and the user that work runs as."""
        repository = self._repository("base", debs)
        hooks = [*self._hook("user", _BASE_HOOK), *self._hook("clean", _CLEAN_HOOK)]
        self._run(["--variant=essential", *_included(debs), *hooks], repository, target)

    def extended(
        self,
        below: Sequence[Path],
        debs: Mapping[str, tuple[Deb, Path]],
        target: Path,
        programs: Sequence[str],
        probe: Sequence[str],
    ) -> tuple[str, str]:
        """Layers (tars) with more packages; (program, probe output) of the first of the programs that is there."""
        repository = self._repository("more", debs)
        (self._scratch / "programs").write_text("".join(f"{name}\n" for name in programs))
        (self._scratch / "probe-arguments").write_text(" ".join(probe))
        hooks = [
            *self._unpacking(below),
            *self._hook("probe", _PROBE_HOOK if programs and probe else "exit 0"),
            *self._hook("clean", _CLEAN_HOOK),
        ]
        # The chroot has the base already: mmdebstrap must neither want it empty nor install it again.
        self._run(["--variant=custom", *_included(debs), *hooks], repository, target)
        return _text(self._scratch / "program").strip(), _text(self._scratch / "probe").strip()

    def probed(self, below: Sequence[Path], programs: Sequence[str], probe: Sequence[str]) -> tuple[str, str]:
        """(program, probe output) of an image that is these layers alone."""
        return self.extended(below, {}, self._scratch / "probed.tar", programs, probe)

    def filled(
        self,
        below: Sequence[Path],
        tools: Mapping[str, tuple[Deb, Path]],
        place: str,
        sources: Mapping[str, Path],
        script: str,
    ) -> None:
        """Runs a script in layers (tars) that fills one folder of the image, `place`; it lies in `tree` before and
        after. sources: name -> file, in /ground/sources. tools: packages that only the script has."""
        repository = self._repository("tools", tools)
        (self._scratch / "place").write_text(place)
        (self._scratch / "script").write_text(script)
        folder = self._scratch / "sources"
        folder.mkdir()
        for name, path in sources.items():
            rootless.share(path, folder / name)
        (self.tree / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
        hooks = [*self._unpacking(below), *self._hook("fill", _FILL_HOOK)]
        # All but the folder is thrown away: nothing of it need reach the disk.
        options = ["--variant=custom", "--dpkgopt=force-unsafe-io", *_included(tools), *hooks]
        self._run(options, repository, None)

    def _unpacking(self, layers: Sequence[Path]) -> list[str]:
        folder = self._scratch / "below"
        folder.mkdir(exist_ok=True)
        for number, layer in enumerate(layers):
            link = folder / f"{number}.tar"
            link.unlink(missing_ok=True)
            layer.chmod(0o644)
            link.symlink_to(layer)
        return self._hook("unpack", _UNPACK_HOOK, "setup")

    def _hook(self, name: str, text: str, when: str = "customize") -> list[str]:
        path = self._scratch / f"{name}.sh"
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)
        return [f'--{when}-hook="{path}" "$1"']

    def _repository(self, name: str, debs: Mapping[str, tuple[Deb, Path]]) -> Path:
        """A folder that apt can install from: what the index says of the files is read from them."""
        folder = self._scratch / name
        folder.mkdir()
        stanzas: list[str] = []
        for key in sorted(debs):
            deb, path = debs[key]
            rootless.share(path, folder / f"{deb.sha256}.deb")
            control = subprocess.run(["dpkg-deb", "-f", str(path)], capture_output=True, text=True, check=True).stdout
            stanzas.append(
                f"{control.strip()}\nFilename: ./{deb.sha256}.deb\nSize: {deb.size}\nSHA256: {deb.sha256}\n\n"
            )
        body = "".join(stanzas).encode()
        (folder / "Packages").write_bytes(body)
        # mmdebstrap finds the essential packages by the suite that the repository says it is.
        digest = hashlib.sha256(body).hexdigest()
        (folder / "Release").write_text(
            f"Suite: {self._suite}\nCodename: {self._suite}\nSHA256:\n {digest} {len(body)} Packages\n"
        )
        return folder

    def _run(self, options: Sequence[str], repository: Path, target: Path | None) -> None:
        kind, output = ("tar", str(target)) if target else ("null", "-")
        # The clean hook does it: mmdebstrap would ask apt, which has lost its settings by then, to clean this host's.
        argv = ["mmdebstrap", f"--format={kind}", "--skip=cleanup/apt", *options, self._suite, output]
        if self._confined and os.geteuid() != 0:
            argv.insert(1, "--mode=unshare")
        # Each file's sha256 was compared with the lock: there is no signature to check that says more.
        argv.append(f"deb [trusted=yes] copy://{repository} ./")
        temporary = self._scratch / "tmp"
        temporary.mkdir(exist_ok=True)
        temporary.chmod(0o755)
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "SOURCE_DATE_EPOCH": str(self._epoch),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "TMPDIR": str(temporary),
            "HOME": "/root",
        }
        with self._apart() as (before, descriptors):
            code, kept = self._followed([*before, *argv], environment, descriptors)
        if code != 0:
            raise _failed(kept, self._scratch)

    @contextmanager
    def _apart(self) -> Generator[tuple[Sequence[str], Sequence[int]]]:
        """Words that come before mmdebstrap's own, and descriptors that it inherits."""
        if os.geteuid() != 0:  # where it can, mmdebstrap makes a user namespace, with the numbers of /etc/subuid
            yield (), ()
            return
        with ExitStack() as stack:
            try:
                words, users = stack.enter_context(rootless.inside(self._scratch))
                rootless.give(self._scratch)
                found: tuple[Sequence[str], Sequence[int]] = (words, (users,))
            except rootless.Unconfined as error:
                if self._confined:
                    raise Denied(
                        f"this host cannot confine what packages run while an image is built: {error}",
                        hint="install bubblewrap on the control plane's host; its owner can build the image there",
                        code="cannot_confine",
                    ) from error
                found = (_NAMESPACES, ())
            yield found

    def _followed(
        self, argv: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int]
    ) -> tuple[int, Sequence[str]]:
        """Its exit status and last lines; what it tells meanwhile is told."""
        kept: deque[str] = deque(maxlen=_KEPT_LINES)
        process = subprocess.Popen(
            argv,
            pass_fds=descriptors,
            env=environment,
            cwd=self._scratch,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        try:
            assert process.stdout is not None  # noqa: S101
            for line in process.stdout:
                kept.append(line.rstrip())
                if line.startswith(_TOLD):
                    self._progress(line[3:].strip())
            code = process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        return code, kept


def _included(debs: Mapping[str, tuple[Deb, Path]]) -> list[str]:
    """All of them by name: what the repository has is what is installed. An empty repository is an error to apt."""
    if not debs:
        return ["--skip=update"]
    return [f"--include={deb.name}={deb.version}" for deb, _ in debs.values()]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _failed(lines: Sequence[str], scratch: Path) -> Unavailable:
    if any("No space left on device" in line for line in lines):
        return full(scratch.parent)
    told = [line for line in lines if line.startswith(("E:", "dpkg: error", "dpkg-deb: error", "mmdebstrap failed"))]
    said = next(
        (line for line in told if "mmdebstrap failed" not in line), (told or list(lines) or ["no word of why"])[-1]
    )
    shown = "\n".join(list(lines)[-12:])
    return Unavailable(
        f"the image could not be built: {said}", hint=f"its last words:\n{shown}", code="image_build_failed"
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
