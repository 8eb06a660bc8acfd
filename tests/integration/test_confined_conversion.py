"""What a converter that a stranger's table has taken over reaches: that table. Attacks from inside of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from groundplane.model.resources import Resources
from groundplane.spi import confining, enclosing, layout
from groundplane.spi.launch import Launch, StageIn
from tests.conformance.driver_bench import launch
from tests.integration.agent_bench import AgentBench, agent_bench, changed_agent, eventually
from tests.parts import require

TABLE = b"a,b\n1,x\n2,y\n"
START = """
import json, os, sys
enclosed = "--enclosed" in sys.argv
if enclosed:
    from groundplane.spi.readers import enclose
    enclose(*sys.argv[-2:])
asked = json.load(sys.stdin)["conversions"][0]
def said(lost=()):
    print(json.dumps({"conversions": [{"target": asked["target"], "rows": 1, "columns": 1, "lost": list(lost)}]}))
"""
LOOK = """
import socket
from pathlib import Path
found = []
def attempt(what, do):
    try:
        found.append(f"{what}: {do()}")
    except OSError as error:
        found.append(f"{what}: {type(error).__name__}")
attempt("environment", lambda: sorted(os.environ))
attempt("processes", lambda: sum(name.isdigit() for name in os.listdir("/proc")))
attempt("user", lambda: os.geteuid())
attempt("key", lambda: Path(HOME, "key").read_text())
attempt("home", lambda: os.listdir(HOME))
attempt("work", lambda: os.listdir(os.path.dirname(os.path.dirname(asked["source"]))))
attempt("others", lambda: os.listdir("/root") + os.listdir("/home"))
attempt("passwords", lambda: Path("/etc/shadow").read_text())
attempt("agent", lambda: socket.socket(socket.AF_UNIX).connect(AGENT))
attempt("tcp", lambda: socket.socket().connect(("127.0.0.1", PORT)))
attempt("abstract", lambda: socket.socket(socket.AF_UNIX).connect("\\0" + NAME))
attempt("sockets", lambda: HOME in Path("/proc/net/unix").read_text())
Path(asked["target"]).write_text("made")
attempt("source", lambda: os.chmod(asked["source"], 0o666))
attempt("instead", lambda: os.rename(asked["target"], asked["source"]))
attempt("beside", lambda: Path(os.path.dirname(asked["source"]), "x").write_text("x"))
attempt("platform", lambda: open(os.path.join(PACKAGE, "confining.py"), "r+").close())
attempt("kill", lambda: os.kill(PID, 0))
attempt("fork", lambda: os.fork() or os._exit(0))
attempt("exec", lambda: os.execv("/usr/bin/true", ["true"]) if enclosed else "not tried")
attempt("mode", lambda: os.chmod(os.path.join(HOME, "key"), 0o666))
attempt("cut", lambda: os.truncate(os.path.join(HOME, "key"), 0))
attempt("table", lambda: Path(asked["source"]).read_bytes())
Path(asked["target"]).write_text("made")
said(found)
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[AgentBench]:
    require("bubblewrap")
    with agent_bench(tmp_path / "home") as made:
        yield made


BY_ITSELF = "from groundplane.spi import confining; confining.unavailable = lambda: 'it is not there'"
"""Where a host forbids bubblewrap, as a pod does, a converter gives up by itself what it does not need."""
WAYS = ("bubblewrap", "itself")


def taken_over(home: Path, code: str, by: str = "bubblewrap") -> AbstractContextManager[AgentBench]:
    """An agent whose converters do this once they are confined, as if a table had made them."""
    way(by)
    command = [sys.executable, "-I", "-c", START + code]
    change = f"from groundplane.spi import readers; readers.command = lambda _: {command!r}"
    return changed_agent(home, f"{change}; {BY_ITSELF}" if by == "itself" else change)


def way(by: str) -> None:
    if by == "bubblewrap":
        require("bubblewrap")
    elif why := enclosing.unavailable():
        pytest.skip(why)


def strange(
    bench: AgentBench, script: str = "cat in.parquet; ls -A", path: str = "in.parquet", **fields: object
) -> Launch:
    source = str(layout.blob(bench.home, bench.blob(TABLE)))
    inputs = (StageIn(path, source, source_name="raw.csv"),)
    return launch(script, inputs=inputs, **{"strange": True, "confined": True, "outputs": None, **fields})


