"""What of the caller's shell travels with a run, so that a script runs with what the shell would have started."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from groundplane.model import environment
from groundplane.model.errors import Invalid
from groundplane.model.requests import Context

NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "LD_LIBRARY_PATH"),
        *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"),
        *("R_HOME", "R_ENVIRON_USER", "R_PROFILE_USER", "MATLABPATH", "OCTAVE_PATH"),
        *("MLM_LICENSE_FILE", "LM_LICENSE_FILE"),
        *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
        *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    }
)
PREFIXES = ("CONDA_", "R_LIBS")


def caller(environ: Mapping[str, str] = os.environ) -> Context:
    """The current folder and the variables of NAMES and PREFIXES that are set."""
    return Context(
        folder=os.getcwd(),  # noqa: PTH109 - a deleted current folder is told apart in cli/app.py
        variables={name: value for name, value in environ.items() if name in NAMES or name.startswith(PREFIXES)},
    )


def chosen(entries: Iterable[str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`-e NAME=VALUE` and `-e NAME` (the caller's own value) as a mapping. Raises Invalid."""
    found: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not name:
            raise Invalid(f"-e {entry!r} has no name", hint="write -e NAME=VALUE, or -e NAME for the value set here")
        if not equals:
            if name not in environ:
                raise Invalid(f"the variable {name!r} is not set here", hint=f"write -e {name}=VALUE, or export it")
            value = environ[name]
        found[name] = value
    environment.check(found)
    return found


def parameters(entries: Iterable[str]) -> dict[str, str]:
    """`-p NAME=VALUE` as a mapping; a later one wins. Raises Invalid for one without `=`."""
    found: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals or not name:
            raise Invalid(f"-p {entry!r} is not NAME=VALUE", hint=f"write -p {name or 'NAME'}=VALUE")
        found[name] = value
    return found
