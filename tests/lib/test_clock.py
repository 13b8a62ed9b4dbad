from __future__ import annotations

import time
from datetime import timedelta

import pytest
import time_machine
from django.db import connection, transaction
from django.utils import timezone

from mailhub.lib import clock
from tests.delivery.world import postgresql_only


def test_it_is_aware_and_about_now(db: None) -> None:
    assert abs(clock.now() - timezone.now()) < timedelta(minutes=1)
    assert clock.now().utcoffset() == timedelta(0)


def test_it_goes_on_within_a_transaction(db: None) -> None:
    with transaction.atomic():
        first = clock.now()
        time.sleep(0.002)
        assert clock.now() > first


@postgresql_only
def test_this_machines_clock_has_no_say(db: None) -> None:
    with time_machine.travel("2031-01-01T00:00Z"):
        assert clock.now().year != 2031


@pytest.mark.skipif("connection.vendor != 'sqlite'")
def test_sqlite_lives_on_this_machine(db: None) -> None:
    with time_machine.travel("2031-01-01T00:00Z", tick=False):
        assert clock.now() == timezone.now()


def test_the_database_hands_back_what_it_was_given(db: None) -> None:
    """Leases, attempts and windows are compared to the microsecond."""
    moment = clock.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s", [connection.ops.adapt_datetimefield_value(moment)])
        found = cursor.fetchone()[0]
    assert str(moment)[:26] in str(found)
