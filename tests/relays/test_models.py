from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core import serializers
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, models, transaction
from pytest_django.fixtures import Settings

from mailhub.lib import clock
from mailhub.lib.states import WrongState
from mailhub.relays.models import DedicatedIP, InboxMail, IPPool, Quota, QuotaUse, Relay, Route, RouteMember

pytestmark = pytest.mark.django_db

SECRET = "correct horse battery staple"


@pytest.fixture
def relay() -> Relay:
    return Relay.objects.create(name="relay", kind="memory", secrets={"password": SECRET})


# ------------------------------------------------------------------------------------------------------------------- states


@pytest.mark.parametrize("source", Relay.Status.values)
@pytest.mark.parametrize(("target", "verb"), [("paused", Relay.pause), ("active", Relay.resume)])
def test_every_move_that_the_table_knows_happens_and_no_other(relay: Relay, source: str, target: str, verb: Any) -> None:
    Relay.objects.filter(pk=relay.pk).update(status=source)
    relay.refresh_from_db()
    if target in Relay.MOVES[Relay.Status(source)]:
        verb(relay)
        assert relay.status == Relay.objects.get(pk=relay.pk).status == target
    else:
        with pytest.raises(WrongState):
            verb(relay)
        assert Relay.objects.get(pk=relay.pk).status == source


def test_every_state_has_its_moves() -> None:
    assert set(Relay.MOVES) == set(Relay.Status)


def test_a_relay_that_rests_or_is_paused_is_not_available(relay: Relay) -> None:
    now = clock.now()
    assert relay.is_available(now)
    relay.rest_until(now + timedelta(minutes=5), "A quota is used up.")
    assert not relay.is_available(now)
    assert relay.is_available(now + timedelta(minutes=5))
    assert relay.failures == 0
    relay.pause()
    assert not relay.is_available(now + timedelta(minutes=5))


def test_a_relay_rests_longer_after_each_failure_up_to_half_an_hour_but_never_shorter_than_was_asked(relay: Relay) -> None:
    rests = []
    for _ in range(9):
        before = clock.now()
        relay.rest(timedelta(seconds=30), "no connection")
        assert relay.resting_until
        rests.append(round((relay.resting_until - before).total_seconds()))
    assert rests == [30, 60, 120, 240, 480, 960, 1800, 1800, 1800]
    assert (relay.failures, relay.rest_reason) == (9, "no connection")
    before = clock.now()
    relay.rest(timedelta(hours=2), "daily limit")
    assert relay.resting_until
    assert relay.resting_until - before >= timedelta(hours=2)


def test_a_relay_that_took_mail_again_starts_over(relay: Relay) -> None:
    relay.rest(timedelta(seconds=30), "no connection")
    relay.recovered()
    relay.refresh_from_db()
    assert (relay.failures, relay.resting_until, relay.rest_reason) == (0, None, "")


def test_a_relay_that_is_resumed_takes_mail_at_once(relay: Relay) -> None:
    relay.rest(timedelta(hours=1), "no connection")
    relay.pause()
    relay.resume()
    assert relay.is_available(clock.now())
    assert (relay.failures, relay.rest_reason) == (0, "")


def test_a_reason_longer_than_its_column_is_cut(relay: Relay) -> None:
    relay.rest(timedelta(seconds=1), "x" * 600)
    relay.rest_until(clock.now(), "y" * 600)
    relay.refresh_from_db()
    assert relay.rest_reason == "y" * 500


# ------------------------------------------------------------------------------------------------------------- constraints


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (Relay, {"name": "x", "kind": "memory", "status": "gone"}),
        (Relay, {"name": "x", "kind": "memory", "max_connections": 0}),
        (Relay, {"name": "relay", "kind": "memory"}),
        (IPPool, {"name": "x", "kind": "mine"}),
        (Route, {"name": "x", "default_for": "nothing"}),
        (Quota, {"limit": 0}),
        (Quota, {"limit": 1, "period": "year"}),
        (Quota, {"limit": 1, "kind": "sliding"}),
    ],
)
def test_the_database_refuses_what_no_form_should_let_through(relay: Relay, model: type[models.Model], fields: dict[str, object]) -> None:
    if model is Quota:
        fields = {"relay": relay, **fields}
    with pytest.raises(IntegrityError), transaction.atomic():
        model._default_manager.create(**fields)


