"""Settings as a process finds them: each test starts one, with an environment of its own."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from mailhub.lib import dotenv, envvars

ROOT = Path(settings.BASE_DIR)


def python(code: str, root: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=root, env=kept | environment, capture_output=True, text=True)  # noqa: S603


def value(name: str, root: Path = ROOT, **environment: str) -> str:
    result = python(f"from mailhub import settings; print(settings.{name})", root, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """The project as it was cloned: no .env."""
    shutil.copytree(ROOT / "mailhub", tmp_path / "mailhub", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    return tmp_path


# ---------------------------------------------------------------------------------------------------------------- secrets


def test_in_development_missing_secrets_are_made_once_and_kept_for_the_owner_alone(fresh: Path) -> None:
    code = "from mailhub import settings; print(settings.SECRET_KEY, settings.MAILHUB_ENCRYPTION_KEYS, settings.MISSING_SECRETS)"
    first = python(code, fresh, DEBUG="true")
    second = python(code, fresh, DEBUG="true")
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert first.stdout.endswith("[]\n")
    lines = (fresh / ".env").read_text().splitlines()
    assert [line.partition("=")[0] for line in lines] == ["SECRET_KEY", "MAILHUB_ENCRYPTION_KEYS"]
    assert stat.S_IMODE((fresh / ".env").stat().st_mode) == 0o600
    Fernet(lines[1].partition("=")[2])


def test_in_production_missing_secrets_are_named_and_nothing_is_written(fresh: Path) -> None:
    assert value("MISSING_SECRETS", fresh) == "['SECRET_KEY', 'MAILHUB_ENCRYPTION_KEYS']"
    assert not (fresh / ".env").exists()


def test_the_environment_goes_before_the_file(fresh: Path) -> None:
    (fresh / ".env").write_text("SECRET_KEY=from-the-file\nTIME_ZONE=Asia/Tokyo\n")
    assert value("SECRET_KEY", fresh, SECRET_KEY="from-the-environment") == "from-the-environment"
    assert value("SECRET_KEY", fresh) == "from-the-file"
    assert value("TIME_ZONE", fresh) == "Asia/Tokyo"


def test_a_secret_is_kept_beside_what_the_file_holds_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    path = tmp_path / ".env"
    path.write_text("DEBUG=true")
    path.chmod(0o644)
    assert dotenv.keep(path, "SOME_KEY", lambda: "made") == "made"
    assert path.read_text() == "DEBUG=true\nSOME_KEY=made\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.environ["SOME_KEY"] == "made"


def test_a_secret_that_another_process_made_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    path = tmp_path / ".env"
    assert dotenv.keep(path, "SOME_KEY", lambda: "theirs") == "theirs"
    assert dotenv.keep(path, "SOME_KEY", lambda: "ours") == "theirs"
    assert path.read_text() == "SOME_KEY=theirs\n"


def test_an_empty_secret_is_missing(fresh: Path) -> None:
    assert value("MISSING_SECRETS", fresh, SECRET_KEY="", MAILHUB_ENCRYPTION_KEYS="x") == "['SECRET_KEY']"


# ---------------------------------------------------------------------------------------------------------------- nonsense


@pytest.mark.parametrize(
    ("name", "nonsense"),
    [
        ("DEBUG", "ture"),
        ("MAILHUB_WORKERS", "0"),
        ("MAILHUB_WORKERS", "many"),
        ("MAILHUB_KEEP_BODIES_DAYS", "-1"),
        ("MAILHUB_KEEP_MESSAGES_DAYS", "1.5"),
        ("MAILHUB_PUBLIC_URL", "mail.example.com"),
        ("MAILHUB_PUBLIC_URL", "https://:80"),
        ("MAILHUB_PUBLIC_URL", "https://mail.example.com:port"),
        ("DATABASE_URL", "mysql://a:b@host/name"),
        ("DATABASE_URL", "nonsense"),
        ("REDIS_URL", "http://localhost"),
        ("LANGUAGE_CODE", "tlh"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_nonsense_is_refused_by_name(name: str, nonsense: str) -> None:
    result = python("from mailhub import settings", **{"DEBUG": "false", "SECRET_KEY": "x", "MAILHUB_ENCRYPTION_KEYS": "x", name: nonsense})
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert "ImproperlyConfigured" in last
    assert name in last
    assert nonsense not in last.replace(name, "")


@pytest.mark.parametrize(("written", "meant"), [("1", True), ("True", True), ("yes", True), ("off", False), ("", False), ("0", False)])
def test_yes_and_no_may_be_written_as_people_do(monkeypatch: pytest.MonkeyPatch, written: str, meant: bool) -> None:
    monkeypatch.setenv("SOME_SETTING", written)
    assert envvars.boolean("SOME_SETTING", default=not meant) is meant


def test_a_setting_left_empty_has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SETTING", " ")
    assert envvars.whole("SOME_SETTING", default=3, least=1) == 3
    assert envvars.choice("SOME_SETTING", "a", ["a", "b"]) == "a"
    assert envvars.url("SOME_SETTING", "https://example.com/", ["https"]) == "https://example.com"


def test_a_refusal_does_not_repeat_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "http://user:hunter2@host")
    with pytest.raises(ImproperlyConfigured) as refusal:
        envvars.url("REDIS_URL", "", ["redis"])
    assert "hunter2" not in str(refusal.value)


# ---------------------------------------------------------------------------------------------------------------- shapes


def test_sqlite_waits_for_its_turn_and_survives_a_power_cut() -> None:
    options = value("DATABASES['default']['OPTIONS']", DATABASE_URL="sqlite:////tmp/x.sqlite3")
    assert "IMMEDIATE" in options
    assert "synchronous=FULL" in options
    assert "journal_mode=WAL" in options


def test_postgresql_keeps_its_connections_without_a_pool() -> None:
    database = value("DATABASES['default']", DATABASE_URL="postgres://user:password@host:5433/name")
    assert "'CONN_MAX_AGE': 600" in database
    assert "pool" not in database


def test_a_database_and_who_is_cut_off_from_it_notice_within_a_minute() -> None:
    options = value("DATABASES['default']['OPTIONS']", DATABASE_URL="postgres://user:password@host:5433/name")
    for part in ("idle_in_transaction_session_timeout=60s", "tcp_keepalives_idle=20s", "'keepalives_idle': 20", "'connect_timeout': 10"):
        assert part in options
    own = value(
        "DATABASES['default']['OPTIONS']", DATABASE_URL="postgres://user:password@host/name?connect_timeout=3&options=-c%20lock_timeout=9"
    )
    assert "'connect_timeout': 3" in own
    assert "'options': '-c lock_timeout=9'" in own


def test_redis_takes_the_tasks_when_it_is_there() -> None:
    assert value("Q_CLUSTER['broker_class']", REDIS_URL="redis://localhost:6379/1") == "mailhub.lib.brokers.RedisBroker"
    assert value("Q_CLUSTER['redis']", REDIS_URL="redis://localhost:6379/1") == "redis://localhost:6379/1"
    assert value("Q_CLUSTER['broker_class']") == "mailhub.lib.brokers.DatabaseBroker"


def test_behind_https_cookies_and_redirects_are_strict() -> None:
    assert value("SESSION_COOKIE_SECURE", MAILHUB_PUBLIC_URL="https://mail.example.com") == "True"
    assert value("SECURE_SSL_REDIRECT", MAILHUB_PUBLIC_URL="https://mail.example.com") == "True"
    assert value("ALLOWED_HOSTS", MAILHUB_PUBLIC_URL="https://mail.example.com:8443/hub").endswith("'mail.example.com']")
    assert value("SESSION_COOKIE_SECURE") == "False"
