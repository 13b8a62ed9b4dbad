from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.conf import settings as real
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from mailhub import checks

PRODUCTION = {
    "DEBUG": "false",
    "SECRET_KEY": "a-long-and-random-key-for-this-test-alone-0123456789-abcdefghijk",
    "MAILHUB_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    "MAILHUB_PUBLIC_URL": "https://mail.example.com",
}


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    # Whatever a developer's .env says, these go before it.
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=real.BASE_DIR, env=kept | environment, capture_output=True, text=True)  # noqa: S603


def ids(*, deploy: bool = False) -> list[str]:
    return [message.id for message in run_checks(include_deployment_checks=deploy) if (message.id or "").startswith("mailhub.")]


# ---------------------------------------------------------------------------------------------------------------- as an operator


def test_a_sensible_production_is_clean() -> None:
    result = manage("check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert result.returncode == 0, result.stderr
    assert "no issues" in result.stdout


def test_production_without_secrets_is_told_what_to_set_and_how() -> None:
    result = manage("check", "--deploy", **{**PRODUCTION, "SECRET_KEY": "", "MAILHUB_ENCRYPTION_KEYS": ""})
    assert result.returncode == 1
    for name in ("SECRET_KEY", "MAILHUB_ENCRYPTION_KEYS"):
        assert f"{name} is not set." in result.stderr
        assert f"Put {name}=... into the environment or into .env." in result.stderr


@pytest.mark.parametrize("name", ["SECRET_KEY", "MAILHUB_ENCRYPTION_KEYS"])
def test_the_recipe_for_a_secret_works(name: str) -> None:
    recipe = checks.HOW_TO_MAKE[name].removeprefix('python -c "').removesuffix('"')
    made = subprocess.run([sys.executable, "-c", recipe], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    result = manage("check", "--deploy", "--fail-level", "WARNING", **{**PRODUCTION, name: made})
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", ["worker", "schedule"])
def test_no_work_is_done_without_secrets(command: str) -> None:
    result = manage(command, **{**PRODUCTION, "SECRET_KEY": ""})
    assert result.returncode == 1
    assert "mailhub.E001" in result.stderr


def test_no_page_is_served_without_secrets() -> None:
    environment = {**os.environ, **PRODUCTION, "MAILHUB_ENCRYPTION_KEYS": ""}
    command = [sys.executable, "-c", "import mailhub.wsgi"]
    result = subprocess.run(command, cwd=real.BASE_DIR, env=environment, capture_output=True, text=True)  # noqa: S603
    assert result.returncode == 1
    assert "MAILHUB_ENCRYPTION_KEYS is not set." in result.stderr.splitlines()[-1]


def test_a_page_is_served_with_them() -> None:
    environment = {**os.environ, **PRODUCTION}
    command = [sys.executable, "-c", "import mailhub.wsgi"]
    subprocess.run(command, cwd=real.BASE_DIR, env=environment, check=True)  # noqa: S603


# ---------------------------------------------------------------------------------------------------------------- one by one


def test_this_very_site_has_no_errors() -> None:
    assert ids() == []


def test_a_malformed_key_is_an_error_that_does_not_show_it(settings: Settings) -> None:
    settings.MAILHUB_ENCRYPTION_KEYS = [Fernet.generate_key().decode(), "hunter2"]
    (error,) = checks.encryption_keys_are_keys()
    assert error.id == "mailhub.E002"
    assert "Key 2" in error.msg
    assert "hunter2" not in str(error)
    with pytest.raises(ImproperlyConfigured, match="Key 2"):
        checks.refuse_to_serve()


@pytest.mark.parametrize("shared", ["SECRET_KEY", "SECRET_KEY_FALLBACKS"])
def test_one_key_for_two_purposes_is_an_error(settings: Settings, shared: str) -> None:
    key = Fernet.generate_key().decode()
    settings.MAILHUB_ENCRYPTION_KEYS = [key]
    setattr(settings, shared, key if shared == "SECRET_KEY" else [key])
    assert ids() == ["mailhub.E003"]


@pytest.mark.parametrize("queue", [None, "transactional", "maintenance"])
def test_a_retry_that_would_start_tasks_twice_is_an_error(settings: Settings, queue: str | None) -> None:
    cluster: dict[str, Any] = copy.deepcopy(settings.Q_CLUSTER)
    changed = cluster if queue is None else cluster["ALT_CLUSTERS"][queue]
    # Two workers, two tasks in memory and one in the pusher's hand: a task may wait for two others.
    changed |= {"workers": 2, "queue_limit": 2, "bulk": 1, "timeout": 100, "retry": 301}
    settings.Q_CLUSTER = cluster
    assert ids() == []
    changed["retry"] = 300
    assert "mailhub.E004" in ids()


def test_a_pool_of_connections_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not checks.connections_are_not_pooled()
    monkeypatch.setitem(real.DATABASES["default"], "OPTIONS", {"pool": True})
    assert [error.id for error in checks.connections_are_not_pooled()] == ["mailhub.E005"]


def test_credentials_that_every_relay_would_fall_back_to_are_an_error(settings: Settings) -> None:
    settings.ANYMAIL = {"POSTMARK_SERVER_TOKEN": "x"}
    assert ids() == ["mailhub.E006"]


def test_links_without_https_are_a_warning_when_deploying(settings: Settings) -> None:
    settings.PUBLIC_HTTPS = False
    assert "mailhub.W001" in ids(deploy=True)
    assert ids() == []


def test_any_host_is_a_warning_when_deploying(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    assert "mailhub.W002" in ids(deploy=True)


def test_many_workers_on_sqlite_are_a_warning_when_deploying(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(real.DATABASES["default"], "ENGINE", "django.db.backends.sqlite3")
    settings.MAILHUB_WORKERS = checks.CROWD
    assert not checks.sqlite_is_not_crowded()
    settings.MAILHUB_WORKERS = checks.CROWD + 1
    assert [warning.id for warning in checks.sqlite_is_not_crowded()] == ["mailhub.W003"]
