"""`ground run` and `ground plan`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from groundplane.cli.commands import json_option
from groundplane.model.errors import Invalid

if TYPE_CHECKING:
    from groundplane.model.documents import RunRequest

F = TypeVar("F", bound=Callable[..., Any])


class Target(click.Command):
    """A command of the form `TARGET [OPTIONS] [-- ARGS...]`: what follows `--` is the script's alone."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        own, rest = args[:end], args[end + 1 :]
        ctx.meta["arguments"] = tuple(rest)
        return super().parse_args(ctx, own)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARGS...]"]


_OPTIONS = (
    click.argument("target"),
    click.option("-p", "--param", "parameters", multiple=True, metavar="NAME=VALUE", help="Set a parameter."),
    click.option("--on", "backend", metavar="BACKEND", help="Where it runs (see: ground backends list)."),
    click.option("--env", "runs_in", metavar="NAME", help="Environment of ground.toml (a variable is set with -e)."),
    click.option("--pipeline", metavar="NAME", help="Which pipeline of the folder's ground.toml."),
    click.option("--toolchain", metavar="NAME", help="What the script is written in, when its name does not tell."),
    click.option("--cpus", type=float, metavar="N", help="CPUs of each task."),
    click.option("--memory", metavar="SIZE", help="Memory limit of each task, such as 2GiB."),
    click.option("--timeout", metavar="TIME", help="Time limit of each attempt, such as 10m."),
    click.option(
        "-e",
        "environment",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="Set a variable for the work; without a value, the one set here.",
    ),
    click.option("--fresh", is_flag=True, help="Reuse nothing of earlier runs."),
)


def _target_options(function: F) -> F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _request(options: dict[str, Any]) -> RunRequest:
    """The options above as a request. Raises Invalid."""
    from groundplane.client import context, requests
    from groundplane.model.quantities import parse_duration, parse_size

    cpus, memory, timeout = options["cpus"], options["memory"], options["timeout"]
    if cpus is not None and not cpus > 0:
        raise Invalid(f"--cpus {cpus:g} is not above 0", hint="write it like --cpus 2 or --cpus 0.5")
    seconds = None if timeout is None else parse_duration(timeout, "--timeout")
    size = None if memory is None else parse_size(memory, "--memory")
    if seconds == 0 or size == 0:
        raise Invalid(f"--{'timeout' if seconds == 0 else 'memory'} is 0", hint="leave it away for no limit")
    return requests.request(
        options["target"],
        pipeline=options["pipeline"],
        toolchain=options["toolchain"],
        arguments=click.get_current_context().meta["arguments"],
        parameters=context.parameters(options["parameters"]),
        environment=context.chosen(options["environment"]),
        backend=options["backend"],
        runs_in=options["runs_in"],
        cpus=cpus,
        memory=size,
        timeout=seconds,
        fresh=options["fresh"],
        tell=lambda note: click.echo(f"note: {note}", err=True),
    )


@click.command(cls=Target)
@_target_options
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Also put the run's artifacts there.")
@click.option("--detach", is_flag=True, help="Return at once; the run goes on.")
@json_option
def run(out: Path | None, detach: bool, as_json: bool, **options: Any) -> int:
    """Run TARGET and follow it.

    TARGET is a script, a folder with a ground.toml, the name of a pipeline in the current folder's ground.toml, or a
    pipeline that the kfp SDK compiled (p.yaml).
    The work's output appears as its own; progress is on standard error. Ctrl-C cancels the run.
    """
    from groundplane.cli import following

    if out is not None:
        from groundplane.cli import delivery

        if detach:
            raise Invalid("--out needs the run's end, --detach does not wait for it", hint="give one of them")
        delivery.check_folder(out)
    request = _request(options)
    return following.submit_and_follow(request, out=out, detach=detach, as_json=as_json)


@click.command(cls=Target)
@_target_options
@json_option
def plan(as_json: bool, **options: Any) -> None:
    """Show what `ground run` with the same arguments would do. Nothing starts."""
    from groundplane.cli import output
    from groundplane.client import Client

    request = _request(options)
    with Client() as client:
        document = client.plan(request)
    if as_json:
        output.print_json(document)
    else:
        from groundplane.cli import plans

        plans.show(document)