@contextmanager
def listening() -> Iterator[tuple[int, str]]:
    name = f"ground-converter-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{name}")
        abstract.listen()
        yield tcp.getsockname()[1], name


@pytest.mark.parametrize("confined", [True, False], ids=["beside", "elsewhere"])
def test_a_strangers_table_is_converted(bench: AgentBench, confined: bool) -> None:
    """elsewhere: the work is in a container, its tables are read here all the same."""
    owner = {} if confined else {"owner": 1000 if os.geteuid() == 0 else None}
    script = "head -c 4 sub/in.parquet; ls -A . sub; stat -c '%u %a' sub/in.parquet; echo >> sub/in.parquet"
    wanted = strange(bench, script, "sub/in.parquet", confined=confined, **owner)
    told = bench.run(wanted)
    assert told.reason is None, told
    user = os.geteuid()
    if user == 0:
        user = confining.USER if confined else 1000
    assert told.stdout == f"PAR1.:\nsub\n\nsub:\nin.parquet\n{user} 644\n"
    assert [output.name for output in told.outputs] == ["sub/in.parquet"]  # and only because it was changed
    assert sorted(path.name for path in layout.attempt(bench.home, wanted.attempt).iterdir()) == ["support", "tree"]


def test_also_where_there_is_no_bubblewrap(tmp_path: Path) -> None:
    way("itself")
    with changed_agent(tmp_path / "home", BY_ITSELF) as bench:
        for path, begins in (("in.parquet", "PAR1"), ("in.sav", "$FL2"), ("in.dta", "<sta"), ("in.mat", "MATL")):
            told = bench.run(strange(bench, f"head -c 4 {path}; ls -A", path, confined=False))
            assert told.stdout == f"{begins}{path}\n", told
            assert told.outputs == ()


def test_also_where_its_working_copy_is_an_overlay(bench: AgentBench, tmp_path: Path) -> None:
    require("root")
    project = tmp_path / "project"
    for number in range(100):
        path = project / "data" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    told = bench.run(strange(bench, "head -c 4 in.parquet; ls -A", snapshot=bench.snapshot(project)))
    assert told.stdout == "PAR1data\nin.parquet\n"
    assert told.outputs == ()


def test_a_broken_one_is_told_as_ever(bench: AgentBench) -> None:
    source = str(layout.blob(bench.home, bench.blob(b"this is no parquet")))
    inputs = (StageIn("clean.csv", source, source_name="broken.parquet"),)
    told = bench.run(launch("echo never", inputs=inputs, strange=True, confined=True))
    assert told.reason is not None
    assert (told.reason.code, told.reason.fault) == ("unreadable_table", "user")
    assert "'broken.parquet' cannot become 'clean.csv'" in told.reason.message


def test_limits_hold_for_it_too(bench: AgentBench) -> None:
    timed = bench.run(strange(bench, resources=Resources(timeout=0.02)))
    assert timed.reason is not None
    assert (timed.reason.code, timed.started_at) == ("timeout", 0)
    if "cgroup" not in bench.driver.check().facts["limits"]:
        pytest.skip("no cgroup can be made here")
    large = bench.run(strange(bench, resources=Resources(memory=12 << 20)))
    assert large.reason is not None
    assert large.reason.code == "out_of_memory"


