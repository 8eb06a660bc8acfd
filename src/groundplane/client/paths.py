"""Paths of the API."""

from __future__ import annotations

from urllib.parse import quote, urlencode


def path(*parts: str, **query: object) -> str:
    """`/runs/ID/logs?follow=true`; None is left out. A name that is no UTF-8 goes as the bytes that it is."""
    values = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in query.items()
        if value is not None
    }
    found = "".join(f"/{quote(part, safe='', errors='surrogateescape')}" for part in parts)
    return f"{found}?{urlencode(values, errors='surrogateescape')}" if values else found
