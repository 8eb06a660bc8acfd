"""What the work's container runs when its time has come: a script for any POSIX shell, builtins alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from groundplane.spi.shell_exports import exportable, quoted

# The work is in the background, so that a signal to the shell is heard while it runs. At the end the shell waits for
# the agent's word: the container lives, and with it the pod, until the outputs have been kept.
_RUN = """\
echo "started $$" >"$ground__ctl/exit"
if command -v "$1" >/dev/null 2>&1; then
  ground__child=
  trap '[ -z "$ground__child" ] || kill -TERM "$ground__child"' TERM
  "$@" </dev/null >"$ground__ctl/out" 2>"$ground__ctl/err" &
  ground__child=$!
  wait "$ground__child"
  ground__status=$?
  while kill -0 "$ground__child" 2>/dev/null; do
    wait "$ground__child"
    ground__status=$?
  done
else
  echo missing >"$ground__ctl/exit"
  ground__status=127
fi
trap 'exit "$ground__status"' TERM
times >"$ground__ctl/exit"
echo "exit $ground__status" >"$ground__ctl/exit"
IFS= read -r ground__said <"$ground__ctl/go"
exit "$ground__status"
"""


def begin(control: str, tree: str, argv: Sequence[str], env: Mapping[str, str]) -> bytes:
    """The script that runs `argv` in `tree`. Raises ValueError where a text holds a NUL."""
    lines = [f"export {name}={quoted(value)}" for name, value in env.items() if exportable(name)]
    lines.append(f"ground__ctl={quoted(control)}")
    lines.append(f'cd {quoted(tree)} || {{ echo "exit 126" >"$ground__ctl/exit"; exit 126; }}')
    lines.append("set -- " + " ".join(map(quoted, argv)))
    text = "\n".join(lines) + "\n" + _RUN
    if "\0" in text:
        raise ValueError("embedded null byte")
    return text.encode(errors="surrogateescape")


def give_up(status: int) -> bytes:
    """The script of a container whose work will not begin."""
    return f"exit {status}\n".encode()
