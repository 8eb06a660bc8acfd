"""What the environment may say about logins."""

from __future__ import annotations

import pytest

from groundplane.model.errors import Invalid
from groundplane.services.login_rules import LoginRules, ProviderRules, from_environment
from groundplane.spi import settings

OIDC = {"GROUND_OIDC_ISSUER": "https://login.example", "GROUND_OIDC_CLIENT_ID": "ground"}


def test_what_is_not_said_is_as_documented() -> None:
    rules = from_environment({"GROUND_SESSION_IDLE": "", "GROUND_PUBLIC_URL": ""})
    assert rules == LoginRules()
    assert (rules.idle, rules.longest, rules.failures, rules.lockout) == (15 * 60, 12 * 3600, 10, 30 * 60)


def test_all_of_it() -> None:
    said = {
        **OIDC, "GROUND_SESSION_IDLE": "90", "GROUND_SESSION_MAX": "1h", "GROUND_LOGIN_FAILURES": "3",
        "GROUND_LOGIN_LOCKOUT": "5m", "GROUND_LOGIN_RATE": "7", "GROUND_PUBLIC_URL": "https://ground.example/",
        "GROUND_OIDC_CLIENT_SECRET": "s", "GROUND_OIDC_GROUPS_CLAIM": "roles",
    }  # fmt: skip
    provider = ProviderRules("https://login.example", "ground", "s", "roles")
    assert from_environment(said) == LoginRules(90, 3600, 3, 300, 7, "https://ground.example", provider)
    assert set(said) == set(settings.OF_LOGINS), "what a control plane keeps that it was started with"


@pytest.mark.parametrize("issuer", ["http://127.0.0.1:9", "http://localhost", "http://[::1]:80/realm", "https://a/b"])
def test_plain_http_on_loopback_alone(issuer: str) -> None:
    rules = from_environment({**OIDC, "GROUND_OIDC_ISSUER": issuer})
    assert rules.provider is not None and rules.provider.issuer == issuer


@pytest.mark.parametrize(
    "said",
    [
        {**OIDC, "GROUND_OIDC_ISSUER": "http://login.example"}, {**OIDC, "GROUND_OIDC_ISSUER": "http://127.0.0.1.evil.example"},
        {**OIDC, "GROUND_OIDC_ISSUER": "login.example"}, {**OIDC, "GROUND_OIDC_ISSUER": "https://a?b"},
        {**OIDC, "GROUND_OIDC_CLIENT_ID": ""}, {**OIDC, "GROUND_OIDC_ISSUER": ""}, {"GROUND_SESSION_IDLE": "0"},
        {"GROUND_SESSION_MAX": "soon"}, {"GROUND_LOGIN_FAILURES": "0"}, {"GROUND_LOGIN_FAILURES": "-1"},
        {"GROUND_LOGIN_RATE": "many"}, {"GROUND_LOGIN_LOCKOUT": "-5"}, {"GROUND_PUBLIC_URL": "ground.example"},
        {"GROUND_PUBLIC_URL": "https://ground.example/below"},
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(said: dict[str, str]) -> None:
    with pytest.raises(Invalid) as refused:
        from_environment(said)
    assert "GROUND_" in refused.value.message and refused.value.hint


def test_two_environments_are_told_apart_without_what_they_say() -> None:
    digest = settings.digest({**OIDC, "GROUND_OIDC_CLIENT_SECRET": "secret", "HOME": "/root"})
    assert digest == settings.digest({"GROUND_OIDC_CLIENT_SECRET": "secret", **OIDC})
    assert digest != settings.digest(OIDC) and "secret" not in digest
    assert settings.digest({"HOME": "/root", "GROUND_OIDC_ISSUER": ""}) == ""