@pytest.mark.parametrize("by", [*WAYS, "nothing"])
def test_it_finds_nothing_of_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """nothing: an owner's, which shows that the attempts are such as succeed."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "key").write_text("the key of the home")
    monkeypatch.setenv("GROUND_OIDC_CLIENT_SECRET", "the client's secret")
    with listening() as (port, name):
        look = (
            f"HOME, AGENT, PORT, NAME = {str(home)!r}, {str(layout.agent_socket(home))!r}, {port}, {name!r}\n"
            f"PACKAGE, PID = {str(Path(confining.__file__).parent)!r}, {os.getpid()}\n{LOOK}"
        )
        with taken_over(home, look, "itself" if by == "itself" else "bubblewrap") as bench:
            told = bench.run(strange(bench, confined=by == "bubblewrap", strange=by != "nothing"))
    found = dict(line.partition(": ")[::2] for line in told.lost["in.parquet"])
    assert "GROUND_OIDC_CLIENT_SECRET" not in found["environment"]
    if by == "nothing":
        assert (found["key"], found["sockets"]) == ("the key of the home", "True")
        assert [found[what] for what in ("tcp", "agent", "abstract", "kill", "mode", "cut")] == ["None"] * 6
        return
    known = {"GROUND_ATTEMPT", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PWD", "TZ"}
    assert set(eval(found["environment"])) <= known
    assert (home / "key").read_text() == "the key of the home"
    assert found["table"] == str(TABLE)
    assert told.stdout == "madein.parquet\n"
    if by == "itself":
        everything = found.keys() - {"environment", "user", "table"}
        assert {what: found[what] for what in everything} == dict.fromkeys(everything, "PermissionError")
        return
    assert (found["processes"], found["user"]) == ("1", str(confining.USER if os.geteuid() == 0 else os.geteuid()))
    assert found["home"] == "['work']"
    assert sorted(eval(found["work"])) == ["given", "tree"]
    nothing = ("key", "others", "passwords", "agent", "mode", "cut")
    assert [found[what] for what in nothing] == ["FileNotFoundError"] * len(nothing)
    assert [found["tcp"], found["abstract"], found["sockets"]] == [*["ConnectionRefusedError"] * 2, "False"]
    for what in ("source", "beside", "platform", "instead"):
        assert found[what] in ("OSError", "PermissionError"), (what, found[what])
    assert found["kill"] == "ProcessLookupError"


LINKS = {
    "a link": "os.symlink(SECRET, asked['target'])",
    "a pipe": "os.mkfifo(asked['target'])",
    "a folder": "os.mkdir(asked['target'])",
    "nothing": "",
    "a link for its folder": "os.rmdir(os.path.dirname(asked['target']));"
    "os.symlink(os.path.dirname(SECRET), os.path.dirname(asked['target']))",
}


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("instead", LINKS)
def test_what_it_puts_there_instead_leads_nowhere(tmp_path: Path, instead: str, by: str) -> None:
    secret = tmp_path / "somebody" / "in.parquet"
    secret.parent.mkdir()
    secret.write_text("somebody's table")
    secret.chmod(0o600)
    with taken_over(tmp_path / "home", f"SECRET = {str(secret)!r}\n{LINKS[instead]}\nsaid()", by) as bench:
        wanted = strange(bench)
        told = bench.run(wanted)
        assert told.reason is not None, told
        assert (told.started_at, told.stdout, told.outputs) == (0, "", ())
        assert (secret.read_text(), secret.stat().st_mode & 0o777) == ("somebody's table", 0o600)
        again = bench.run(launch("echo the agent goes on"))
        assert again.stdout == "the agent goes on\n"


@pytest.mark.parametrize(
    "answer",
    ["[]", "{}", '{"conversions": [5]}', '{"conversions": [{"target": 1, "error": "x"}]}', "[" * 100_000, "{", ""],
)
def test_what_it_answers_does_not_end_the_agent(tmp_path: Path, answer: str) -> None:
    require("bubblewrap")
    code = f"open(asked['target'], 'w').write('made'); print({answer[:20]!r} * {max(1, len(answer) // 20)})"
    with taken_over(tmp_path / "home", code) as bench:
        pid = bench.agent_pid
        told = bench.run(strange(bench))
        assert told.reason is not None
        assert told.reason.code == "conversion_failed"
        assert bench.agent_pid == pid


def test_nothing_of_it_outlives_it(tmp_path: Path) -> None:
    require("bubblewrap")
    mark = f"32{os.getpid()}"
    code = f"""
open(asked["target"], "w").write("made")
if not os.fork():
    os.setsid()
    os.execve("/usr/bin/sleep", ["sleep", "{mark}"], {{}})
