"""A control plane that others come to over TCP: who is let in, at the command line, at the page and in a browser."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import Chromium, chromium
from tests.e2e.cli_ground import Ground
from tests.oidc_provider import Browser, free_port
from tests.parts import require

WORD = "correct horse battery staple"


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    made.close()


def up(ground: Ground, *words: str, **env: str) -> str:
    return ground("up", "--port", "0", *words, **env).stdout.split()[-1]


@pytest.fixture
def browser() -> Iterator[Browser]:
    made = Browser()
    yield made
    made.close()


def test_over_loopback_too_everybody_says_who_he_is(ground: Ground) -> None:
    url = up(ground)
    told = ground("status", code=4, GROUND_URL=url).stderr
    assert told.startswith("error: ") and "hint: `ground login`" in told
    made = ground.json("tokens", "create")
    assert set(made) >= {"id", "token", "expires_at"}
    who = json.loads(ground("whoami", "--json", GROUND_URL=url, GROUND_TOKEN=made["token"]).stdout)
    assert who == {"user": ground.json("whoami")["user"], "name": "", "email": "", "teams": [], "roles": ["owner"]}
    ground("tokens", "revoke", made["id"])
    ground("whoami", code=4, GROUND_URL=url, GROUND_TOKEN=made["token"])
    assert not (ground.home / "token").exists()


def test_accounts_teams_projects_and_tokens(ground: Ground) -> None:
    url = up(ground)
    ground("users", "create", "alice")
    ground("teams", "create", "cardio")
    ground("teams", "create", "echo", "--parent", "cardio")
    ground("teams", "add", "cardio", "alice", "--role", "member")
    ground("projects", "create", "trial", "--team", "cardio")
    made = ground.json("tokens", "create", "--user", "alice", "--scope", "run.submit", "--expires", "1h")
    who = json.loads(ground("whoami", "--json", GROUND_URL=url, GROUND_TOKEN=made["token"]).stdout)
    assert who == {"user": "alice", "name": "", "email": "", "teams": ["cardio"], "roles": ["member"]}
    for words in (("users", "create", "bob"), ("teams", "add", "platform", "alice", "--role", "owner"),
                  ("tokens", "create", "--user", "alice")):  # fmt: skip
        assert ground(*words, code=4, GROUND_URL=url, GROUND_TOKEN=made["token"]).stderr.startswith("error: ")
    [listed] = ground.json("tokens", "list")
    assert listed["id"] == made["id"] and listed["used_at"] and "token" not in listed
    assert ground.json("teams", "show", "cardio")["projects"] == ["trial"]
    assert [each["name"] for each in ground.json("teams", "list")] == ["cardio", "echo", "platform"]
    assert ground.json("projects", "list")[0]["team"] == "cardio"
    ground("users", "disable", "alice")
    ground("whoami", code=4, GROUND_URL=url, GROUND_TOKEN=made["token"])
    assert "there is no team 'onco'" in ground("teams", "add", "onco", "alice", "--role", "member", code=2).stderr


def test_beyond_loopback_nothing_listens_before_somebody_can_log_in(ground: Ground) -> None:
    port = free_port()
    for _ in range(2):  # the second time there is a database
        refused = ground("up", "--host", "0.0.0.0", "--port", str(port), code=2).stderr
        assert "beyond loopback" in refused and "hint: set GROUND_OIDC_ISSUER, or ground users create" in refused
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        ground.pid()
        ground("down")
    pid = ground.pid()
    ground("up", "--host", "0.0.0.0", "--port", str(port), code=2)
    assert ground.pid() == pid, "the one that ran was left alone"
    ground("users", "create", "admin", "--password", given=f"{WORD}\n".encode())
    ground("up", "--host", "0.0.0.0", "--port", str(port))
    ground("login", "--user", "admin", given=WORD.encode(), GROUND_URL=f"http://127.0.0.1:{port}")
    assert ground("whoami", GROUND_URL=f"http://127.0.0.1:{port}").stdout.startswith("user  admin")


def test_with_a_provider_it_listens_beyond_loopback(ground: Ground) -> None:
    port = str(free_port())
    oidc = {"GROUND_OIDC_ISSUER": "https://login.example", "GROUND_OIDC_CLIENT_ID": "ground"}
    ground("up", "--host", "0.0.0.0", "--port", port, **oidc)
    pid = ground.pid()
    ground("up", "--port", port)
    assert ground.pid() == pid, "a shell that says nothing of logins leaves them as they are"
    ground("up", "--port", port, **oidc, GROUND_SESSION_IDLE="60")
    assert ground.pid() != pid, "one that says something else of them gets it"
    plain = {**oidc, "GROUND_OIDC_ISSUER": "http://login.example"}
    assert "plain HTTP" in ground("up", "--host", "0.0.0.0", "--port", "0", code=2, **plain).stderr


def logged_in(browser: Browser, url: str, name: str = "admin", password: str = WORD) -> Any:
    page = browser.get(f"{url}/auth/login")
    csrf = re.search(r'name="csrf" value="(\w+)"', page.text)
    assert csrf is not None
    return browser.post(f"{url}/auth/login", {"name": name, "password": password, "csrf": csrf[1]})


def test_the_page_lets_in_by_a_local_password_and_out_again(ground: Ground, browser: Browser) -> None:
    ground("users", "create", "admin", "--password", given=f"{WORD}\n".encode())
    url = up(ground)
    page = browser.get(url + "/")
    assert page.status_code == 401 and 'type="password"' in page.text
    assert browser.get(url + "/", accept="application/json").json()["code"] == "no_token"
    assert browser.post(f"{url}/auth/login", {"name": "admin", "password": WORD}).json()["code"] == "no_csrf"
    refused = logged_in(browser, url, password="not the password")
    assert refused.status_code == 401 and "name or password is wrong" in refused.text
    answer = logged_in(browser, url)
    assert answer.status_code == 303
    cookie = next(line for line in answer.headers.get_list("set-cookie") if line.startswith("ground-session="))
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Path=/" in cookie and "Domain" not in cookie
    page = browser.get(url + "/")
    assert page.status_code == 200 and "<script" not in page.text and "style=" not in page.text
    assert "script-src" not in page.headers["content-security-policy"]
    kept = dict(browser.cookies[url.partition("//")[2]])
    assert browser.get(f"{url}/auth/logout", **{"sec-fetch-site": "cross-site"}).status_code == 403
    assert browser.post(f"{url}/auth/logout", {"csrf": "guessed"}).status_code == 403
    assert browser.get(f"{url}/api/v1/whoami").json()["user"] == "admin"
    csrf = re.search(r'name="csrf" value="(\w+)"', page.text)
    assert csrf is not None
    assert browser.post(f"{url}/auth/logout", {"csrf": csrf[1]}).status_code == 303
    browser.cookies[url.partition("//")[2]] = kept
    assert browser.get(f"{url}/api/v1/whoami").status_code == 401, "a stolen cookie ended with the session"


def test_the_limits_of_sessions_and_logins_are_settings(ground: Ground, browser: Browser) -> None:
    ground("users", "create", "admin", "--password", given=f"{WORD}\n".encode())
    url = up(ground, GROUND_SESSION_IDLE="2", GROUND_LOGIN_FAILURES="2", GROUND_LOGIN_LOCKOUT="2")
    assert logged_in(browser, url).status_code == 303
    assert browser.get(f"{url}/api/v1/whoami").status_code == 200
    time.sleep(2.5)
    assert browser.get(f"{url}/api/v1/whoami").status_code == 401
    for _ in range(2):
        assert logged_in(browser, url, password="not the password").status_code == 401
    assert logged_in(browser, url).status_code == 401, "locked"
    time.sleep(2.5)
    assert logged_in(browser, url).status_code == 303


def certificate(folder: Path) -> tuple[Path, Path]:
    """One for localhost that nobody signed, by openssl's own words."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", chain, "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return chain, key


