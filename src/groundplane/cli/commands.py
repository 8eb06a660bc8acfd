"""The command tree: groups whose commands are imported when they are used, and messages in Groundplane's form."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import click

Table = Mapping[str, tuple[str, str]]
"""Command -> (`module:attribute`, one line of help). The line stands here so that --help imports no command."""


class Lazy(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def __init__(self, name: str, table: Table, *, help: str) -> None:  # noqa: A002 - click's word
        super().__init__(name, help=help, add_help_option=True, no_args_is_help=True)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.table and not name.startswith("-"):
            raise click.UsageError(f"there is no command {ctx.command_path} {name}{close(name, self.table)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.table.items()])


def close(word: str, known: Mapping[str, object]) -> str:
    """`, did you mean …?` as a hint's beginning, or the list of what there is."""
    import difflib

    near = difflib.get_close_matches(word, known, n=2)
    return f"\ndid you mean {' or '.join(near)}?" if near else f"\nthere are: {', '.join(known)}"


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