said()
"""
    with taken_over(tmp_path / "home", code) as bench:
        search = ["pgrep", "-f", f"sleep {mark}"]
        wanted = strange(bench, "cat in.parquet; sleep 1")
        bench.submit(wanted)
        eventually(lambda: b"made" in bench.output(wanted))
        assert subprocess.run(search, capture_output=True).returncode == 1  # while its work runs


@pytest.mark.parametrize("by", WAYS)
def test_a_user_without_rights_confines_it_too(by: str) -> None:
    way(by)
    require("root")
    work = Path("/tmp") / f"ground-converter-{os.getpid()}"
    (work / "given").mkdir(parents=True)
    (work / "made").mkdir()
    (work / "given" / "0").write_bytes(TABLE)
    (work / "key").write_text("the key of the home")
    subprocess.run(["cp", "-r", Path(confining.__file__).parent.parent, work / "groundplane"], check=True)
    subprocess.run(["chown", "-R", "1234:1234", work], check=True)
    attack = (
        f"import os; from pathlib import Path; w = Path({str(work)!r})\n"
        "for f in (lambda: (w / 'key').read_text(), lambda: (w / 'given' / '0').write_text('x')):\n"
        "    try: print(f())\n"
        "    except OSError as error: print(type(error).__name__)\n"
        "(w / 'made' / 'x').write_text('made'); print(os.geteuid(), (w / 'given' / '0').read_bytes())"
    )
    given, made = f"{work}/given", f"{work}/made"
    begin = {
        "bubblewrap": "from groundplane.spi import confining; import os; "
        f"words = ['/usr/bin/python3', '-I', '-c', {attack!r}]; "
        f"argv = confining.reader(words, [{given!r}], {made!r}, {str(work)!r}, network=False); os.execv(argv[0], argv)",
        "itself": f"from groundplane.spi import readers; readers.enclose({made!r}, {given!r}); exec({attack!r})",
    }
    try:
        done = subprocess.run(
            ["setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups", "/usr/bin/python3", "-c", begin[by]],
            cwd=work,
            env={"PATH": os.defpath, "PYTHONPATH": str(work)},
            capture_output=True,
            text=True,
        )
        refused = ["FileNotFoundError", "OSError"] if by == "bubblewrap" else ["PermissionError", "PermissionError"]
        assert done.stdout.splitlines() == [*refused, f"1234 {TABLE!r}"], done.stderr
        assert (work / "made" / "x").read_text() == "made"
    finally:
        subprocess.run(["rm", "-rf", work], check=True)


INSIDE = """
import os, socket, sys
sys.path.insert(0, "/src")
from groundplane.spi import confining, readers
print("bubblewrap", "does not" if confining.unavailable() else "works")
for folder in ("given", "made"):
    os.mkdir(f"/tmp/{folder}")
open("/tmp/given/0", "w").write("table")
open("/tmp/key", "w").write("key")
readers.enclose("/tmp/made", "/tmp/given")
for what in (
    lambda: open("/tmp/key").read(), socket.socket, os.fork, lambda: os.kill(1, 0),
    lambda: open("/tmp/given/0").read(), lambda: open("/tmp/made/1", "w").write("made"),
):
    try:
        print(what())
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.mark.parametrize("rights", ["a pod's", "a container's"])
def test_inside_of_a_container_it_confines_itself(docker_engine: str, tiny_image: str, rights: str) -> None:
    """There is no bubblewrap for whoever has no more rights than a control plane's own pod."""
    way("itself")
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command")
    words = ["--read-only", "--network=none", "--tmpfs=/tmp:mode=1777"]
    if rights == "a pod's":
        words += ["--user=1000:1000", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    seen = [f"--volume={path}:{path}:ro" for path in ("/usr", "/bin", "/lib", "/lib64") if Path(path).exists()]
    seen.append(f"--volume={Path(confining.__file__).parents[2]}:/src:ro")
    done = subprocess.run(
        ["docker", "-H", docker_engine, "run", "--rm", *words, *seen, tiny_image, "/usr/bin/python3", "-c", INSIDE],
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["bubblewrap does not", *["PermissionError"] * 4, "table", "4"], done.stderr


def test_a_home_among_the_programs_is_not_seen_with_them(tmp_path: Path) -> None:
    require("bubblewrap")
    require("root")
    home = Path("/opt") / f"ground-home-{os.getpid()}"
    home.mkdir()
    (home / "key").write_text("the key of the home")
    try:
        with agent_bench(home) as bench:
            told = bench.run(launch(f"cat {home}/key; ls -A {home}; echo here", confined=True))
            assert told.stdout == "work\nhere\n", told
            assert bench.run(strange(bench, "head -c 4 in.parquet")).stdout == "PAR1"
    finally:
        subprocess.run(["rm", "-rf", home], check=True)
