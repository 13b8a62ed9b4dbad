"""Direct delivery to mail servers on 127.0.0.x that a name server on 127.0.0.1 tells of."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from ipaddress import ip_network
from typing import Any, ClassVar

import pytest
import time_machine
from asgiref.sync import async_to_sync
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from mailhub.delivery import engine, queue
from mailhub.delivery import tasks as delivery
from mailhub.delivery.models import Attempt, Message
from mailhub.lib import clock, tasks
from mailhub.relays import mta_sts
from mailhub.relays.base import Deferred, Envelope, Fault, OutcomeUnknown, Refused, RelayDown, SendError
from mailhub.relays.base import Reply as Said
from mailhub.relays.forms import RelayForm
from mailhub.relays.models import DedicatedIP, IPPool, Relay, Stream
from mailhub.relays.mta_sts import Policies
from mailhub.relays.providers import mx
from mailhub.relays.providers.mx import MX, Source
from tests.certificates import Authority, Identity
from tests.delivery import world as corridor
from tests.dns_server import DNSServer
from tests.https_server import HTTPSServer, page
from tests.relays.contract import CLOCK, Contract, run
from tests.smtp_server import Drop, Garbage, Reply, Silence, SMTPServer

pytestmark = pytest.mark.django_db

OURS = "127.0.0.101"
NAME = "out1.sender.test"
AUTHORITY = Authority()
DATA = b"Subject: Hello\r\n\r\nHello.\r\n"


class World:
    """Servers of others, all on one port, and a relay of ours."""

    def __init__(self, names: DNSServer, stack: ExitStack) -> None:
        self.names = names
        self.stack = stack
        self.port = 0
        self.pool = IPPool.objects.create(name="Own")
        self.add_ip(OURS, NAME)
        self.relay = Relay.objects.create(name="Direct", kind="mx", pool=self.pool)
        self.web: HTTPSServer | None = None

    def add_ip(self, address: str, name: str = "", node: str = "") -> DedicatedIP:
        return DedicatedIP.objects.create(pool=self.pool, address=address, ehlo_name=name or f"{address}.sender.test", node=node)

    def server(self, address: str = "127.0.0.2", **options: Any) -> SMTPServer:
        server = self.stack.enter_context(SMTPServer(host=address, port=self.port, **options))
        server.falls_silent = lambda share: CLOCK.forward(mx.PATIENCE, share)
        self.port = server.port
        self.relay.options["port"] = server.port
        return server

    def domain(self, name: str = "example.test", *hosts: str, signed: bool = False, **addresses: str) -> None:
        """A domain whose mail goes to these hosts, best first; without any, to mx.NAME on 127.0.0.2."""
        for place, host in enumerate(hosts or [f"mx.{name}"]):
            self.names.add(name, "MX", f"{place * 10} {host}.", signed=signed)
        if not hosts:
            self.names.add(f"mx.{name}", "A", "127.0.0.2", signed=signed)

    def policy(self, mode: str, *hosts: str, domain: str = "example.test") -> None:
        """The domain publishes an MTA-STS policy."""
        host = f"mta-sts.{domain}"
        self.web = self.stack.enter_context(HTTPSServer(AUTHORITY.issue(host)))
        lines = "".join(f"mx: {name}\n" for name in hosts)
        self.web.say(host, "/.well-known/mta-sts.txt", page(f"version: STSv1\nmode: {mode}\n{lines}max_age: 86400\n"))
        self.names.add(f"_mta-sts.{domain}", "TXT", '"v=STSv1; id=1"')

    def provider(self) -> MX:
        provider = self.relay.provider()
        assert isinstance(provider, MX)
        provider.trust = AUTHORITY.trust
        if self.web:
            provider.policies = Policies(self.web.connect, AUTHORITY.trust)
        return provider

    def send(self, *recipients: str, mail_from: str = "us@sender.test") -> list[Said | SendError]:
        """Over one session, one after the other; what became of each."""

        async def all_of_them() -> list[Said | SendError]:
            session = await self.provider().open()
            outcomes: list[Said | SendError] = []
            for number, recipient in enumerate(recipients):
                try:
                    outcomes.append(await session.send(Envelope(number, mail_from, recipient, DATA)))
                except SendError as error:
                    outcomes.append(error)
            await session.close()
            return outcomes

        return run(all_of_them)

    def outcome(self, recipient: str = "anna@example.test") -> Any:
        return self.send(recipient)[0]


@pytest.fixture
def world(dns_server: DNSServer) -> Iterator[World]:
    mx.forget()
    mta_sts.forget()
    with ExitStack() as stack:
        yield World(dns_server, stack)
    mx.forget()
    mta_sts.forget()


def queued(world: World, *recipients: str) -> list[Message]:
    """Transactional mail that waits for the relay."""
    world.relay.save()
    corridor.make_route(world.relay, default_for=Stream.TRANSACTIONAL)
    return corridor.post(corridor.make_sender("us@sender.test"), *recipients)


def is_deferred(outcome: object, enhanced: str) -> bool:
    return isinstance(outcome, Deferred) and outcome.reply.enhanced == enhanced


class TestMX(Contract):
    kind = "mx"
    answers: ClassVar = {"tls": "opportunistic", "port": 25, "final_timeout": 60}
    decisions = frozenset({"refuse", "defer", "unknown"})

    @pytest.fixture
    def relay(self, world: World) -> Relay:
        self.server = world.server()
        world.domain("example.net")
        world.relay.save()
        return world.relay

    def arrange(self, decision: str, relay: Relay) -> None:
        actions = {"refuse": Reply("550 5.1.1 No such user"), "defer": Reply("451 4.3.0 Later"), "unknown": Drop()}
        self.server.answers("dot" if decision == "unknown" else "rcpt", actions[decision], times=1)

    def taken(self, relay: Relay) -> Sequence[tuple[str, str, bytes]]:
        return [(mail.mail_from, mail.rcpt_to[0], mail.data) for mail in self.server.mails]


# ---------------------------------------------------------------------------------------------------------------- where it goes


def test_mail_goes_to_the_best_exchanger_from_our_address_under_its_name(world: World) -> None:
    best, other = world.server("127.0.0.2"), world.server("127.0.0.3")
    world.domain("example.test", "a.mx.test", "b.mx.test")
    world.names.add("a.mx.test", "A", "127.0.0.2")
    world.names.add("b.mx.test", "A", "127.0.0.3")
    assert world.outcome() == Said(250, "2.0.0", "Taken", source_ip=OURS)
    [mail] = best.mails
    assert (mail.peer[0], mail.ehlo, mail.mail_from, mail.rcpt_to, mail.data) == (
        OURS,
        NAME,
        "us@sender.test",
        ("anna@example.test",),
        DATA,
    )
    assert other.connections == []


@pytest.mark.parametrize(
    "action",
    [Reply("421 4.3.2 Too busy"), Reply("554 5.3.2 No mail here"), Drop(), Garbage(b"SSH-2.0-x\r\n")],
    ids=["421", "554", "hangs up", "no SMTP"],
)
def test_the_next_exchanger_takes_over_from_one_that_does_not_let_us_in(world: World, action: Any) -> None:
    first, second = world.server("127.0.0.2"), world.server("127.0.0.3")
    first.answers("connect", action)
    world.domain("example.test", "a.mx.test", "b.mx.test")
    world.names.add("a.mx.test", "A", "127.0.0.2")
    world.names.add("b.mx.test", "A", "127.0.0.3")
    assert world.outcome().code == 250
    assert len(second.mails) == 1


def test_a_server_that_says_nothing_does_not_hold_the_mail(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for longer in ("TRY_FOR", "CONNECT"):
        monkeypatch.setattr(mx, longer, 10 * mx.PATIENCE)
    mute, other = world.server("127.0.0.2"), world.server("127.0.0.3")
    mute.answers("connect", Silence())
    world.domain("example.test", "a.mx.test", "b.mx.test")
    world.names.add("a.mx.test", "A", "127.0.0.2")
    world.names.add("b.mx.test", "A", "127.0.0.3")
    assert world.outcome().code == 250
    assert len(other.mails) == 1


def test_when_all_say_nothing_the_mail_waits(world: World) -> None:
    world.server("127.0.0.2").answers("connect", Silence())
    world.domain()
    assert is_deferred(world.outcome(), "4.4.1")


def test_the_next_address_of_a_host_is_tried(world: World) -> None:
    server = world.server("127.0.0.2")
    world.domain("example.test", "mx.example.test")
    world.names.add("mx.example.test", "A", "127.0.0.2", "127.0.0.3", "127.0.0.4")
    for _ in range(5):
        mx.forget()
        assert world.outcome().code == 250
    assert len(server.mails) == 5


def test_a_domain_without_mx_takes_mail_at_its_own_address(world: World) -> None:
    server = world.server()
    world.names.add("example.test", "A", "127.0.0.2")
    assert world.outcome().code == 250
    assert len(server.mails) == 1


def test_a_host_with_an_alias_for_a_name_is_borne(world: World) -> None:
    server = world.server()
    world.domain("example.test", "alias.example.test")
    world.names.add("alias.example.test", "CNAME", "real.example.test.")
    world.names.add("real.example.test", "A", "127.0.0.2")
    assert world.outcome().code == 250
    assert len(server.mails) == 1


def test_a_null_mx_is_the_last_word(world: World) -> None:
    server = world.server()
    world.names.add("example.test", "MX", "0 .")
    world.names.add("example.test", "A", "127.0.0.2")
    refusal = world.outcome()
    assert isinstance(refusal, Refused)
    assert (refusal.reply.code, refusal.reply.enhanced, refusal.fault) == (556, "5.1.10", Fault.RECIPIENT)
    assert server.connections == []


def test_a_domain_that_does_not_exist_is_the_recipients_fault(world: World) -> None:
    refusal = world.outcome("anna@nowhere.test")
    assert isinstance(refusal, Refused)
    assert (refusal.reply.code, refusal.reply.enhanced, refusal.fault) == (550, "5.1.2", Fault.RECIPIENT)


def test_so_is_one_with_neither_exchanger_nor_address(world: World) -> None:
    world.names.add("example.test", "TXT", "only words")
    refusal = world.outcome()
    assert isinstance(refusal, Refused)
    assert (refusal.reply.enhanced, refusal.fault) == ("5.1.2", Fault.RECIPIENT)


def test_a_domain_that_nobody_can_tell_about_is_asked_again_later(world: World) -> None:
    world.names.fail("example.test")
    assert is_deferred(world.outcome(), "4.4.3")


def test_exchangers_that_do_not_exist_are_a_mistake_that_may_be_mended(world: World) -> None:
    world.domain("example.test", "gone.example.test")
    world.names.add("example.test", "A", "127.0.0.2")
    server = world.server("127.0.0.2")
    assert is_deferred(world.outcome(), "4.4.4")
    assert server.connections == []


def test_exchangers_whose_addresses_nobody_can_tell_are_passed_over(world: World) -> None:
    server = world.server("127.0.0.3")
    world.domain("example.test", "a.mx.test", "b.mx.test")
    world.names.fail("a.mx.test")
    world.names.add("b.mx.test", "A", "127.0.0.3")
    assert world.outcome().code == 250
    assert len(server.mails) == 1


def test_a_thousand_exchangers_hold_one_mail_no_longer_than_a_few(world: World) -> None:
    world.server("127.0.0.2")
    world.names.add("example.test", "MX", *(f"{n} mx{n}.example.test." for n in range(1000)))
    for n in range(1000):
        world.names.add(f"mx{n}.example.test", "A", *(f"127.0.1.{m}" for m in range(1, 30)))
    assert is_deferred(world.outcome(), "4.4.1")
    assert len({name for name, kind, _transport in world.names.asked if kind == "A"}) <= mx.MOST_HOSTS
    assert len(mx._shut._texts) <= mx.MOST_ADDRESSES


# ---------------------------------------------------------------------------------------------------------------- where it must not go


def test_an_exchanger_inside_our_network_is_not_connected_to_and_that_is_nobodys_bounce(world: World, settings: Settings) -> None:
    settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = []
    server = world.server()
    world.domain()
    for _ in range(2):
        refusal = world.outcome()
        assert isinstance(refusal, Refused)
        assert (refusal.reply.code, refusal.reply.enhanced, refusal.fault) == (550, "5.4.4", Fault.POLICY)
        assert "127.0.0.2 is not a public address" in refusal.reply.text
    assert server.connections == []


def test_an_exchanger_outside_is_used_although_another_is_inside(world: World, settings: Settings) -> None:
    settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = [ip_network("127.0.0.3")]
    inside, outside = world.server("127.0.0.2"), world.server("127.0.0.3")
    world.domain("example.test", "a.mx.test", "b.mx.test")
    world.names.add("a.mx.test", "A", "127.0.0.2")
    world.names.add("b.mx.test", "A", "127.0.0.3")
    assert world.outcome().code == 250
    assert (len(inside.connections), len(outside.mails)) == (0, 1)


def test_when_the_one_outside_does_not_answer_the_mail_waits(world: World, settings: Settings) -> None:
    settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = [ip_network("127.0.0.3")]
    world.server("127.0.0.2")
    world.domain("example.test", "b.mx.test", "a.mx.test")
    world.names.add("a.mx.test", "A", "127.0.0.2")
    world.names.add("b.mx.test", "A", "127.0.0.3")
    assert is_deferred(world.outcome(), "4.4.1")


# ---------------------------------------------------------------------------------------------------------------- what is answered


@pytest.mark.parametrize(
    ("phase", "reply", "kind", "fault"),
    [
        ("rcpt", "450 4.2.0 Greylisted, try again later", Deferred, None),
        ("rcpt", "550 5.1.1 No such user here", Refused, Fault.RECIPIENT),
        ("rcpt", "550 5.7.1 Your address is on a list", Refused, Fault.POLICY),
        ("dot", "554 5.7.26 Unauthenticated", Refused, Fault.SENDER),
        ("rcpt", "554 5.7.1 Relay access denied", Refused, Fault.SENDER),
        # What would rest an account's relay is between that one server and us.
        ("mail", "421 4.7.0 Too many connections from your host", Deferred, None),
        ("rcpt", "452 4.5.3 Daily message limit exceeded", Deferred, None),
        ("mail", "550 5.4.5 Daily sending quota exceeded", Deferred, None),
        ("mail", "530 5.7.0 Authentication required", Deferred, None),
    ],
)
def test_an_answer_is_this_mails_and_never_stops_the_relay(
    world: World, phase: str, reply: str, kind: type[SendError], fault: Fault | None
) -> None:
    server = world.server()
    server.answers(phase, Reply(reply))
    world.domain()
    error = world.outcome()
    assert type(error) is kind
    assert getattr(error, "fault", None) == fault
    assert str(error.reply).startswith(reply[:9])
    assert error.reply.source_ip == OURS


def test_a_connection_lost_before_the_end_of_the_mail_means_later(world: World) -> None:
    server = world.server()
    server.answers("rcpt", Drop())
    world.domain()
    error = world.outcome()
    assert is_deferred(error, "4.4.2")
    assert error.reply.source_ip == OURS


def test_a_connection_lost_after_it_leaves_the_outcome_unknown(world: World) -> None:
    server = world.server()
    server.answers("dot", Drop(), accept=True)
    world.domain()
    error = world.outcome()
    assert isinstance(error, OutcomeUnknown)
    assert error.reply.source_ip == OURS
    assert len(server.mails) == 1


def test_what_did_not_let_us_in_is_left_alone_for_a_moment(world: World) -> None:
    server = world.server()
    server.answers("connect", Reply("421 4.3.2 Too busy"))
    world.domain()
    for _ in range(3):
        error = world.outcome()
        assert isinstance(error, Deferred)
        assert "Too busy" in error.reply.text
    assert len(server.connections) == 1
    server.behave()
    with time_machine.travel(timedelta(minutes=3)):
        assert world.outcome().code == 250


# ---------------------------------------------------------------------------------------------------------------- connections


def test_one_session_serves_several_domains_and_keeps_a_connection_to_each_host(world: World) -> None:
    one, two = world.server("127.0.0.2"), world.server("127.0.0.3")
    world.domain("one.test")
    world.domain("two.test", "mx.two.test")
    world.domain("three.test", "mx.one.test")
    world.names.add("mx.two.test", "A", "127.0.0.3")
    said = world.send("a@one.test", "b@two.test", "c@one.test", "d@three.test", "e@two.test")
    assert [reply.code for reply in said] == [250] * 5
    assert [len(server.connections) for server in (one, two)] == [1, 1]
    assert [len(server.mails) for server in (one, two)] == [3, 2]


def test_among_equal_exchangers_one_with_a_connection_is_preferred(world: World) -> None:
    servers = [world.server(f"127.0.0.{n}") for n in range(2, 6)]
    for n in range(2, 6):
        world.names.add("example.test", "MX", f"10 mx{n}.example.test.")
        world.names.add(f"mx{n}.example.test", "A", f"127.0.0.{n}")
    world.send(*(f"r{n}@example.test" for n in range(10)))
    assert sorted(len(server.mails) for server in servers) == [0, 0, 0, 10]


def test_a_refusal_does_not_cost_the_connection(world: World) -> None:
    server = world.server()
    server.answers("rcpt", Reply("550 5.1.1 No such user"), times=1)
    world.domain()
    first, second = world.send("a@example.test", "b@example.test")
    assert isinstance(first, Refused)
    assert second.code == 250
    assert len(server.connections) == 1


def test_the_session_that_closes_last_takes_leave_of_every_host(world: World) -> None:
    one, two = world.server("127.0.0.2"), world.server("127.0.0.3")
    world.domain("one.test")
    world.domain("two.test", "mx.two.test")
    world.names.add("mx.two.test", "A", "127.0.0.3")

    async def two_sessions() -> None:
        provider = world.provider()
        first, second = await provider.open(), await provider.open()
        await first.send(Envelope(1, "us@sender.test", "a@one.test", DATA))
        await first.close()
        assert len(provider.kept) == 1
        await second.send(Envelope(2, "us@sender.test", "b@two.test", DATA))
        await second.close()

    async_to_sync(two_sessions)()
    assert [server.commands[-1] for server in (one, two)] == ["QUIT", "QUIT"]


def test_a_connection_that_ended_while_it_waited_costs_nothing(world: World) -> None:
    server = world.server()
    server.answers("rset", Reply("421 4.4.2 Idle for too long"), times=1)
    server.answers("mail", Reply("421 4.4.2 Idle for too long", close=True), times=1, only="second")
    world.domain()

    async def twice() -> None:
        session = await world.provider().open()
        await session.send(Envelope(1, "first@sender.test", "a@example.test", DATA))
        await session.send(Envelope(2, "second@sender.test", "b@example.test", DATA))
        await session.close()

    async_to_sync(twice)()
    assert (len(server.mails), len(server.connections)) == (2, 2)


def test_a_connection_is_not_kept_for_long_nor_for_many_mails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    server = world.server()
    world.domain()
    monkeypatch.setattr(mx, "MAILS_PER_CONNECTION", 2)
    world.send(*(f"r{n}@example.test" for n in range(5)))
    assert len(server.connections) == 3
    monkeypatch.setattr(mx, "IDLE", 0.0)
    world.send("a@example.test", "b@example.test")
    assert len(server.connections) == 5
    assert all(connection.commands[-1] == "QUIT" for connection in server.connections)


def test_connections_that_wait_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx, "MOST_IDLE", 2)
    servers = [world.server(f"127.0.0.{n}") for n in range(2, 7)]
    for n in range(2, 7):
        world.domain(f"d{n}.test", f"mx{n}.test")
        world.names.add(f"mx{n}.test", "A", f"127.0.0.{n}")

    async def to_each() -> None:
        provider = world.provider()
        session = await provider.open()
        for n in range(2, 7):
            await session.send(Envelope(n, "us@sender.test", f"a@d{n}.test", DATA))
        assert [kept.target.host for kept in provider.kept] == ["mx5.test", "mx6.test"]
        await session.close()

    async_to_sync(to_each)()
    assert [len(server.mails) for server in servers] == [1] * 5


def test_a_mail_that_is_stopped_half_way_leaves_no_connection_that_others_could_use(world: World) -> None:
    server = world.server()
    server.answers("rcpt", Silence(), times=1)
    world.domain()

    async def stopped() -> None:
        provider = world.provider()
        session = await provider.open()
        task = asyncio.create_task(session.send(Envelope(1, "us@sender.test", "a@example.test", DATA)))
        while not any("RCPT" in command for command in server.commands):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert provider.kept == []
        assert (await session.send(Envelope(2, "us@sender.test", "b@example.test", DATA))).code == 250
        await session.close()

    async_to_sync(stopped)()
    assert [mail.rcpt_to for mail in server.mails] == [("b@example.test",)]


# ---------------------------------------------------------------------------------------------------------------- our addresses


def test_a_greylisted_mail_comes_back_from_the_same_address_whoever_sends_it(world: World) -> None:
    for n in range(102, 110):
        world.add_ip(f"127.0.0.{n}")
    seen: dict[str, set[str]] = {}
    server = world.server()
    server.answers("rcpt", Reply("451 4.7.1 Greylisted"), times=12)
    world.domain()
    recipients = [f"r{n}@example.test" for n in range(12)]
    for recipient, outcome in zip(recipients, world.send(*recipients), strict=True):
        assert isinstance(outcome, Deferred)
        seen[recipient] = {outcome.reply.source_ip}
    mx.forget()
    for recipient in reversed(recipients):  # another worker, another order
        [reply] = world.send(recipient)
        assert reply.code == 250
        seen[recipient].add(reply.source_ip)
    assert all(len(addresses) == 1 for addresses in seen.values())
    assert len(set.union(*seen.values())) > 1
    assert {mail.rcpt_to[0]: {mail.peer[0]} for mail in server.mails} == seen


def test_the_return_path_of_each_mail_may_differ_within_its_domain(world: World) -> None:
    for n in range(102, 110):
        world.add_ip(f"127.0.0.{n}")
    server = world.server()
    world.domain()
    for n in range(6):
        world.send("anna@example.test", mail_from=f"b+{n}.abcdef@sender.test")
    assert len({mail.peer[0] for mail in server.mails}) == 1


SIX = [Source(f"192.0.2.{n}", f"out{n}.sender.test") for n in range(6)]


def first(found: list[Source], recipient: str) -> Source:
    return mx.ranked(found, Envelope(1, "us@sender.test", recipient, b""))[0]


def test_mail_spreads_evenly_over_our_addresses() -> None:
    counts = Counter(first(SIX, f"r{n}@example.test") for n in range(6000))
    assert len(counts) == 6
    assert all(850 < count < 1150 for count in counts.values())


@given(st.emails(), st.integers(0, 5))
def test_an_address_that_is_taken_away_moves_no_others_mail(recipient: str, gone: int) -> None:
    left = [source for n, source in enumerate(SIX) if n != gone]
    if first(SIX, recipient) in left:
        assert first(left, recipient) == first(SIX, recipient) == first(SIX[::-1], recipient)


def test_addresses_that_are_not_here_are_not_left_from(world: World) -> None:
    DedicatedIP.objects.all().delete()
    world.add_ip("127.0.0.110", node="another-machine")
    world.add_ip("203.0.113.7")  # on none of ours
    world.add_ip("203.0.113.8", node=socket.gethostname())  # not where it is said to be
    world.add_ip("127.0.0.111", node=socket.gethostname())
    server = world.server()
    world.domain()
    world.send(*(f"r{n}@example.test" for n in range(10)))
    assert {mail.peer[0] for mail in server.mails} == {"127.0.0.111"}


@pytest.mark.parametrize("missing", ["addresses", "pool"])
def test_without_an_address_here_the_relay_says_what_is_missing(world: World, missing: str) -> None:
    if missing == "pool":
        world.relay.pool = None
    DedicatedIP.objects.all().delete()
    with pytest.raises(RelayDown, match=f"is on this machine .{socket.gethostname()}"):
        world.send("anna@example.test")


def test_a_relay_whose_addresses_another_machine_holds_is_left_to_that(world: World) -> None:
    DedicatedIP.objects.update(node="another-machine")
    message = queued(world, "anna@example.test")[0]
    assert engine.drain(world.relay, "transactional") == 0
    assert corridor.states(message) == ["queued"]
    world.relay.refresh_from_db()
    assert world.relay.is_available(clock.now())


def test_one_whose_addresses_none_holds_rests_and_tells_why(world: World) -> None:
    DedicatedIP.objects.update(address="203.0.113.7")
    message = queued(world, "anna@example.test")[0]
    engine.drain(world.relay, "transactional")
    assert corridor.states(message) == ["queued"]
    world.relay.refresh_from_db()
    assert not world.relay.is_available(clock.now())
    assert "None of the addresses of pool Own is on this machine" in world.relay.rest_reason


def test_a_host_of_version_6_is_reached_from_an_address_of_version_6(world: World) -> None:
    world.add_ip("::1", "six.sender.test")
    server = world.server("::1")
    world.domain("example.test", "mx.example.test")
    world.names.add("mx.example.test", "AAAA", "::1")
    assert world.outcome().source_ip == "::1"
    assert server.mails[0].ehlo == "six.sender.test"


def test_a_host_of_both_versions_is_reached_by_the_other_when_one_fails(world: World) -> None:
    world.add_ip("::1", "six.sender.test")
    server = world.server("127.0.0.2")
    world.domain("example.test", "mx.example.test")
    world.names.add("mx.example.test", "AAAA", "::1")
    world.names.add("mx.example.test", "A", "127.0.0.2")
    said = world.send(*(f"r{n}@example.test" for n in range(10)))
    assert {reply.source_ip for reply in said} == {OURS}
    assert len(server.mails) == 10


def test_without_one_the_mail_waits_and_says_why(world: World) -> None:
    world.domain("example.test", "mx.example.test")
    world.names.add("mx.example.test", "AAAA", "::1")
    error = world.outcome()
    assert is_deferred(error, "4.4.4")
    assert "no address of a version that we can leave from" in error.reply.text


def test_an_address_without_a_name_introduces_itself_as_what_it_is(world: World) -> None:
    DedicatedIP.objects.update(ehlo_name="")
    server = world.server()
    world.domain()
    world.outcome()
    assert server.mails[0].ehlo == f"[{OURS}]"
    assert mx.literal("2001:db8::1") == "[IPv6:2001:db8::1]"


# ---------------------------------------------------------------------------------------------------------------- TLS


@pytest.mark.parametrize(
    "identity",
    [
        Authority("Nobody knows it").issue("mx.example.test"),
        AUTHORITY.issue("mx.example.test", expired=True),
        AUTHORITY.issue("other.example.test"),
    ],
    ids=["self-made", "expired", "wrong name"],
)
def test_where_nothing_is_asked_for_any_certificate_is_better_than_none(world: World, identity: Identity) -> None:
    server = world.server(tls=identity.context())
    world.domain()
    assert world.outcome().code == 250
    assert server.mails[0].tls


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake that gets nowhere is given up soon."""
    monkeypatch.setattr(mx, "HANDSHAKE", 0.5)


