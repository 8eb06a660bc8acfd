"""Logging in through a real OpenID provider: at the page by code and PKCE, at the command line by device code."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

import pytest

from tests.e2e.cli_ground import BIN, Ground
from tests.oidc_provider import CLIENT, SECRET, SECRET_CLIENT, Browser, Provider, free_port, provider
from tests.parts import require

PORT = free_port()
URL = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    require("oidc-provider")
    with provider(tmp_path_factory.mktemp("provider"), [f"{URL}/auth/callback"]) as made:
        made.say("alice", name="Alice Ångström", preferred_username="alice", email="alice@x.example",
                 email_verified=True, groups=["cardio", "nowhere", "platform"])  # fmt: skip
        made.say("mallory", preferred_username="alice", groups=[])
        yield made


@pytest.fixture(scope="module", params=[CLIENT, SECRET_CLIENT])
def ground(
    request: pytest.FixtureRequest, people: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    """A control plane that knows the provider: as a public client, and as one with a secret."""
    secret = {"GROUND_OIDC_CLIENT_SECRET": SECRET} if request.param == SECRET_CLIENT else {}
    folder = tmp_path_factory.mktemp("ground")
    made = Ground(folder, GROUND_OIDC_ISSUER=people.issuer, GROUND_OIDC_CLIENT_ID=request.param, **secret)
    made("up", "--port", str(PORT))
    made("teams", "create", "cardio")
    yield made
    made.close()


@pytest.fixture
def browser() -> Iterator[Browser]:
    made = Browser()
    yield made
    made.close()


def begun(browser: Browser) -> str:
    """Where the page's login sends the browser."""
    answer = browser.get(f"{URL}/auth/login")
    assert answer.status_code == 303
    return answer.headers["location"]


def returned(browser: Browser, url: str, login: str, amr: str = "") -> str:
    """Logs in at the provider; the address that it sends the browser back to."""
    answer = browser.follow(browser.get(url), until="/auth/callback", login=login, amr=amr)
    return answer.headers["location"]


def refused(browser: Browser, url: str) -> str:
    answer = browser.get(url)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "login_refused"
    assert "ground-session" not in browser.cookies[f"127.0.0.1:{PORT}"]
    return answer.json()["detail"]


def changed(url: str, **values: str) -> str:
    parts = urlsplit(url)
    query = "&".join(f"{name}={value}" for name, value in {**flat(url), **values}.items())
    return urlunsplit(parts._replace(query=query))


