"""`ground runs …`."""

from __future__ import annotations

import os
import sys

import click

from groundplane.cli.commands import Lazy, json_option

_HERE = "groundplane.cli.runs"

runs = Lazy(
    "runs",
    {
        "list": (f"{_HERE}:list_", "List runs, newest first."),
        "show": (f"{_HERE}:show", "Show a run and its tasks."),
        "logs": (f"{_HERE}:logs", "Print a run's log."),
        "wait": (f"{_HERE}:wait", "Wait for a run's end."),
        "cancel": (f"{_HERE}:cancel", "Cancel a run."),
        "rerun": (f"{_HERE}:rerun", "Run a run's snapshot and plan again."),
    },
    help="List, show, follow, cancel and repeat runs. ID may be shortened; `latest` is the newest run.",
)


@click.command("list")
@click.option("--state", metavar="STATE", help="Only runs in this state.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, metavar="N", help="How many.")
@click.option("--cursor", metavar="CURSOR", help="Go on where a page ended (its `next`).")
@json_option
def list_(state: str | None, limit: int, cursor: str | None, as_json: bool) -> None:
    """List runs, newest first."""
    from groundplane.cli import output
    from groundplane.client import Client
    from groundplane.model.quantities import format_duration

    with Client() as client:
        page = client.runs(state, limit, cursor)
    if as_json:
        output.print_json(page)
        return
    rows: list[tuple[str, ...]] = []
    for run in page.runs:
        span = output.seconds_between(run.started_at, run.finished_at)
        took = "-" if span is None else format_duration(span)
        rows.append((output.short(run.id), run.name, run.state, output.age(run.submitted_at), took, run.backend))
    if rows:
        output.table(("ID", "NAME", "STATE", "SUBMITTED", "TOOK", "BACKEND"), rows, states=2)
    else:
        print("no runs yet: ground run SCRIPT starts one" if state is None else f"no runs are {state}", file=sys.stderr)
    if page.next:
        print(f"more: ground runs list --cursor {page.next}", file=sys.stderr)


@click.command()
@click.argument("run_id", metavar="ID")
@json_option
def show(run_id: str, as_json: bool) -> None:
    """Show a run and its tasks."""
    from groundplane.cli import output, summary
    from groundplane.client import Client

    with Client() as client:
        run = client.run(run_id)
    if as_json:
        output.print_json(run)
        return
    reason = run.reason
    output.pairs(
        [
            ("id", run.id),
            ("project", run.project),
            ("team", run.team),
            ("labels", ", ".join(run.labels)),
            ("backend", run.backend),
            ("by", run.actor),
            ("parameters", " ".join(f"{name}={value}" for name, value in run.parameters.items())),
            ("environment", ", ".join(run.environment)),
            ("submitted", output.when(run.submitted_at)),
            ("started", output.when(run.started_at)),
            ("finished", output.when(run.finished_at)),
            ("reason", "" if reason is None else f"{reason.message} ({reason.code}, {reason.fault})"),
            ("hint", "" if reason is None else reason.hint),
            *(("warning", warning) for warning in run.warnings),
            ("again of", run.rerun_of or ""),
            ("metrics", ", ".join(f"{name} {value}" for name, value in run.metrics.items())),
        ]
    )
    print()
    summary.tree(run, sys.stdout)


@click.command()
@click.argument("run_id", metavar="ID")
@click.option("--follow", is_flag=True, help="Until the run has ended.")
@click.option("--task", metavar="NAME", help="Only this task's, or this step's.")
@json_option
def logs(run_id: str, follow: bool, task: str | None, as_json: bool) -> None:
    """Print a run's log: its stdout on stdout, its stderr on stderr; with --json as JSON lines."""
    from groundplane.cli.following import write_pieces
    from groundplane.client import Client
    from groundplane.client.loglines import Joiner, json_lines

    with Client() as client:
        if not as_json:
            for pieces in client.pieces(run_id, follow=follow, task=task):
                write_pieces(pieces)
            return
        joiner = Joiner()
        for pieces in client.pieces(run_id, follow=follow, task=task):
            sys.stdout.buffer.writelines(json_lines(line for piece in pieces for line in joiner.feed(piece)))
            sys.stdout.buffer.flush()
        sys.stdout.buffer.writelines(json_lines(joiner.rest()))


@click.command()
@click.argument("run_id", metavar="ID")
@json_option
def wait(run_id: str, as_json: bool) -> int:
    """Wait for a run's end; the exit code is as `ground run`'s. Ctrl-C leaves the run alone."""
    from groundplane.cli import following, output, summary
    from groundplane.client import Client

    with Client() as client:
        known = client.run(run_id)
        lone = not known.pipeline
        run = following.follow(client, known.id, as_json=as_json, lone=lone, logs=False)
    if as_json:
        output.print_json(run)
    summary.ending(run, lone=lone, files=None, brief=as_json)
    return summary.exit_code(run)


@click.command()
@click.argument("run_id", metavar="ID")
@json_option
def cancel(run_id: str, as_json: bool) -> None:
    """Cancel a run: what runs is ended, what waits never starts."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        run = client.cancel(run_id)
    if as_json:
        output.print_json(run)
    else:
        print(f"{output.short(run.id)} is {run.state}")


@click.command()
@click.argument("run_id", metavar="ID")
@click.option("--failed", is_flag=True, help="Keep what succeeded; run the rest.")
@click.option("-e", "environment", multiple=True, metavar="NAME[=VALUE]", help="A variable for the work.")
@json_option
def rerun(run_id: str, failed: bool, environment: tuple[str, ...], as_json: bool) -> int:
    """Run a run's exact snapshot and plan again, and follow it.

    Values that it was given with -e were not kept: they are taken from this shell, or from -e.
    """
    from groundplane.cli import following
    from groundplane.client import Client, context

    chosen = context.chosen(environment)
    with Client() as client:
        old = client.run(run_id)
        given = {name: os.environ[name] for name in old.environment if name in os.environ}
        values = {**given, **chosen}
        return following.rerun_and_follow(client, old.id, failed=failed, environment=values, as_json=as_json)