@pytest.mark.parametrize("action", [Reply("454 4.7.0 TLS not available"), Garbage(b"220 Go\r\nnonsense", code=500), Drop()])
def test_broken_tls_is_done_without_and_that_is_remembered_by_the_host(
    world: World, impatient: None, action: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = world.server(tls=AUTHORITY.issue("mx.example.test").context())
    server.answers("starttls", action)
    world.domain()
    assert world.outcome().code == world.outcome().code == 250
    assert [mail.tls for mail in server.mails] == [False, False]
    assert server.commands.count("STARTTLS") == 1
    assert "mx.example.test gets mail unencrypted for a while" in caplog.text
    server.behave()
    with time_machine.travel(timedelta(hours=2)):
        assert world.outcome().code == 250
    assert server.mails[-1].tls


def test_a_host_whose_name_no_certificate_could_hold_is_borne(world: World) -> None:
    server = world.server(tls=AUTHORITY.issue("mx.example.test").context())
    world.domain("example.test", r"\255\000.example.test")
    world.names.add(r"\255\000.example.test", "A", "127.0.0.2")
    assert world.outcome().code == 250
    assert len(server.mails) == 1


def require_tls(world: World) -> None:
    world.relay.options["tls"] = "required"


def policy(world: World) -> None:
    world.policy("enforce", "mx.example.test")


@pytest.mark.parametrize("ask", [require_tls, policy])
@pytest.mark.parametrize("action", [None, Reply("454 4.7.0 TLS not available"), Garbage(b"220 Go\r\nnonsense", code=500), Drop()])
def test_where_tls_is_asked_for_the_mail_waits_until_it_is_there(
    world: World, impatient: None, ask: Callable[[World], None], action: Any
) -> None:
    server = world.server(tls=AUTHORITY.issue("mx.example.test").context() if action else None)
    if action:
        server.answers("starttls", action)
    world.domain()
    ask(world)
    assert is_deferred(world.outcome(), "4.7.5")
    assert server.mails == []
    assert not any(command.startswith("MAIL") for command in server.commands)
    assert len(server.connections) == 1


def test_where_it_is_required_any_certificate_will_do(world: World) -> None:
    require_tls(world)
    server = world.server(tls=Authority().issue("other.test").context())
    world.domain()
    assert world.outcome().code == 250
    assert server.mails[0].tls


# ---------------------------------------------------------------------------------------------------------------- MTA-STS


def test_a_policy_is_kept_to(world: World) -> None:
    server = world.server(tls=AUTHORITY.issue("mx.example.test").context())
    world.domain()
    world.policy("enforce", "*.example.test")
    assert world.outcome().code == 250
    assert server.mails[0].tls


@pytest.mark.parametrize(
    "identity",
    [
        Authority("Nobody knows it").issue("mx.example.test"),
        AUTHORITY.issue("mx.example.test", expired=True),
        AUTHORITY.issue("other.example.test"),
    ],
    ids=["self-made", "expired", "wrong name"],
)
@pytest.mark.parametrize("mode", ["enforce", "testing"])
def test_a_certificate_that_does_not_prove_the_host_stops_mail_when_the_policy_is_in_force(
    world: World, identity: Identity, mode: str
) -> None:
    server = world.server(tls=identity.context())
    world.domain()
    world.policy(mode, "mx.example.test")
    outcome = world.outcome()
    if mode == "testing":
        assert outcome.code == 250
    else:
        assert is_deferred(outcome, "4.7.5")
        assert "MTA-STS" in outcome.reply.text
        assert server.mails == []


@pytest.mark.parametrize("mode", ["enforce", "testing"])
def test_a_host_that_the_policy_does_not_name_gets_nothing_when_it_is_in_force(
    world: World, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = world.server("127.0.0.2", tls=AUTHORITY.issue("evil.test").context())
    named = world.server("127.0.0.3", tls=AUTHORITY.issue("mx.example.test").context())
    world.domain("example.test", "evil.test", "mx.example.test")
    world.names.add("evil.test", "A", "127.0.0.2")
    world.names.add("mx.example.test", "A", "127.0.0.3")
    world.policy(mode, "mx.example.test")
    assert world.outcome().code == world.outcome().code == 250
    assert (len(stranger.mails), len(named.mails)) == ((0, 2) if mode == "enforce" else (2, 0))
    assert caplog.text.count("tries out does not name evil.test") == (mode == "testing")


def test_when_the_policy_names_none_of_the_hosts_the_mail_waits(world: World) -> None:
    server = world.server(tls=AUTHORITY.issue("mx.example.test").context())
    world.domain()
    world.policy("enforce", "mx.other.test")
    assert is_deferred(world.outcome(), "4.7.5")
    assert server.connections == []


def test_a_connection_for_a_domain_that_asks_for_nothing_is_not_used_for_one_that_does(world: World) -> None:
    server = world.server(tls=Authority("Nobody knows it").issue("mx.shared.test").context())
    world.domain("open.test", "mx.shared.test")
    world.domain("example.test", "mx.shared.test")
    world.names.add("mx.shared.test", "A", "127.0.0.2")
    world.policy("enforce", "mx.shared.test")
    first, second, third = world.send("a@open.test", "b@example.test", "c@open.test")
    assert first.code == third.code == 250
    assert is_deferred(second, "4.7.5")
    assert [mail.rcpt_to[0] for mail in server.mails] == ["a@open.test", "c@open.test"]


# ---------------------------------------------------------------------------------------------------------------- DANE


@pytest.fixture
def validating(world: World, settings: Settings) -> World:
    settings.MAILHUB_DNS_VALIDATES = True
    return world


def tlsa(world: World, usage: int, identity: Identity, *, signed: bool = True) -> None:
    certificate = identity.certificate if usage == 3 else identity.authority.certificate
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    world.names.add(f"_{world.port}._tcp.mx.example.test", "TLSA", f"{usage} 1 1 {hashlib.sha256(key).hexdigest()}", signed=signed)


@pytest.mark.parametrize("usage", [2, 3])
def test_a_key_that_the_zone_names_is_believed_though_no_authority_vouches_for_it(validating: World, usage: int) -> None:
    identity = Authority("Private").issue("mx.example.test")
    server = validating.server(tls=identity.context())
    validating.domain(signed=True)
    tlsa(validating, usage, identity)
    assert [reply.code for reply in validating.send("a@example.test", "b@example.test")] == [250, 250]
    assert all(mail.tls for mail in server.mails)
    assert len(server.connections) == 1


@pytest.mark.parametrize("usage", [2, 3])
def test_any_other_key_stops_the_mail(validating: World, usage: int) -> None:
    server = validating.server(tls=AUTHORITY.issue("mx.example.test").context())
    validating.domain(signed=True)
    tlsa(validating, usage, Authority("Private").issue("mx.example.test"))
    outcome = validating.outcome()
    assert is_deferred(outcome, "4.7.5")
    assert "DANE" in outcome.reply.text
    assert server.mails == []


def test_tls_that_was_stripped_stops_it_too(validating: World) -> None:
    server = validating.server()
    validating.domain(signed=True)
    tlsa(validating, 3, AUTHORITY.issue("mx.example.test"))
    assert is_deferred(validating.outcome(), "4.7.5")
    assert server.mails == []


def test_records_that_nobody_can_check_still_ask_for_tls(validating: World) -> None:
    server = validating.server()
    validating.domain(signed=True)
    validating.names.add(f"_{validating.port}._tcp.mx.example.test", "TLSA", "0 0 1 " + "00" * 32, signed=True)
    assert is_deferred(validating.outcome(), "4.7.5")
    mx.forget()
    server.tls = Authority("Private").issue("mx.example.test").context()
    assert validating.outcome().code == 250
    assert server.mails[0].tls


def test_a_zone_that_does_not_tell_its_keys_gets_no_mail_until_it_does(validating: World) -> None:
    server = validating.server(tls=AUTHORITY.issue("mx.example.test").context())
    validating.domain(signed=True)
    validating.names.fail(f"_{validating.port}._tcp.mx.example.test")
    assert is_deferred(validating.outcome(), "4.4.3")
    assert server.connections == []


@pytest.mark.parametrize("unsigned", ["mx", "address", "tlsa"])
def test_what_is_not_proven_asks_for_nothing(validating: World, unsigned: str) -> None:
    server = validating.server()
    validating.names.add("example.test", "MX", "10 mx.example.test.", signed=unsigned != "mx")
    validating.names.add("mx.example.test", "A", "127.0.0.2", signed=unsigned != "address")
    tlsa(validating, 3, AUTHORITY.issue("mx.example.test"), signed=unsigned != "tlsa")
    assert validating.outcome().code == 250
    assert len(server.mails) == 1


def test_a_resolver_that_is_not_trusted_is_not_asked_for_keys(world: World) -> None:
    server = world.server()
    world.domain(signed=True)
    tlsa(world, 3, AUTHORITY.issue("mx.example.test"))
    assert world.outcome().code == 250
    assert not any(kind == "TLSA" for _name, kind, _transport in world.names.asked)
    assert len(server.mails) == 1


def test_the_zone_has_more_to_say_than_a_policy(validating: World) -> None:
    identity = Authority("Private").issue("mx.example.test")
    server = validating.server(tls=identity.context())
    validating.domain(signed=True)
    validating.policy("enforce", "mx.example.test")
    tlsa(validating, 3, identity)
    assert validating.outcome().code == 250
    assert len(server.mails) == 1


# ---------------------------------------------------------------------------------------------------------------- the form


def test_the_form_needs_nothing_but_its_defaults(world: World) -> None:
    form = MX.options_form({name: field.initial for name, field in MX.options_form.base_fields.items()})
    assert form.is_valid(), form.errors
    assert form.cleaned_data == {"tls": "opportunistic", "port": 25, "final_timeout": 60}


@pytest.mark.parametrize("wrong", [{"tls": "sometimes"}, {"port": 0}, {"port": 65536}, {"final_timeout": 1}])
def test_nonsense_is_refused_by_name(wrong: dict[str, Any]) -> None:
    form = MX.options_form({"tls": "opportunistic", "port": 25, "final_timeout": 60} | wrong)
    assert list(form.errors) == list(wrong)


# ---------------------------------------------------------------------------------------------------------------- a drain


def test_greylisted_mail_waits_in_the_queue_and_leaves_from_where_it_left_before(world: World) -> None:
    for n in range(102, 106):
        world.add_ip(f"127.0.0.{n}")
    server = world.server()
    server.answers("rcpt", Reply("451 4.7.1 Greylisted"), times=8)
    world.domain()
    messages = queued(world, *(f"r{n}@example.test" for n in range(8)))
    engine.drain(world.relay, "transactional")
    assert corridor.states(*messages) == ["deferred"] * 8
    first = {line: connection.peer[0] for connection in server.connections for line in connection.commands if line.startswith("RCPT")}
    mx.forget()
    Message.objects.update(next_attempt_at=clock.now())
    engine.drain(world.relay, "transactional")
    assert corridor.states(*messages) == ["sent"] * 8
    assert {f"RCPT TO:<{mail.rcpt_to[0]}>": mail.peer[0] for mail in server.mails} == first
    assert len(set(first.values())) > 1
    recorded = {f"RCPT TO:<{attempt.message.address}>": {attempt.source_ip} for attempt in Attempt.objects.select_related("message")}
    assert recorded == {line: {address} for line, address in first.items()}


def test_mail_to_a_dead_domain_holds_nobody_up_and_rests_no_relay(world: World) -> None:
    server = world.server()
    world.domain()
    world.domain("dead.test", "mx.dead.test")
    world.names.add("mx.dead.test", "A", "127.0.0.3")
    world.names.add("null.test", "MX", "0 .")
    messages = queued(world, "a@dead.test", "b@example.test", "c@null.test", "d@nowhere.test", "e@dead.test", "f@example.test")
    engine.drain(world.relay, "transactional")
    assert corridor.states(*messages) == ["deferred", "sent", "bounced", "bounced", "deferred", "sent"]
    assert {mail.rcpt_to[0] for mail in server.mails} == {"b@example.test", "f@example.test"}
    world.relay.refresh_from_db()
    assert world.relay.is_available(clock.now())


def test_the_relays_form_asks_for_a_pool(world: World) -> None:
    given = {"name": "Direct 2", "max_connections": 5, "first_retry": 300, "tls": "opportunistic", "port": 25, "final_timeout": 60}
    assert list(RelayForm.of("mx")(given).errors) == ["pool"]
    assert RelayForm.of("mx")(given | {"pool": world.pool.pk}).is_valid()


def test_a_new_relay_tries_again_when_greylisting_lets_it_in(admin_client: Client) -> None:
    page = admin_client.get(reverse("admin:relays_relay_add") + "?kind=mx")
    assert page.context["adminform"].form["first_retry"].value() == 300
    page = admin_client.get(reverse("admin:relays_relay_add") + "?kind=memory")
    assert page.context["adminform"].form["first_retry"].value() == 60


@pytest.mark.parametrize("work", ["transactional", "bulk"])
def test_a_wake_up_that_reached_the_wrong_machine_is_handed_on(world: World, monkeypatch: pytest.MonkeyPatch, work: tasks.Queue) -> None:
    asked: list[tuple[str, tuple[int, ...], str]] = []
    monkeypatch.setattr(tasks, "enqueue", lambda task, *ids, queue: asked.append((task, ids, queue)))
    world.server()
    world.domain()
    DedicatedIP.objects.update(address="203.0.113.8", node="another")
    messages = queued(world, "a@example.test")
    function, path = {"bulk": delivery.drain, "transactional": delivery.drain_transactional}[work], queue.DRAINS[work]
    function(world.relay.pk)
    assert asked == [(path, (world.relay.pk, 1), work)]
    # Not for ever: should no machine have them, the tick asks again.
    for times in range(1, delivery.HANDED_ON + 1):
        function(world.relay.pk, times)
    assert len(asked) == delivery.HANDED_ON
    assert corridor.states(*messages) == ["queued"]
    # The machine that has them takes the mail.
    DedicatedIP.objects.update(address=OURS, node=socket.gethostname())
    delivery.drain_transactional(world.relay.pk, 1)
    assert corridor.states(*messages) == ["sent"]
