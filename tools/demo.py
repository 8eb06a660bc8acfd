"""`make demo`: examples/trial on real data, with every language that this machine has or may install.

As root on Debian or Ubuntu, R, Octave and PSPP are installed where they are missing; otherwise the steps of a missing
language are left out of a copy of the pipeline, and the end says which. What it makes lies in .demo/.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TRIAL = ROOT / "examples" / "trial"
DEMO = ROOT / ".demo"
PYTHON = DEMO / "python"
GROUND = Path(sys.executable).with_name("ground")
NAMES = {"r": "R", "matlab": "Octave", "spss": "PSPP"}
INSTALLS = {"r": "r", "matlab": "octave", "spss": "pspp"}
R_PACKAGES = "library(survival); library(jsonlite)"


def main() -> int:
    say("1. Engines")
    missing = engines()
    say("\n2. Python with pandas, pyarrow and matplotlib for the scripts, in .demo/python")
    prepare_python()
    folder, left_out = TRIAL, list[tuple[str, str]]()
    if missing:
        folder, left_out = reduced(missing)
    shown = folder.relative_to(ROOT)
    say(f"\n3. ground run {shown}\n")
    environment = {
        **os.environ,
        "PATH": f"{PYTHON / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(PYTHON),
    }
    out = DEMO / "trial"
    shutil.rmtree(out, ignore_errors=True)
    ended = subprocess.run([GROUND, "run", str(shown), "--out", str(out)], cwd=ROOT, env=environment, check=False)
    if ended.returncode != 0:
        return ended.returncode
    run = asked("runs", "show", "latest")
    say(f"\n4. Done\n\nreport      {(out / 'report' / 'report.html').relative_to(ROOT)}   (open it in a browser)")
    tell_reuse(run["tasks"])
    for step, why in left_out:
        say(f"left out    {step}: {why}")
    say(f'''
next        export PATH="{PYTHON / "bin"}:{GROUND.parent}:$PATH"''')
    ties = (f"ground run {shown} -p ties=breslow", "another Cox model; what does not depend on it is reused")
    for command, what in (
        ("ground runs show latest", "what ran, with which engine, and what it made"),
        (f"ground run {shown} -p alpha=0.1", "90 % intervals instead of 95 %"),
        *([] if "r" in missing else [ties]),
        (f"ground plan {shown}", "what would run, and what would be reused"),
        ("ground run examples/hello.py -p alpha=0.5", "one script alone; examples/README.md has one for each language"),
        ("ground down", "end the control plane; it also ends itself when it is idle"),
    ):
        say(f"            {command:<46}{what}")
    return 0


def engines() -> dict[str, str]:
    """Toolchain -> why it is missing, for those of the trial that stay missing; installs what may be installed."""
    missing = absent()
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        for name in missing:
            say(f"   {NAMES[name]}: ground toolchains install {INSTALLS[name]} (apt; a minute or two)")
            done = subprocess.run(
                [GROUND, "toolchains", "install", INSTALLS[name]], capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                say("\n".join(done.stderr.splitlines()[-8:]))
        missing = absent()
    found = {e["name"]: e["version"] for t in asked("toolchains", "list") for e in t["engines"] if e["path"]}
    for name, engine in INSTALLS.items():
        say(
            f"   {NAMES[name]} "
            + (f"is missing: {missing[name]}" if name in missing else found.get(engine) or "is here")
        )
    return missing


def absent() -> dict[str, str]:
    """Toolchain -> why, for those of the trial that cannot run here now."""
    here = {toolchain["name"] for toolchain in asked("toolchains", "list") if toolchain["available"]}
    found = {
        name: f"it is not on PATH; ground toolchains install {INSTALLS[name]}" for name in NAMES if name not in here
    }
    if "r" in here:
        ready = subprocess.run(["Rscript", "--vanilla", "-e", R_PACKAGES], capture_output=True, check=False)
        if ready.returncode != 0:
            found["r"] = "it has no survival or no jsonlite; apt-get install r-recommended r-cran-jsonlite"
    return found


def prepare_python() -> None:
    """An environment with what the trial's scripts import, made anew when the requirements change."""
    requirements = TRIAL / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    mark = PYTHON / "requirements.sha256"
    if mark.is_file() and mark.read_text() == digest:
        say("   is there already")
        return
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    python = str(PYTHON / "bin" / "python")
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", str(Path(sys.executable).resolve()), str(PYTHON)],
        [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, "-r", str(requirements)],
    ):
        subprocess.run(command, check=True, cwd=ROOT)
    mark.write_text(digest)


def reduced(missing: Mapping[str, str]) -> tuple[Path, list[tuple[str, str]]]:
    """A copy of the trial without the steps of the missing toolchains, and (step, why) for each that was left out."""
    folder = DEMO / "reduced"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(TRIAL, folder)
    text = (TRIAL / "ground.toml").read_text(encoding="utf-8")
    suffixes = {suffix: t["name"] for t in asked("toolchains", "list") for suffix in t["suffixes"]}
    steps = tomllib.loads(text)["pipelines"]["analysis"]["steps"]
    out = {name: suffixes[Path(step["run"]).suffix.lower()] for name, step in steps.items()}
    out = {name: toolchain for name, toolchain in out.items() if toolchain in missing}
    (folder / "ground.toml").write_text(without(text, list(out)), encoding="utf-8")
    return folder, [(name, f"{NAMES[toolchain]}: {missing[toolchain]}") for name, toolchain in out.items()]


def without(text: str, steps: Sequence[str]) -> str:
    """A ground.toml without these steps and without the lines of other steps' inputs that read from them."""
    kept: list[str] = []
    dropping = False
    for line in text.splitlines(keepends=True):
        if line.startswith("["):
            header = re.match(r"\[pipelines\.[^.\]]+\.steps\.([^.\]]+)", line)
            dropping = header is not None and header[1] in steps
        source = re.match(r'"[^"]+"\s*=\s*"([^"/]+)/', line)
        if not dropping and not (source and source[1] in steps):
            kept.append(line)
    return "".join(kept)


def tell_reuse(tasks: Sequence[Mapping[str, Any]]) -> None:
    """How much of the run was taken from an earlier one."""
    reused = sum(task["reused"] for task in tasks)
    if reused == len(tasks):
        say(f"reused      all {len(tasks)} tasks: nothing had changed since an earlier run (--fresh runs them anyway)")
    elif reused:
        say(f"reused      {reused} of {len(tasks)} tasks: they had not changed since an earlier run")
    else:
        say("reused      nothing: run `make demo` again, and every task is")


def asked(*arguments: str) -> Any:
    """What `ground … --json` prints."""
    done = subprocess.run([GROUND, *arguments, "--json"], stdout=subprocess.PIPE, check=True, cwd=ROOT)
    return json.loads(done.stdout)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as problem:
        print(f"error: {' '.join(map(str, problem.cmd))} ended with status {problem.returncode}", file=sys.stderr)
        sys.exit(3)
    except KeyboardInterrupt:
        sys.exit(130)
