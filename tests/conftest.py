from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

import hypothesis
import pytest
from django.conf import settings as configured
from django.db import connection
from django.test import TransactionTestCase
from django.test.utils import setup_databases, teardown_databases
from django.utils import translation
from pytest_django.fixtures import Settings

from mailhub.lib import dns
from mailhub.relays.providers import memory
from tests import emptying, installation
from tests.dns_server import DNSServer

TransactionTestCase._fixture_teardown = emptying.empty

# How long an example takes is the machine's affair.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")

# In a shell's background Ctrl-C is ignored, and would be by every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The database outside of tests.
NAME = configured.DATABASES["default"]["NAME"]
is_postgresql = "postgresql" in configured.DATABASES["default"]["ENGINE"]

# By these a test has a database; the last two where it is one for the processes that the test starts.
DATABASE = {"db", "transactional_db", "admin_client", "admin_user", "live_server", "django_db_setup", "django_db_blocker"}


def asks_a_database(test: pytest.Function) -> bool:
    """pytest-django's own fixtures ask for theirs in every test; those do not count."""
    asked = set(test._fixtureinfo.argnames)
    for name in test.fixturenames:
        for fixture in test._fixtureinfo.name2fixturedefs.get(name, ()):
            if not fixture.func.__module__.startswith("pytest_django."):
                asked |= {name, *fixture.argnames}
    return test.get_closest_marker("django_db") is not None or bool(DATABASE & asked)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Each worker imports the tests in another order, so that what one has compiled the others find: all together take longer to compile than
    anything else before the first test."""
    worker = getattr(session.config, "workerinput", None)
    if worker and session.config.args == session.config.getini("testpaths"):
        root = session.config.rootpath
        modules = [".".join(path.relative_to(root).with_suffix("").parts) for path in sorted((root / "tests").rglob("test_*.py"))]
        share = len(modules) / worker["workercount"]
        first = int(share * (int(worker["workerid"].removeprefix("gw")) + is_postgresql / 2))
        for name in modules[first:] + modules[:first]:
            # What goes wrong is told when the tests of the module are collected.
            with suppress(Exception):
                import_module(name)


# These wait for processes, or take long. They begin first, so that no core is idle while the last of them goes on alone.
PATIENT = (
    "tests/test_worker.py",
    "tests/delivery/test_kill.py",
    "tests/demo/",
    "tests/transactional/test_smtpd_process.py",
    "tests/browser/",
    "tests/faults/",
    "tests/test_run.py",
    "tests/transactional/test_api_process.py",
    "tests/test_api_document.py",
    "tests/delivery/test_life.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    """What asks no database, and what a browser makes of pages, is the same on all: it runs on SQLite, and once is enough. So it is for what is
    marked so, such as the doings of processes; that runs on PostgreSQL, as in real use. What is asked for by name runs anyway."""
    if hasattr(config, "workerinput"):
        places = {name: place for place, name in enumerate(PATIENT)}
        items.sort(key=lambda test: next((place for name, place in places.items() if test.nodeid.startswith(name)), len(PATIENT)))
    if config.args == config.getini("testpaths"):
        runs = runs_on_postgresql if is_postgresql else runs_on_sqlite
        chosen = [test for test in items if runs(test)]
        config.hook.pytest_deselected(items=list(set(items) - set(chosen)))
        items[:] = chosen


def runs_on_postgresql(test: pytest.Function) -> bool:
    return is_once(test) or (asks_a_database(test) and not test.get_closest_marker("browser"))


def runs_on_sqlite(test: pytest.Function) -> bool:
    return not is_once(test)


def is_once(test: pytest.Function) -> bool:
    return test.get_closest_marker("once") is not None


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Also where no test uses the tests' own database, but copies of it alone (tests/installation.py)."""
    made = []
    with django_db_blocker.unblock():
        if connection.settings_dict["NAME"] == NAME:
            made = setup_databases(0, interactive=False, aliases={"default"}, serialized_aliases=set())
        installation.keep_template()
    yield
    with django_db_blocker.unblock():
        installation.drop_template()
        teardown_databases(made, 0)


@pytest.fixture(autouse=True)
def nothing_taken() -> Iterator[None]:
    """Memory relays of other tests leave nothing behind."""
    yield
    memory.clear()


@pytest.fixture(autouse=True)
def own_language() -> Iterator[None]:
    """A page that was asked for in another language leaves its thread in it."""
    yield
    translation.deactivate()


@pytest.fixture
def dns_server(settings: Settings) -> Iterator[DNSServer]:
    """The one that MailHub asks; nothing is remembered of what others said."""
    with DNSServer() as server:
        settings.MAILHUB_DNS_SERVERS = [server.address]
        dns.forget()
        yield server
        dns.forget()
