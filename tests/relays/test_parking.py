from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from mailhub.lib import clock
from mailhub.relays import parking, shaping
from mailhub.relays.base import Deferred, Fault, Held, OutcomeUnknown, Refused, Reply
from mailhub.relays.models import Parking, Relay, ResponseRule, Sighting, Slowdown
from mailhub.relays.parking import BREAKS, BREAKS_TRIED, FIRST_TRY, RECOVERED, REST, Watch
from mailhub.relays.providers.memory import Memory

pytestmark = pytest.mark.django_db

BUSY = Deferred(Reply(451, "4.3.2", "Not now"))
RESET = OutcomeUnknown(Reply(None, "", "Connection reset by peer"))
UNUSUAL = Deferred(Reply(421, "4.7.28", "Gmail has detected an unusual rate of unsolicited mail"))
SUSPICIOUS = Deferred(Reply(421, "4.7.0", "Our system has detected that this message is suspicious"))
UNSIGNED = Refused(Reply(550, "5.7.26", "This mail has been blocked because the sender is unauthenticated."), Fault.SENDER)
NOBODY = Refused(Reply(550, "5.1.1", "User unknown"), Fault.RECIPIENT)
FULL = Deferred(Reply(452, "4.2.2", "Mailbox full"))
TEA = "tea.example"


@pytest.fixture
def relay(db: None) -> Relay:
    return Relay.objects.create(name="Dry run", kind="memory")


@pytest.fixture
def watch(relay: Relay) -> Watch:
    return Watch(relay)


def hear(watch: Watch, destination: str, error: Deferred | Refused | OutcomeUnknown, times: int = 1, domain: str = TEA) -> None:
    for _time in range(times):
        watch.heard(destination, domain, error)


def lasts(row: Parking | Slowdown) -> timedelta:
    return row.until - clock.now()


def ripen(row: Parking, probing: bool = True) -> None:
    """Its time has come; and some of it are being tried."""
    until = clock.now() + (shaping.PROBE_FOR if probing else timedelta(seconds=-1))
    Parking.objects.filter(pk=row.pk).update(until=until, probing=probing)


# --------------------------------------------------------------------------------------------------------------------------- rules


def test_a_rule_of_the_destination_comes_before_those_for_any(watch: Watch) -> None:
    deferred = Deferred(Reply(421, "4.7.0", "[TSS04] Messages from 192.0.2.7 temporarily deferred"))
    assert watch.heard("yahoo", TEA, deferred).key == "yahoo-ts04"
    assert watch.heard("docomo", TEA, deferred).key == "any-deferred"
    assert watch.heard("docomo", TEA, NOBODY).key == "docomo-unknown"
    assert watch.heard("gmail", TEA, NOBODY) is None


def test_a_rule_that_is_not_in_use_does_nothing(relay: Relay) -> None:
    ResponseRule.objects.filter(key="gmail-rate").update(active=False)
    assert Watch(relay).heard("gmail", TEA, UNUSUAL) is None


def test_a_rule_acts_once_it_was_met_often_enough_by_all_drains_together(relay: Relay) -> None:
    for number in range(4):
        drain = Watch(relay)
        hear(drain, "gmail", SUSPICIOUS, domain=f"{number}.example")
        drain.store()
        assert not Parking.objects.exists()
    drain = Watch(relay)
    hear(drain, "gmail", SUSPICIOUS)
    drain.store()
    row = Parking.objects.get()
    assert (row.relay, row.destination_id, row.sender_domain, row.strikes, row.allowance) == (relay, "gmail", "", 1, FIRST_TRY)
    assert timedelta(minutes=59) < lasts(row) <= timedelta(minutes=66)
    assert row.reason == ResponseRule.objects.get(key="gmail-suspicious").name
    assert row.reply == str(SUSPICIOUS.reply)
    assert drain.is_closed("gmail", "anybody.example") and not drain.is_closed("yahoo", TEA)
    assert Sighting.objects.get().count == 0


def test_what_was_met_too_long_ago_does_not_count(watch: Watch) -> None:
    hear(watch, "gmail", SUSPICIOUS, 4)
    watch.store()
    Sighting.objects.update(since=clock.now() - timedelta(hours=1))
    hear(watch, "gmail", SUSPICIOUS, 4)
    watch.store()
    assert not Parking.objects.exists()
    hear(watch, "gmail", SUSPICIOUS)
    watch.store()
    assert Parking.objects.exists()


