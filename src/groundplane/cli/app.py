"""`ground`: the command tree, and what every failure looks like."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from groundplane.cli.commands import Lazy
from groundplane.model.version import VERSION


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"ground {VERSION}")
        ctx.exit()


ROOT = Lazy(
    "ground",
    {
        "run": ("groundplane.cli.run:run", "Run a script or a pipeline and follow it."),
        "plan": ("groundplane.cli.run:plan", "Show what a run would do; nothing starts."),
        "runs": ("groundplane.cli.runs:runs", "List, show, follow, cancel and repeat runs."),
        "artifacts": ("groundplane.cli.artifacts:artifacts", "List and fetch what runs made."),
        "pipelines": ("groundplane.cli.pipelines:pipelines", "Pipelines as files of other systems, and back."),
        "env": ("groundplane.cli.env:env", "Environments: locked, and built into images."),
        "images": ("groundplane.cli.images:images", "Images built from environments."),
        "keys": ("groundplane.cli.images:keys", "The keys that sign provenance."),
        "toolchains": ("groundplane.cli.toolchains:toolchains", "Languages and their engines on this machine."),
        "backends": ("groundplane.cli.backends:backends", "Where work can run."),
        "policy": ("groundplane.cli.policy:policy", "Who may do what: roles, and the firm's own rules."),
        "licences": ("groundplane.cli.licences:licences", "Seats of licensed engines."),
        "quotas": ("groundplane.cli.quotas:quotas", "What teams and projects may have at once."),
        "login": ("groundplane.cli.login:login", "Log in at the control plane that GROUND_URL names."),
        "logout": ("groundplane.cli.login:logout", "End that login."),
        "whoami": ("groundplane.cli.login:whoami", "Show for whom your commands act."),
        "users": ("groundplane.cli.users:users", "Accounts of people and programs."),
        "teams": ("groundplane.cli.teams:teams", "Teams and their members."),
        "projects": ("groundplane.cli.projects:projects", "Whose the runs of a project are."),
        "tokens": ("groundplane.cli.tokens:tokens", "What programs show to say for whom they act."),
        "audit": ("groundplane.cli.audit:audit", "Who did what, and the proof that nobody changed it."),
        "secrets": ("groundplane.cli.secrets:secrets", "Values that work is given and nobody is shown."),
        "connections": ("groundplane.cli.connections:connections", "Databases and buckets by name."),
        "doctor": ("groundplane.cli.doctor:doctor", "Look at this machine and say what is missing."),
        "schema": ("groundplane.cli.doctor:schema", "Print the JSON Schema of ground.toml."),
        "up": ("groundplane.cli.control:up", "Start a control plane that stays, and listens on TCP too."),
        "down": ("groundplane.cli.control:down", "End the control plane; running work runs on."),
        "status": ("groundplane.cli.control:status", "Show the control plane that answers."),
    },
    help="Run any toolchain's work through one infrastructure, and lose nothing.",
)
ROOT.params += [
    click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        help="Print the version.",
        callback=_version,
    ),
    click.Option(["--debug"], is_flag=True, expose_value=False, help="Show a traceback with an error."),
]


_TAKE_ARGUMENTS = ("ground run", "ground plan")


def main() -> None:
    """The console script."""
    code = command(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _closed_pipe()
    sys.stderr.flush()
    os._exit(code)  # everything is out; taking the interpreter apart would cost another 10 ms


def command(arguments: Sequence[str]) -> int:
    """Runs one command line; returns its exit code, having told its failure on standard error."""
    words, debug = _without_debug(list(arguments))
    if "_GROUND_COMPLETE" in os.environ:
        ROOT.main(args=words, prog_name="ground")  # a shell asks how a word may go on
    try:
        # Not ROOT.main: it would make of a closed pipe the exit code of failed work.
        with ROOT.make_context("ground", words) as context:
            ended = ROOT.invoke(context)
        return ended if isinstance(ended, int) else 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.UsageError as error:
        return _usage(error)
    except click.ClickException as error:
        return fail(error.message, code=2)
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        return _closed_pipe()
    except Exception as error:  # noqa: BLE001 - the last place where a failure can be told
        return _tell(error, debug)


def _without_debug(words: list[str]) -> tuple[list[str], bool]:
    """`--debug` counts wherever it stands before `--`."""
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"]
    return kept + words[end:], len(kept) != end or bool(os.environ.get("GROUND_DEBUG"))


def fail(message: str, hint: str = "", *, code: int) -> int:
    """`error:` and `hint:` on standard error; gives the code back."""
    from groundplane.cli.output import printable

    click.echo(f"error: {printable(message, lines=True)}", err=True)
    if hint:
        click.echo(f"hint: {printable(hint, lines=True)}", err=True)
    return code


def _tell(error: Exception, debug: bool) -> int:
    from groundplane.model.errors import GroundError

    if debug:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, GroundError):
        return fail(error.message, error.hint, code=error.exit_code)
    if isinstance(error, FileNotFoundError) and not _here():
        return fail("the current folder does not exist any more", "cd to another one", code=2)
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return fail(f"{name}{error.strerror or error}", "" if debug else "see more with --debug", code=3)
    return fail(
        f"ground failed: {type(error).__name__}: {error}",
        "this is a fault of Groundplane: report it with what --debug shows",
        code=3,
    )


def _usage(error: click.UsageError) -> int:
    """click's words in Groundplane's form; a hint may stand behind the message's newline (see commands.close)."""
    message, _, hint = error.format_message().partition("\n")
    path = error.ctx.command_path if error.ctx else "ground"
    aside = f"what the script itself is to get stands after `--`: {path} TARGET -- ARGS"
    if isinstance(error, click.NoSuchOption):
        message = f"{path} has no option {error.option_name}"
        near = f"did you mean {' or '.join(sorted(error.possibilities))}? " if error.possibilities else ""
        hint = f"{near or f'see {path} --help; '}{aside if path in _TAKE_ARGUMENTS else ''}".rstrip("; ")
    elif path in _TAKE_ARGUMENTS and "unexpected extra argument" in message:
        message, hint = message.replace("Got", "there is").replace("got", "there is"), aside
    elif message[:1].isupper():
        message = message[0].lower() + message[1:]
    return fail(message.rstrip("."), hint or f"see {path} --help", code=error.exit_code)


def _here() -> bool:
    try:
        return bool(os.getcwd())  # noqa: PTH109 - Path.cwd() would raise the same
    except FileNotFoundError:
        return False


def _closed_pipe() -> int:
    """Whoever read the output has gone: say nothing, not even at the interpreter's end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return 141
