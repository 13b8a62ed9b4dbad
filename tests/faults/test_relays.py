"""F6 to F10, F17: relays that put off, hang up, fall silent, babble, cannot be trusted, or choke on one recipient."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mailhub.delivery.models import Attempt, Message
from mailhub.relays.models import Relay, RouteMember
from mailhub.senders.models import Sender
from tests.certificates import Authority
from tests.delivery import world
from tests.faults.world import Hub
from tests.installation import until
from tests.smtp_server import Action, Deaf, Delay, Drip, Drop, Endless, Garbage, Reply, Reset, Silence, SMTPServer

# Seconds; options may not be as low as that, but a test has no time.
HURRY = {"patience": 1, "final_timeout": 1}
LONG = pytest.mark.long


def some_now(cases: Iterable[str], *now: str) -> list[Any]:
    """All of the cases, and only these in the short form."""
    return [case if case in now else pytest.param(case, marks=LONG) for case in cases]


def send_both(shop: Sender, count: int = 10) -> None:
    world.make_batch(shop, count)
    world.post(shop, count)


def rested(relay: Relay) -> bool:
    relay.refresh_from_db()
    return relay.failures > 0


# ------------------------------------------------------------------------------------------------------------------------ storms


def test_a_storm_of_temporary_refusals_passes_and_nobody_is_given_up(hub: Hub) -> None:
    server = hub.server()
    relay = hub.relay(server)
    send_both(hub.shop(relay), 30)
    server.answers("rcpt", Reply("451 4.3.0 Not now"))
    hub.start()
    # A destination that puts off mail after mail is soon left alone, so few of them are tried often.
    until(lambda: hub.settled() or Attempt.objects.filter(number=3).count() >= 10)
    hub.dismiss()
    assert set(Message.objects.values_list("status", flat=True)) <= {"queued", "deferred"}
    server.behave()
    hub.finish()
    assert hub.reckon().unknown == 0
    assert Message.objects.filter(status="sent").count() == len(server.mails) == 60


def test_mails_that_were_put_off_wait_longer_each_time_and_do_not_all_come_back_at_once(hub: Hub) -> None:
    server = hub.server()
    relay = hub.relay(server)
    # Nobody is due again before time is made to pass.
    relay.first_retry = 100
    relay.save()
    world.make_batch(hub.shop(relay), 15)
    server.answers("rcpt", Reply("451 4.3.0 Not now"))
    waits: dict[int, list[timedelta]] = {}
    for number in (1, 2, 3, 4):
        hub.start()
        until(lambda number=number: Message.objects.filter(status="deferred", attempts=number).count() == 15)
        hub.dismiss()
        last = {attempt.message_id: attempt.finished_at for attempt in Attempt.objects.filter(number=number)}
        waits[number] = [message.next_attempt_at - last[message.pk] for message in Message.objects.all()]
        hub.time_passes()
    for number, each in waits.items():
        assert len(set(each)) > 10
        assert min(each) > timedelta(seconds=relay.first_retry) * 2 ** (number - 1) / 2
    server.behave()
    hub.finish()
    hub.reckon()


def test_a_relay_that_is_down_rests_and_its_mail_takes_the_next_of_its_route_and_no_other(hub: Hub) -> None:
    down, next_, stranger = hub.server(), hub.server(), hub.server()
    down.answers("connect", Reply("421 4.3.2 Closed", close=True))
    relays = [hub.relay(server) for server in (down, next_, stranger)]
    shop = hub.shop(relays[0])
    for route in relays[0].routes.all():
        RouteMember.objects.create(route=route, relay=relays[1], position=2)
    send_both(shop)
    hub.start(relay=relays[0].pk)
    hub.start(relay=relays[1].pk)
    hub.start(relay=relays[2].pk)
    until(lambda: Message.objects.filter(status="sent").count() == 20)
    assert rested(relays[0])
    assert set(Message.objects.values_list("attempts", flat=True)) == {1}
    hub.dismiss()
    hub.reckon()
    assert len(next_.mails) == 20
    assert not stranger.connections


@pytest.mark.parametrize("phase", ["rcpt", *(pytest.param(phase, marks=LONG) for phase in ("ehlo", "mail", "data"))])
def test_421_at_any_step_puts_the_mail_off(hub: Hub, phase: str) -> None:
    server = hub.server()
    server.answers(phase, Reply("421 4.3.2 Closing", close=True), times=3)
    send_both(hub.shop(hub.relay(server)))
    hub.finish()
    assert hub.reckon().unknown == 0
    assert len(server.mails) == 20


def test_a_password_that_is_refused_is_the_relays_trouble_and_not_the_mails(hub: Hub) -> None:
    server = hub.server(users={"shop": "new password"}, auth_needs_tls=False)
    relay = hub.relay(server, username="shop", password="old password")
    send_both(hub.shop(relay))
    hub.start()
    until(lambda: rested(relay))
    assert "535" in relay.rest_reason
    until(lambda: not Message.objects.exclude(status="queued").exists())
    assert set(Message.objects.values_list("attempts", flat=True)) == {0}
    relay.secrets = {"password": "new password"}
    relay.save()
    hub.finish()
    hub.reckon()
    assert len(server.mails) == 20


# --------------------------------------------------------------------------------------------------------------- after the last dot


@pytest.mark.parametrize("taken", [True, pytest.param(False, marks=LONG)], ids=["taken", "not-taken"])
@pytest.mark.parametrize("action", [Drop(), pytest.param(Reset(), marks=LONG), Silence()], ids=["FIN", "RST", "silence"])
def test_a_mail_that_gets_no_reply_is_unknown_or_goes_once_more(hub: Hub, action: Action, taken: bool) -> None:
    server = hub.server()
    relay = hub.relay(server, **HURRY)
    shop = hub.shop(relay)
    world.make_batch(shop, 10)
    server.answers("dot", action, times=3, accept=taken)
    hub.finish()
    assert Message.objects.filter(status="unknown").count() == 3
    world.post(shop, 10)
    server.answers("dot", action, times=3, accept=taken)
    hub.finish()
    tally = hub.reckon(cut=3)
    assert tally.unknown == 3
    assert tally.doubled_transactional == (3 if taken else 0)
    assert len(server.mails) == (23 if taken else 17)


# ------------------------------------------------------------------------------------------------------------------- bad behaviour

BABBLE: dict[str, tuple[str, Callable[[], Action]]] = {
    "a banner that does not end": ("connect", lambda: Endless("220-welcome\r\n")),
    "a greeting a byte at a time": ("connect", lambda: Drip("220 localhost", every=0.2)),
    "extensions without end": ("ehlo", lambda: Endless("250-MORE\r\n")),
    "a line that never ends": ("mail", lambda: Endless("2" * 1000)),
    "no SMTP at all": ("rcpt", lambda: Garbage(b"HTTP/1.1 400 Bad Request\r\n", code=None)),
    "silence": ("data", Silence),
    "deafness": ("mail", Deaf),
    "a reply a byte at a time": ("rcpt", lambda: Drip("250 2.1.5 fine", every=0.2)),
}


@pytest.mark.parametrize("trouble", some_now(BABBLE, "extensions without end", "deafness"))
def test_a_relay_that_babbles_harms_no_other(hub: Hub, trouble: str) -> None:
    phase, action = BABBLE[trouble]
    bad, good = hub.server(), hub.server()
    bad.answers(phase, action())
    troubled, sound = hub.relay(bad, **HURRY), hub.relay(good)
    send_both(hub.shop(troubled))
    other = world.make_sender("other@tea.example")
    other.campaign_route = other.transactional_route = world.make_route(sound)
    other.save()
    world.make_batch(other, 10)
    world.post(other, 10)
    # One worker for both, so that it has to come back from the bad one.
    hub.start()
    until(lambda: len(good.mails) == 20)
    until(lambda: rested(troubled) or Attempt.objects.filter(relay=troubled).exists())
    bad.behave()
    hub.finish()
    hub.reckon()
    assert len(bad.mails) == 20


# ----------------------------------------------------------------------------------------------------------------------------- TLS


def old_fashioned(authority: Authority) -> ssl.SSLContext:
    context = authority.issue("localhost").context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1
    return context


UNTRUSTED: dict[str, Callable[[Authority], ssl.SSLContext | None]] = {
    "expired": lambda authority: authority.issue("localhost", expired=True).context(),
    "another's name": lambda authority: authority.issue("mail.example").context(),
    "signed by nobody we know": lambda authority: Authority("Stranger").issue("localhost").context(),
    "TLS 1.0": old_fashioned,
    "STARTTLS stripped": lambda authority: None,
}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("security", ["starttls", pytest.param("tls", marks=LONG)])
@pytest.mark.parametrize("fault", some_now(UNTRUSTED, "another's name", "STARTTLS stripped"))
def test_a_password_is_only_told_to_who_proves_to_be_the_relay(hub: Hub, fault: str, security: str) -> None:
    authority = Authority()
    trust = hub.folder / "authority.pem"
    trust.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    context = UNTRUSTED[fault](authority)
    if context is None and security == "tls":
        pytest.skip("nothing to strip")
    users = {"shop": "secret"}
    bad = hub.server(tls=context, implicit_tls=security == "tls", users=users, auth_needs_tls=False)
    options = {"security": security, "host": "localhost", "username": "shop", "password": "secret", "patience": 5}
    relay = hub.relay(bad, **options)
    send_both(hub.shop(relay))
    hub.start(environment={"SSL_CERT_FILE": str(trust)})
    until(lambda: rested(relay))
    assert not any(command.startswith("AUTH") for command in bad.commands)
    # The right server comes back.
    good = hub.server(tls=authority.issue("localhost").context(), implicit_tls=security == "tls", users=users)
    relay.options["port"] = good.port
    relay.save()
    hub.finish()
    hub.reckon()
    assert not bad.mails
    assert {mail.user for mail in good.mails} == {"shop"}
    assert all(mail.tls for mail in good.mails)


# ------------------------------------------------------------------------------------------------------------------ one recipient


def test_a_recipient_at_whom_the_server_hangs_up_costs_the_others_nothing(hub: Hub) -> None:
    server: SMTPServer = hub.server()
    server.answers("rcpt", Drop(), only="choke")
    shop = hub.shop(hub.relay(server))
    world.make_batch(shop, *(f"taro{number}@example.net" for number in range(20)), "choke@example.net")
    hub.start()
    until(lambda: len(server.mails) == 20)
    until(lambda: Attempt.objects.filter(message__address="choke@example.net", outcome="deferred").exists())
    hub.time_passes()
    server.behave()
    hub.finish()
    assert hub.reckon().unknown == 0
    assert len(server.mails) == 21


def test_a_slow_relay_keeps_nobody_elses_mail_waiting(hub: Hub) -> None:
    """Each has a worker of its own; the slow one's mails are not marked faster than they leave."""
    slow, fast = hub.server(), hub.server()
    slow.answers("dot", Delay(0.1))
    behind, ahead = hub.relay(slow, connections=2), hub.relay(fast)
    shop = hub.shop(behind)
    quick = world.make_sender("quick@tea.example", campaign_route=world.make_route(ahead))
    world.make_batch(shop, 20)
    world.make_batch(quick, 100)
    hub.start(relay=behind.pk)
    hub.start(relay=ahead.pk)
    until(lambda: len(fast.mails) == 100)
    assert len(slow.mails) < 20
    hub.finish()
    hub.reckon()
