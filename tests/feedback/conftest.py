from __future__ import annotations

import pytest

from mailhub.delivery.models import Message
from tests.delivery.world import Status, make_relay, make_route, make_sender, post


@pytest.fixture
def message(db: None) -> Message:
    """One that a relay has accepted, to taro@example.jp."""
    make_route(make_relay(), default_for="transactional")
    [message] = post(make_sender(), "taro@example.jp")
    Message.objects.filter(pk=message.pk).update(status=Status.SENT)
    return message