def test_of_each_of_these_there_is_one(relay: Relay) -> None:
    route = Route.objects.create(name="route", default_for="campaign")
    quota = Quota.objects.create(relay=relay, limit=10)
    doubles: list[models.Model] = [
        Route(name="other", default_for="campaign"),
        Route(name="route"),
        Quota(relay=relay, limit=10),
        QuotaUse(quota=quota, starts_at=clock.now()),
        RouteMember(route=route, relay=relay),
        DedicatedIP(pool=IPPool.objects.create(name="pool"), address="192.0.2.1", ehlo_name="a.example.com"),
    ]
    for double in doubles[3:]:
        double.save()
        double.pk = None
        double._state.adding = True
    for double in doubles:
        with pytest.raises(IntegrityError), transaction.atomic():
            double.save(force_insert=True)


def test_a_member_without_weight_is_none(relay: Relay) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        RouteMember.objects.create(route=Route.objects.create(name="route"), relay=relay, weight=0)


def test_rows_have_names_for_people(relay: Relay) -> None:
    pool, route, quota = IPPool(name="pool"), Route(name="route"), Quota(relay=relay, limit=10, period="hour")
    assert [str(row) for row in (relay, pool, route, quota)] == ["relay", "pool", "route", "10 / hour"]
    assert str(DedicatedIP(pool=pool, address="192.0.2.1", ehlo_name="a.example.com")) == "192.0.2.1 (a.example.com)"
    assert str(RouteMember(route=route, relay=relay)) == "route: relay"
    assert str(QuotaUse(quota=quota, used=3)) == "10 / hour: 3"
    assert str(InboxMail(rcpt_to="a@example.net")) == "a@example.net"
    assert str(InboxMail(rcpt_to="a@example.net", subject="Tea")) == "Tea"


# ----------------------------------------------------------------------------------------------------------------- secrets


def column(relay: Relay) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM relays_relay WHERE id = %s", [relay.pk])
        found: str = cursor.fetchone()[0]
    return found


def test_secrets_lie_encrypted_and_come_back_as_they_were(relay: Relay) -> None:
    assert "password" not in column(relay)
    assert SECRET not in column(relay)
    assert Relay.objects.get(pk=relay.pk).secrets == {"password": SECRET}


def test_equal_secrets_do_not_look_equal(relay: Relay) -> None:
    other = Relay.objects.create(name="other", kind="memory", secrets=relay.secrets)
    assert column(relay) != column(other)


def test_with_a_wrong_key_a_secret_does_not_open_and_nothing_else_is_taken_for_it(relay: Relay, settings: Settings) -> None:
    settings.MAILHUB_ENCRYPTION_KEYS = ["d3Jvbmcta2V5LXdyb25nLWtleS13cm9uZy1rZXktMDA="]
    with pytest.raises(ImproperlyConfigured, match="MAILHUB_ENCRYPTION_KEYS"):
        Relay.objects.get(pk=relay.pk)
    # What does not need it still works.
    assert Relay.objects.defer("secrets").get(pk=relay.pk).name == "relay"


@pytest.mark.parametrize("damage", ["", "plain", "gAAAAA"])
def test_a_damaged_secret_does_not_open(relay: Relay, damage: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE relays_relay SET secrets = %s WHERE id = %s", [damage + column(relay)[:-4] if damage else "", relay.pk])
    with pytest.raises(ImproperlyConfigured):
        Relay.objects.get(pk=relay.pk)


def test_an_export_holds_no_readable_secret(relay: Relay) -> None:
    assert SECRET not in serializers.serialize("json", [relay])


def test_a_relay_tells_no_secret_when_it_is_printed(relay: Relay) -> None:
    assert SECRET not in f"{relay} {relay!r}"
