from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.utils import translation
from pytest_django.fixtures import Settings

from mailhub.lib import dns
from mailhub.relays.providers import memory
from tests.dns_server import DNSServer


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