def test_a_rule_can_slow_a_destination_down(relay: Relay, watch: Watch) -> None:
    hear(watch, "gmail", UNUSUAL, 2)
    watch.store()
    row = Slowdown.objects.get()
    assert (row.relay, row.destination_id, row.rate, row.per, row.connections) == (relay, "gmail", 10, "minute", None)
    assert timedelta(minutes=29) < lasts(row) <= timedelta(minutes=30)
    assert row.reply == str(UNUSUAL.reply)
    assert not watch.is_closed("gmail", TEA)
    Slowdown.objects.update(until=clock.now())
    hear(watch, "gmail", UNUSUAL, 2)
    watch.store()
    assert Slowdown.objects.get().since == row.since and lasts(Slowdown.objects.get()) > timedelta(minutes=29)


def test_what_is_wrong_with_a_sender_is_no_matter_of_others(watch: Watch) -> None:
    hear(watch, "gmail", UNSIGNED, 5)
    hear(watch, "gmail", UNSIGNED, 4, domain="coffee.example")
    watch.store()
    row = Parking.objects.get()
    assert (row.destination_id, row.sender_domain) == ("gmail", TEA)
    assert watch.is_closed("gmail", TEA) and not watch.is_closed("gmail", "coffee.example")


def test_a_rule_can_rest_the_relay(relay: Relay) -> None:
    ResponseRule.objects.filter(key="gmail-suspicious").update(scope="relay", trigger=1)
    watch = Watch(relay)
    hear(watch, "gmail", SUSPICIOUS)
    watch.store()
    relay.refresh_from_db()
    assert relay.resting_until and relay.resting_until > clock.now() + timedelta(minutes=59)
    assert str(SUSPICIOUS.reply) in relay.rest_reason
    assert not Parking.objects.exists()


# ------------------------------------------------------------------------------------------------------------------ circuit breaker


@pytest.mark.parametrize("error", [BUSY, RESET, Deferred(Reply(None, "4.4.1", "No connection to mx.example"))])
def test_a_destination_that_takes_nothing_any_more_is_left_alone(watch: Watch, error: Deferred) -> None:
    hear(watch, "docomo", error, BREAKS - 1)
    hear(watch, "au", error, BREAKS - 1)
    watch.store()
    assert not Parking.objects.exists()
    hear(watch, "docomo", error)
    assert watch.has_news
    watch.store()
    row = Parking.objects.get()
    assert (row.destination_id, row.reply, row.sender_domain) == ("docomo", str(error.reply), "")
    assert row.reason == "Mail after mail was not taken."
    assert REST * 0.99 < lasts(row) <= REST * 1.11


def test_one_mail_that_is_taken_in_between_shows_that_it_takes_some(watch: Watch) -> None:
    hear(watch, "docomo", BUSY, BREAKS - 1)
    watch.taken("docomo", TEA)
    hear(watch, "docomo", BUSY, BREAKS - 1)
    watch.store()
    assert not Parking.objects.exists()


@pytest.mark.parametrize("error", [NOBODY, FULL, UNSIGNED])
def test_refusals_of_a_recipient_or_a_sender_are_not_the_servers_trouble(watch: Watch, error: Deferred) -> None:
    hear(watch, "yahoo", error, 3 * BREAKS)
    watch.store()
    assert not Parking.objects.exists()


def test_a_limit_of_our_own_is_not_held_against_a_destination(relay: Relay, watch: Watch) -> None:
    for _ in range(2 * BREAKS):
        watch.heard("gmail", "tea.example", Held(Reply(None, "4.4.5", "All connections are in use.")))
    watch.store()
    assert not watch.closed and not Parking.objects.exists()


