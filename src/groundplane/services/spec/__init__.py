"""`ground.toml`: its text becomes pipelines, checked in whole before anything starts.

`parse` reads the file, `pipeline` picks one, `resolve` checks it against the project folder and the command line.
`single` makes the pipeline of a lone script. fanout.py tells the tasks of a fan-out and where many files go.
"""

from __future__ import annotations

from groundplane.services.spec.document import Project, parse, pipeline
from groundplane.services.spec.fanout import fill, items, joined, placed
from groundplane.services.spec.format import schema
from groundplane.services.spec.resolve import resolve
from groundplane.services.spec.single import single

__all__ = ["Project", "fill", "items", "joined", "parse", "pipeline", "placed", "resolve", "schema", "single"]
