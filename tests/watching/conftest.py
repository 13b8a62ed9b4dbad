from __future__ import annotations

import pytest
from pytest_django.fixtures import Settings

from mailhub.lib import tasks
from mailhub.relays.models import Relay, RouteMember, Stream
from mailhub.senders.models import Sender
from mailhub.watching.models import Channel
from tests.delivery import world
from tests.watching.listener import Listener


@pytest.fixture
def relays(db: None) -> tuple[Relay, Relay]:
    """The second takes over for the first, in the default routes of both streams."""
    first, second = world.make_relay("First"), world.make_relay("Second")
    for stream in Stream:
        route = world.make_route(first, default_for=stream)
        RouteMember.objects.create(route=route, relay=second, position=2)
    return first, second


@pytest.fixture
def sender(relays: tuple[Relay, Relay]) -> Sender:
    return world.make_sender("alerts@tea.example")


@pytest.fixture
def channel(sender: Sender) -> Channel:
    """By mail, to one person."""
    return Channel.objects.create(name="Operators", to="ops@tea.example", sender=sender)


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """The tasks that workers were asked for."""
    asked: list[tuple[str, tuple[int, ...]]] = []
    monkeypatch.setattr(tasks, "_put", lambda task, ids, queue: asked.append((task, ids)))
    return asked


@pytest.fixture
def listener(settings: Settings) -> Listener:
    """A web server on this machine, to which MailHub may post."""
    from ipaddress import ip_network

    settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = [ip_network("127.0.0.0/8")]
    with Listener() as server:
        yield server