def test_of_many_systems_there_is_no_one_fact(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    hear(one := Watch(relay), "other", BUSY, BREAKS)
    one.store()
    # A relay is one system, whoever the mail is for.
    assert Parking.objects.get().destination_id == "other"
    Parking.objects.all().delete()
    monkeypatch.setattr(Memory, "uses_pool", True)
    hear(direct := Watch(relay), "other", BUSY, BREAKS)
    hear(direct, "other", Deferred(Reply(450, "4.7.1", "temporarily deferred")), BREAKS)
    direct.store()
    assert not Parking.objects.exists() and not Slowdown.objects.exists()


def test_late_replies_of_mails_in_flight_do_not_make_a_rest_longer(relay: Relay, watch: Watch) -> None:
    hear(watch, "gmail", BUSY, BREAKS)
    watch.store()
    before = Parking.objects.get()
    other = Watch(relay)
    hear(other, "gmail", BUSY, BREAKS)
    other.store()
    after = Parking.objects.get()
    assert (after.until, after.strikes) == (before.until, 1)
    assert other.is_closed("gmail", TEA)


def test_each_rest_is_longer_than_the_one_before_up_to_the_longest(watch: Watch) -> None:
    hear(watch, "gmail", BUSY, BREAKS)
    watch.store()
    row = Parking.objects.get()
    for strike in range(1, 12):
        ripen(row)
        hear(watch, "gmail", BUSY, BREAKS_TRIED)
        watch.store()
        row.refresh_from_db()
        expected = min(REST * 2**strike, parking.LONGEST)
        assert (row.strikes, row.probing, row.allowance) == (strike + 1, False, FIRST_TRY)
        assert expected * 0.99 < lasts(row) <= expected * 1.11


def test_a_rule_that_wants_longer_than_the_longest_gets_it(relay: Relay) -> None:
    ResponseRule.objects.filter(key="gmail-suspicious").update(lasts=86400, trigger=1)
    watch = Watch(relay)
    hear(watch, "gmail", SUSPICIOUS)
    watch.store()
    ripen(Parking.objects.get())
    hear(watch, "gmail", SUSPICIOUS)
    watch.store()
    assert timedelta(hours=23) < lasts(Parking.objects.get()) < timedelta(hours=27)


def test_what_is_tried_again_fails_sooner(watch: Watch) -> None:
    hear(watch, "gmail", BUSY, BREAKS_TRIED)
    watch.store()
    assert not Parking.objects.exists()
    watch.row.clear()
    hear(watch, "gmail", BUSY, BREAKS)
    watch.store()
    ripen(Parking.objects.get())
    hear(watch, "gmail", BUSY, BREAKS_TRIED - 1)
    watch.store()
    assert Parking.objects.get().strikes == 1
    hear(watch, "gmail", BUSY)
    watch.store()
    assert Parking.objects.get().strikes == 2


# ----------------------------------------------------------------------------------------------------------------------- recovery


def test_a_destination_recovers_by_and_by(relay: Relay, watch: Watch) -> None:
    hear(watch, "gmail", BUSY, BREAKS)
    watch.store()
    row = Parking.objects.get()
    allowed = []
    while Parking.objects.exists():
        row.refresh_from_db()
        allowed.append(row.allowance)
        ripen(row)
        watch.taken("gmail", TEA)
        watch.store()
        if Parking.objects.exists():
            row.refresh_from_db()
            assert not row.probing and row.until <= clock.now()
    assert allowed == [10, 20, 40, 80, 160, 320]
    assert allowed[-1] == RECOVERED


def test_mail_that_was_taken_before_the_rest_changes_nothing(watch: Watch) -> None:
    watch.taken("gmail", TEA)
    hear(watch, "gmail", BUSY, BREAKS)
    watch.store()
    before = Parking.objects.values().get()
    watch.taken("gmail", TEA)
    watch.store()
    assert Parking.objects.values().get() == before


def test_a_sender_recovers_by_its_own_mail_alone(relay: Relay, watch: Watch) -> None:
    hear(watch, "gmail", UNSIGNED, 5)
    watch.store()
    ripen(Parking.objects.get())
    watch.taken("gmail", "coffee.example")
    watch.taken("yahoo", TEA)
    watch.store()
    assert Parking.objects.get().allowance == FIRST_TRY
    watch.taken("gmail", TEA)
    watch.store()
    assert Parking.objects.get().allowance == 2 * FIRST_TRY


def test_staff_release_what_is_parked_at_once(relay: Relay, watch: Watch) -> None:
    hear(watch, "gmail", BUSY, BREAKS)
    watch.store()
    assert parking.release(Parking.objects.all()) == 1
    assert shaping.Openings(relay, clock.now()).of("gmail", TEA) is None


def test_what_goes_well_costs_hardly_a_question(watch: Watch) -> None:
    for _time in range(1000):
        watch.taken("gmail", TEA)
    assert not watch.has_news
    with CaptureQueriesContext(connection) as seen:
        watch.store()
    assert len([query for query in seen if "relays_parking" in query["sql"]]) == 1
