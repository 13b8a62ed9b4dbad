from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailhub.delivery.models import Event, Message
from mailhub.lib import clock
from mailhub.relays.models import Stream
from mailhub.senders.models import Sender
from mailhub.webhooks.models import Endpoint
from tests.delivery import world
from tests.webhooks.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def endpoint(db: None, receiver: Receiver) -> Endpoint:
    endpoint = Endpoint.objects.create(name="Tea shop", url=receiver.url)
    receiver.secrets = [endpoint.secret]
    return endpoint


@pytest.fixture
def sender(db: None) -> Sender:
    world.make_route(world.make_relay(), default_for=Stream.TRANSACTIONAL)
    return world.make_sender("shop@tea.example")


@pytest.fixture
def message(sender: Sender) -> Message:
    (message,) = world.post(sender, "taro@example.net")
    return message


def happen(message: Message, *types: str, **fields: object) -> list[int]:
    """Keys of new events of these types."""
    now = clock.now()
    return [event.pk for event in Event.objects.bulk_create(Event(message=message, type=type, at=now, **fields) for type in types)]
