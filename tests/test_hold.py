"""`manage.py hold`, for a database that was restored from a backup; tests/faults/test_ends.py has workers start on one."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command

from mailhub.relays.models import Relay, Stream
from tests.delivery import world


def said() -> list[str]:
    out = StringIO()
    call_command("hold", stdout=out)
    return out.getvalue().splitlines()


@pytest.mark.django_db
def test_every_relay_is_paused_and_those_that_were_active_are_named() -> None:
    relays = [world.make_relay(name) for name in ("Tokyo", "Osaka", "Kobe")]
    relays[2].pause()
    world.make_route(*relays, default_for=Stream.TRANSACTIONAL)
    world.post(world.make_sender(), 3)
    first, second = said()
    assert first == "Paused: Osaka, Tokyo."
    assert second.startswith("3 messages wait")
    assert set(Relay.objects.values_list("status", flat=True)) == {"paused"}


@pytest.mark.django_db
def test_again_it_does_nothing() -> None:
    world.make_relay("Tokyo")
    said()
    assert said()[0] == "No relay was active."