def flat(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def logged(ground: Ground) -> list[tuple[str, list[str], str]]:
    """user, methods, level of the logins in the record, newest first."""
    with closing(sqlite3.connect(ground.home / "ground.db")) as database:
        rows = database.execute("SELECT user_id, methods, level FROM sessions ORDER BY id DESC").fetchall()
        names = dict(database.execute("SELECT id, name FROM users").fetchall())
    return [(names[user], json.loads(methods), level) for user, methods, level in rows]


def test_code_and_pkce_let_in_and_groups_are_teams(ground: Ground, browser: Browser) -> None:
    url = begun(browser)
    asked = flat(url)
    assert asked["code_challenge_method"] == "S256" and len(asked["code_challenge"]) == 43
    assert asked["state"] and asked["nonce"] and asked["response_type"] == "code"
    assert "groups" in asked["scope"].split()
    page = browser.follow(browser.get(returned(browser, url, "alice", "pwd otp")))
    assert page.status_code == 200 and str(page.request.url) == f"{URL}/"
    assert "alice@x.example" in page.text and "cardio" in page.text
    who = browser.get(f"{URL}/api/v1/whoami").json()
    assert who == {"user": "alice", "name": "Alice Ångström", "email": "alice@x.example", "teams": ["cardio"],
                   "roles": ["member"]}  # fmt: skip
    assert logged(ground)[0] == ("alice", ["otp", "pwd"], "mfa"), "what policy may ask for"
    csrf = re.search(r'name="csrf" value="(\w+)"', page.text)
    assert csrf is not None
    assert browser.post(f"{URL}/auth/logout", {"csrf": csrf[1]}).status_code == 303
    assert browser.get(f"{URL}/api/v1/whoami").status_code == 401


def test_a_group_that_is_gone_is_a_team_no_more(ground: Ground, people: Provider, browser: Browser) -> None:
    people.say("bea", preferred_username="bea", groups=["cardio"])
    browser.get(returned(browser, begun(browser), "bea"))
    assert browser.get(f"{URL}/api/v1/whoami").json()["teams"] == ["cardio"]
    ground("teams", "add", "cardio", "bea", "--role", "viewer")
    people.say("bea", preferred_username="bea", groups=[])
    again = Browser()
    again.get(returned(again, begun(again), "bea"))
    who = again.get(f"{URL}/api/v1/whoami").json()
    again.close()
    assert (who["teams"], who["roles"]) == (["cardio"], ["viewer"]), "what was given here stays"


def test_a_replayed_callback_is_refused(ground: Ground, browser: Browser) -> None:
    url = returned(browser, begun(browser), "alice")
    before = dict(browser.cookies[f"127.0.0.1:{PORT}"])
    assert browser.get(url).status_code == 303
    browser.cookies[f"127.0.0.1:{PORT}"] = {}
    assert "no login of this browser" in refused(browser, url)
    browser.cookies[f"127.0.0.1:{PORT}"] = before  # also with the cookie of its login
    assert "used already" in refused(browser, url)


def test_a_code_of_another_login_is_refused_by_the_provider_too(ground: Ground, browser: Browser) -> None:
    first = returned(browser, begun(browser), "alice")
    second = begun(browser)
    assert "invalid_grant" in refused(browser, changed(first, state=flat(second)["state"]))


def test_a_wrong_state_is_refused(ground: Ground, browser: Browser) -> None:
    assert "not to this browser" in refused(browser, changed(returned(browser, begun(browser), "alice"), state="x"))


def test_another_browsers_answer_is_refused(ground: Ground, browser: Browser) -> None:
    thief = Browser()
    begun(thief)
    url = returned(browser, begun(browser), "alice")
    refused(thief, url)
    thief.close()


def test_a_wrong_nonce_is_refused(ground: Ground, browser: Browser) -> None:
    url = returned(browser, changed(begun(browser), nonce="of-another-login"), "alice")
    assert "nonce" in refused(browser, url)


def test_a_wrong_verifier_is_refused_by_the_provider(ground: Ground, browser: Browser) -> None:
    url = returned(browser, changed(begun(browser), code_challenge="A" * 43), "alice")
    assert "invalid_grant" in refused(browser, url)


def test_a_login_that_the_person_broke_off(ground: Ground, browser: Browser) -> None:
    state = flat(begun(browser))["state"]
    assert "access_denied" in refused(browser, f"{URL}/auth/callback?error=access_denied&state={state}")


def test_nobody_takes_over_the_name_of_another(ground: Ground, browser: Browser) -> None:
    """Whom the provider calls `alice` is not alice when it knows him by another subject, nor whoever has a password."""
    browser.get(returned(browser, begun(browser), "alice"))
    thief = Browser()
    answer = thief.get(returned(thief, begun(thief), "mallory"))
    thief.close()
    assert answer.status_code == 403 and answer.json()["code"] == "account_taken"


def test_a_disabled_account_is_let_in_no_more(ground: Ground, people: Provider, browser: Browser) -> None:
    people.say("carl", preferred_username="carl")
    browser.get(returned(browser, begun(browser), "carl"))
    assert browser.get(f"{URL}/api/v1/whoami").status_code == 200
    ground("users", "disable", "carl")
    assert browser.get(f"{URL}/api/v1/whoami").status_code == 401
    again = browser.get(returned(browser, begun(browser), "carl"))
    assert again.status_code == 403 and "disabled" in again.json()["detail"]


def test_the_command_line_logs_in_by_device_code(ground: Ground, browser: Browser) -> None:
    env = {**ground.env, "GROUND_URL": URL}
    process = subprocess.Popen(
        [BIN / "ground", "login"], env=env, cwd=ground.work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    where, code = (process.stdout.readline().split()[1] for _ in range(2))
    assert code in where or code.replace("-", "") in where
    assert process.poll() is None, "it waits"
    done = browser.follow(browser.get(where), login="alice", amr="pwd otp")
    assert "successful" in done.text
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "logged in as alice" in err
    kept = Path(ground.env["XDG_CONFIG_HOME"]) / "groundplane" / "logins.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    who = json.loads(ground("whoami", "--json", GROUND_URL=URL).stdout)
    assert who["user"] == "alice" and who["teams"] == ["cardio"]
    token = json.loads(kept.read_text())[URL]["token"]
    assert ground("whoami", GROUND_URL=URL, GROUND_TOKEN=token).returncode == 0
    ground("logout", GROUND_URL=URL)
    assert ground("whoami", GROUND_URL=URL, code=4).stderr.startswith("error: ")
    assert ground("whoami", GROUND_URL=URL, GROUND_TOKEN=token, code=4).stderr.startswith("error: ")


def test_the_secret_of_the_client_reaches_neither_agent_nor_work(ground: Ground) -> None:
    if "GROUND_OIDC_CLIENT_SECRET" not in ground.env:
        pytest.skip("this one has no secret")
    ground.write("env.sh", "env; cat /proc/$PPID/environ | tr '\\0' '\\n'\n")
    assert ground.json("run", "env.sh")["state"] == "succeeded"
    agent = ground.json("status")["agent_pid"]
    environment = Path(f"/proc/{agent}/environ").read_bytes()
    assert SECRET.encode() not in environment and b"GROUND_HOME" in environment
    assert SECRET not in ground("runs", "logs", "latest").stdout
    assert SECRET not in (ground.home / "control.log").read_text()
    assert SECRET not in (ground.home / "run" / "control.json").read_text()
