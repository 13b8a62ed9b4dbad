from __future__ import annotations

import pytest

from mailhub.lib import tasks
from mailhub.relays.models import Relay, Route, Stream
from mailhub.senders.models import Sender
from tests.delivery import world


@pytest.fixture
def relay(db: None) -> Relay:
    """Serves the default routes of both streams."""
    relay = world.make_relay("Dry run")
    for stream in Stream:
        world.make_route(relay, default_for=stream)
    return relay


@pytest.fixture
def route(relay: Relay) -> Route:
    """The default for transactional mail."""
    return Route.objects.get(default_for=Stream.TRANSACTIONAL)


@pytest.fixture
def sender(relay: Relay) -> Sender:
    return world.make_sender("shop@tea.example")


Asked = list[tuple[str, tuple[int, ...], str]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The tasks that workers were asked for."""
    asked: Asked = []
    monkeypatch.setattr(tasks, "_put", lambda task, ids, queue: asked.append((task, ids, queue)))
    return asked
