"""`python -m bench [NAME…] [--write PAGE]`: measures and prints; writes only when asked to."""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import re
import sys
from pathlib import Path

from bench.figures import Figure, machine, table

NAMES = ("startup", "throughput", "server", "listing", "logs", "policy", "containers", "kubernetes", "audit")
_PART = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Figures beside the bare limit of the same run."
    )
    parser.add_argument(
        "names", nargs="*", choices=[*NAMES, []], metavar="NAME", help=f"one of {', '.join(NAMES)}; all"
    )
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="put the table into this page, such as docs/performance.md"
    )
    options = parser.parse_args()
    described = machine()
    print(described, file=sys.stderr)
    figures: list[Figure] = []
    for name in options.names or NAMES:
        for figure in importlib.import_module(f"bench.{name}").measure():
            print(f"{figure.name}: {figure.measured}", file=sys.stderr, flush=True)
            figures.append(figure)
    print(table(figures))
    if options.write:
        today = datetime.datetime.now(datetime.UTC).date()
        text = options.write.read_text(encoding="utf-8")
        body = f"{described}, {os.getloadavg()[0]:.1f} after; {today}.\n\n{table(figures)}\n"
        fresh, count = _PART.subn(lambda found: found[1] + body + found[2], text)
        if count != 1:
            parser.error(f"{options.write} has no place for figures (<!-- figures --> … <!-- end of figures -->)")
        options.write.write_text(fresh, encoding="utf-8")
    return 1 if any(figure.holds is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