def test_it_speaks_tls_over_tcp_alone(ground: Ground, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    assert "TLS needs" in ground("up", "--port", "0", "--tls-cert", str(chain), code=2).stderr
    assert "no certificate" in ground("up", "--port", "0", "--tls-cert", str(key), "--tls-key", str(key), code=2).stderr
    url = up(ground, "--tls-cert", str(chain), "--tls-key", str(key))
    assert url.startswith("https://127.0.0.1:")
    token = ground.json("tokens", "create")["token"]  # the unix socket is as it was
    there = {"GROUND_URL": url.replace("127.0.0.1", "localhost"), "GROUND_TOKEN": token}
    assert json.loads(ground("whoami", "--json", **there, SSL_CERT_FILE=str(chain)).stdout)["roles"] == ["owner"]
    assert "certificate" in ground("whoami", code=3, **there).stderr.lower()
    context = ssl.create_default_context(cafile=str(chain))
    port = int(url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as to,
    ):
        to.sendall(b"GET /auth/login HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: to.recv(65536), b"")).decode()
    assert "strict-transport-security: max-age=31536000" in answer
    assert re.search(r"set-cookie: __Host-ground-form=.*; HttpOnly; .*Path=/; .*Secure", answer)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises((ssl.SSLError, ConnectionResetError)):
        old.wrap_socket(plain)


def test_the_page_in_a_real_browser(ground: Ground, tmp_path: Path) -> None:
    """Chromium logs in and out, and complains about nothing that the page's own rules forbid."""
    require("chromium")
    ground("users", "create", "admin", "--password", "--email", "a@x.example", given=f"{WORD}\n".encode())
    url = up(ground)
    with chromium(tmp_path) as browser:
        browser.open(f"{url}/auth/login")
        assert browser.ask("getComputedStyle(document.querySelector('button')).backgroundColor") == "rgb(31, 95, 168)"
        browser.picture(tmp_path / "login.png")
        browser.ask(f"document.forms[0].name.value = 'admin', document.forms[0].password.value = '{WORD}'")
        browser.ask("document.querySelector('button').click()")
        browser.until("document.body.innerText.includes('a@x.example')")
        assert browser.ask("location.pathname") == "/"
        assert browser.ask("document.cookie") == "", "no script can read it"
        browser.picture(tmp_path / "home.png")
        assert not told(browser)
        inline = (
            "const it = document.createElement('script'); it.textContent = 'window.ran = 1'; document.body.append(it)"
        )
        assert browser.ask(f"{inline}; window.ran || 0") == 0, "a script that somebody got into it does not run"
        browser.until("true")
        assert any("Content Security Policy" in text for text in told(browser))
        browser.console.clear()
        browser.ask("document.querySelector('button').click()")
        browser.until("document.querySelector('input[type=password]') !== null")
        assert not told(browser)


def told(browser: Chromium) -> list[str]:
    """What the browser complained about, but that the login page came with status 401."""
    return [text for text in browser.console if "401" not in text]


def a_member(ground: Ground) -> None:
    """alice, of the team whose project is `trial`."""
    ground("users", "create", "alice")
    ground("teams", "create", "cardio")
    ground("teams", "add", "cardio", "alice", "--role", "member")
    ground("projects", "create", "trial", "--team", "cardio")


def test_work_with_scopes_acts_for_whoever_started_it(ground: Ground) -> None:
    require("bubblewrap")
    url = up(ground)
    a_member(ground)
    token = ground.json("tokens", "create", "--user", "alice")["token"]
    ask = (
        "import json, os, urllib.request as u; "
        "r = lambda p: u.urlopen(u.Request(os.environ['GROUND_URL'] + '/api/v1' + p, "
        "headers={'Authorization': 'Bearer ' + os.environ['GROUND_TOKEN']})); "
        "print(json.load(r('/whoami'))['user'], len(json.load(r('/runs'))['runs'])); "
        "print(os.environ['GROUND_TOKEN']); "
        "\ntry: r('/runs/latest/artifacts')\nexcept OSError as error: print(error.code)"
    )
    spec = f"""[project]
name = "trial"
[pipelines.p.steps.a]
command = ["/usr/bin/python3", "-c", {json.dumps(ask)}]
scopes = ["run.see"]
"""
    mine = {"GROUND_URL": url, "GROUND_TOKEN": token}
    (ground.work / "ground.toml").write_text(spec)
    refused = ground("run", "p", code=1, **mine).stderr
    assert "step 'a' has scopes and no network to ask the control plane by: set network = true" in refused
    assert "Connection refused" in refused
    (ground.work / "ground.toml").write_text(f"{spec}network = true\n")
    assert ground("run", "p", **mine).stdout.splitlines() == ["alice 2", "***", "403"]
    assert "has no account" in ground("run", "p", code=2).stderr
    (ground.work / "ground.toml").write_text(spec.replace("run.see", "run.everything"))
    assert "'run.everything' is no scope" in ground("run", "p", code=2, **mine).stderr


def test_a_token_that_may_launch_does_what_ground_run_does(ground: Ground) -> None:
    require("bubblewrap")
    url = up(ground)
    ground("teams", "create", "cardio")
    ground("projects", "create", "trial", "--team", "cardio")
    for name in ("alice", "bob"):
        ground("users", "create", name)
        ground("teams", "add", "cardio", name, "--role", "member")
    bobs = ground.json("tokens", "create", "--user", "bob")["token"]
    (ground.work / "ground.toml").write_text('[project]\nname = "trial"\n')
    (ground.work / "a.sh").write_text("echo done\n")
    ground("secrets", "set", "word", "--project", "trial", given=b"x")
    assert "word" in ground("secrets", "list", GROUND_URL=url, GROUND_TOKEN=bobs).stdout
    other = ground("run", "a.sh", "--detach", GROUND_URL=url, GROUND_TOKEN=bobs).stdout.strip()
    for scope in ("run.submit", "run.*"):
        token = ground.json("tokens", "create", "--user", "alice", "--scope", scope)["token"]
        mine = {"GROUND_URL": url, "GROUND_TOKEN": token}
        assert ground("run", "a.sh", **mine).stdout == "done\n"
        run = ground("run", "a.sh", "--detach", **mine).stdout.strip()
        assert ground("runs", "wait", run, **mine).returncode == 0
        told = ground("artifacts", "list", run, code=4, **mine)
        assert "'token-scope'" in told.stderr
        assert ground("runs", "show", other, code=2 if scope == "run.submit" else 0, **mine)
        refused = ground("runs", "logs", other, code=2 if scope == "run.submit" else 4, **mine).stderr
        assert ("there is no run" if scope == "run.submit" else "'token-scope'") in refused
        assert "word" not in ground("secrets", "list", **mine).stdout


def test_work_with_the_scope_to_launch_sends_a_folder_and_follows_what_it_started(ground: Ground) -> None:
    require("bubblewrap")
    url = up(ground)
    a_member(ground)
    token = ground.json("tokens", "create", "--user", "alice", "--scope", "run.*")["token"]
    (ground.work / "next.py").write_text(
        "import io, json, os, tarfile, time, urllib.request as u, uuid\n"
        "def ask(method, path, body=None, kind='application/json'):\n"
        "    headers = {'Authorization': 'Bearer ' + os.environ['GROUND_TOKEN'], 'Content-Type': kind}\n"
        "    where = os.environ['GROUND_URL'] + '/api/v1' + path\n"
        "    return u.urlopen(u.Request(where, body, headers, method=method)).read()\n"
        "tar = io.BytesIO()\n"
        "with tarfile.open(fileobj=tar, mode='w') as made:\n"
        "    entry = tarfile.TarInfo('./b.sh'); entry.size = 10; made.addfile(entry, io.BytesIO(b'echo after'))\n"
        "folder = json.loads(ask('POST', '/folders?name=trial', tar.getvalue(), 'application/x-tar'))['folder']\n"
        "ms = int(time.time() * 1000)\n"
        "uid = str(uuid.UUID(int=ms << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & (1 << 62) - 1))\n"
        "run = {'target': 'b.sh', 'script': 'b.sh', 'folder': folder, 'context': {'folder': '/', 'variables': {}}}\n"
        "ask('PUT', '/runs/' + uid, json.dumps(run).encode())\n"
        "print(ask('GET', '/runs/' + uid + '/logs?follow=true&form=bytes').decode().strip())\n"
    )
    (ground.work / "ground.toml").write_text(
        '[project]\nname = "trial"\n[pipelines.p.steps.a]\ncommand = ["/usr/bin/python3", "next.py"]\n'
        'scopes = ["run.submit"]\nnetwork = true\n'
    )
    assert ground("run", "p", GROUND_URL=url, GROUND_TOKEN=token).stdout == "after\n"


def test_who_follows_a_log_is_told_when_his_token_has_ended(ground: Ground) -> None:
    url = up(ground)
    ground("users", "create", "alice")
    ground("teams", "create", "cardio")
    ground("teams", "add", "cardio", "alice", "--role", "viewer")
    ground("projects", "create", "trial", "--team", "cardio")
    ground.write("ground.toml", '[project]\nname = "trial"\n')
    ground.write("long.sh", "echo begun\nsleep 600\n")
    run = ground("run", "long.sh", "--detach").stdout.strip()
    made = ground.json("tokens", "create", "--user", "alice")
    mine = {"GROUND_URL": url, "GROUND_TOKEN": made["token"]}
    following = [
        ground.start("runs", *words, **mine)
        for words in (("logs", run, "--follow"), ("wait", run), ("logs", run, "--follow", "--json"))
    ]
    assert following[0].stdout is not None and following[0].stdout.readline() == b"begun\n"
    ground("tokens", "revoke", made["id"])
    for each in following:
        _, told = each.communicate(timeout=30)
        assert each.returncode == 4
        assert told.decode().startswith(
            "error: the token is not known here, or does not hold any more\nhint: `ground login`"
        )
    assert ground.json("runs", "show", run)["state"] == "running"
    ground("runs", "cancel", run)
