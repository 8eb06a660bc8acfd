"""A real OpenID provider of the tests' own, and somebody with a browser who logs in there."""

from __future__ import annotations

import html
import json
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2

from tests.parts import oidc_folder

CLIENT, SECRET_CLIENT, SECRET = "ground", "ground-secret", "a-secret-of-the-tests-alone"
_SCRIPT = Path(__file__).with_suffix(".mjs")


@dataclass
class Provider:
    """issuer: its address. `people`: claims by login; what is changed counts from the next login on."""

    issuer: str
    _people: Path

    def say(self, login: str, **claims: Any) -> None:
        """What it says of somebody."""
        known = json.loads(self._people.read_text())
        self._people.write_text(json.dumps({**known, login: claims}))


@contextmanager
def provider(folder: Path, redirect_uris: list[str]) -> Iterator[Provider]:
    """It runs meanwhile. redirect_uris: of the control plane."""
    modules = oidc_folder()
    assert modules is not None
    people = folder / "people.json"
    people.write_text("{}")
    grants = ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code"]
    common = {"redirect_uris": redirect_uris, "grant_types": grants, "response_types": ["code"]}
    clients = [
        {"client_id": CLIENT, "token_endpoint_auth_method": "none", **common},
        {"client_id": SECRET_CLIENT, "client_secret": SECRET, **common},
    ]
    argv = ["node", str(_SCRIPT), str(modules), str(free_port()), json.dumps(clients), str(people)]
    with (folder / "provider.log").open("wb") as said:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=said, text=True)
        try:
            assert process.stdout is not None
            ready = process.stdout.readline().split()
            assert ready[:1] == ["ready"], (folder / "provider.log").read_text()
            yield Provider(ready[1], people)
        finally:
            process.terminate()
            process.wait(10)
            process.stdout.close()


class Browser:
    """Follows redirects one by one, with cookies by host and port, and fills in the provider's form."""

    def __init__(self) -> None:
        self.cookies: dict[str, dict[str, str]] = {}
        self._client = httpx2.Client(follow_redirects=False, timeout=20)

    def close(self) -> None:
        self._client.close()

    def get(self, url: str, **headers: str) -> httpx2.Response:
        return self._request("GET", url, None, headers)

    def post(self, url: str, form: Mapping[str, str], **headers: str) -> httpx2.Response:
        return self._request("POST", url, form, headers)

    def follow(self, answer: httpx2.Response, *, until: str = "\0", login: str = "", amr: str = "") -> httpx2.Response:
        """Goes where answers send it, logs in at forms of the provider; stops at a URL with `until` in its path."""
        for _ in range(30):
            if answer.status_code in (301, 302, 303, 307):
                url = urljoin(str(answer.request.url), answer.headers["location"])
                if until in urlsplit(url).path:
                    return answer
                answer = self.get(url)
            elif 'name="login"' in answer.text:
                answer = self.post(str(answer.request.url), {"login": login, "amr": amr})
            elif (form := re.search(r'<form [^>]*method="post"[^>]* action="(http[^"]+)"', answer.text)) is not None:
                fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', answer.text)
                answer = self.post(html.unescape(form[1]), dict(fields))
            else:
                return answer
        raise AssertionError("it goes round in circles")

    def _request(
        self, method: str, url: str, form: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> httpx2.Response:
        jar = self.cookies.setdefault(urlsplit(url).netloc, {})
        sent = {"accept": "text/html", **headers}
        if jar:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        answer = self._client.request(method, url, data=dict(form) if form is not None else None, headers=sent)
        for line in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0" or not morsel.value:
                    jar.pop(name, None)
                else:
                    jar[name] = morsel.value
        return answer


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
