"""Direct delivery keeps to what destinations ask for, and learns whose a domain's mail exchangers are."""

from __future__ import annotations

from asyncio import StreamReader, StreamWriter
from collections import Counter

import pytest

from mailhub.delivery import engine, queue
from mailhub.delivery.models import Attempt, Message, Suppression
from mailhub.lib import clock, dns
from mailhub.relays import destinations
from mailhub.relays.models import Destination, KnownDomain, Parking, Relay
from mailhub.relays.parking import BREAKS
from mailhub.relays.providers import mx
from tests.certificates import Authority
from tests.delivery import world as corridor
from tests.relays.test_mx import World, world
from tests.smtp_server import Delay, Reply, Reset, SMTPServer

__all__ = ["world"]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    destinations.forget()


def gmail(world: World, *domains: str) -> SMTPServer:
    """Domains whose mail goes to Google's servers, on 127.0.0.3, which speak TLS."""
    server = world.server("127.0.0.3", tls=Authority().issue("mx.google.com").context())
    world.names.add("aspmx.l.google.com", "A", "127.0.0.3")
    for domain in domains:
        world.domain(domain, "aspmx.l.google.com")
    return server


def batch(world: World, *recipients: str) -> None:
    Relay.objects.filter(pk=world.relay.pk).update(options=world.relay.options, max_connections=30)
    world.relay.refresh_from_db()
    corridor.make_batch(corridor.make_sender("us@sender.test"), *recipients, route=corridor.make_route(world.relay))


def people(domain: str, count: int) -> list[str]:
    return [f"r{next(corridor.numbers)}@{domain}" for _ in range(count)]


@pytest.fixture
def most(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many connections were open at once to the servers of Google, by the address of ours; those that said QUIT apart."""
    most: Counter[str] = Counter()
    connected = SMTPServer.connected

    async def counted(self: SMTPServer, reader: StreamReader, writer: StreamWriter) -> None:
        if self.host == "127.0.0.3":
            alive = [each for each in self.connections if not each.closed and each.commands[-1:] != ["QUIT"]]
            peers = Counter(each.peer[0] for each in alive) + Counter([writer.get_extra_info("peername")[0]])
            most.update({peer: count - most[peer] for peer, count in peers.items() if count > most[peer]})
        await connected(self, reader, writer)

    monkeypatch.setattr(SMTPServer, "connected", counted)
    return most


def test_what_is_learnt_of_a_domain_holds_for_its_next_mails(world: World) -> None:
    gmail(world, "school.test", "company.test")
    world.server("127.0.0.2")
    world.domain("own.test")
    batch(world, "a@school.test", "b@company.test", "c@own.test")
    engine.drain(world.relay)
    assert dict(KnownDomain.objects.filter(learnt_at__isnull=False).values_list("domain", "destination")) == {
        "school.test": "gmail",
        "company.test": "gmail",
    }
    # It moves away.
    world.names.remove("school.test", "MX")
    world.domain("school.test", "mx.own.test")
    mx.forget()
    dns.forget()
    route = Message.objects.all()[0].batch.route
    later = corridor.make_batch(corridor.make_sender(), "d@school.test", route=route)
    assert later.messages.get().destination_id == "gmail"
    engine.drain(world.relay)
    assert corridor.books() == {"sent": 4}
    assert not KnownDomain.objects.filter(domain="school.test").exists()


def test_no_more_connections_are_open_than_the_destination_allows_from_each_address(most: Counter[str], world: World) -> None:
    world.add_ip("127.0.0.102")
    server = gmail(world, "gmail.com")
    server.answers("dot", Delay(0.02))
    batch(world, *people("gmail.com", 120))
    engine.drain(world.relay)
    assert corridor.books() == {"sent": 120}
    # Five from each, less one for urgent mail.
    assert set(most) == {"127.0.0.101", "127.0.0.102"}
    assert 2 <= max(most.values()) <= 4


def test_domains_that_turn_out_to_be_a_destinations_are_counted_with_it(most: Counter[str], world: World) -> None:
    """What was queued before a domain was known is not labelled as the destination's."""
    Destination.objects.filter(pk="gmail").update(connections=2)
    domains = [f"school{number}.test" for number in range(6)]
    server = gmail(world, "gmail.com", *domains)
    server.answers("dot", Delay(0.05))
    batch(world, *(address for domain in domains for address in people(domain, 5)), *people("gmail.com", 5))
    assert dict(Counter(Message.objects.values_list("destination", flat=True))) == {"other": 30, "gmail": 5}
    engine.drain(world.relay)
    assert most == {"127.0.0.101": 1}
    assert corridor.books()["sent"] > 5


def test_a_connection_serves_as_many_mails_as_its_destination_wants(world: World) -> None:
    Destination.objects.filter(pk="gmail").update(connections=2, messages_per_connection=3)
    server = gmail(world, "gmail.com")
    batch(world, *people("gmail.com", 7))
    engine.drain(world.relay)
    assert corridor.books() == {"sent": 7}
    assert sorted(Counter(mail.peer for mail in server.mails).values()) == [1, 3, 3]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_destination_may_get_encrypted_mail_alone(world: World, wanted: bool) -> None:
    Destination.objects.filter(pk="gmail").update(tls_required=wanted)
    world.names.add("aspmx.l.google.com", "A", "127.0.0.2")
    server = world.server()
    world.domain("gmail.com", "aspmx.l.google.com")
    batch(world, "a@gmail.com")
    engine.drain(world.relay)
    assert corridor.books() == {"deferred" if wanted else "sent": 1}
    assert len(server.mails) == (not wanted)


def test_a_destination_that_resets_connections_is_left_alone_and_the_rest_of_the_world_is_not(world: World) -> None:
    """As au does when it is crowded."""
    crowded = world.server("127.0.0.4")
    crowded.answers("mail", Reset())
    world.names.add("lsean.ezweb.ne.jp", "A", "127.0.0.4")
    world.domain("ezweb.ne.jp", "lsean.ezweb.ne.jp")
    Destination.objects.filter(pk="au").update(rate=None)
    others = world.server("127.0.0.2")
    world.domain("own.test")
    batch(world, *people("ezweb.ne.jp", 100), *people("own.test", 40))
    engine.drain(world.relay)
    assert len(others.mails) == 40
    row = Parking.objects.get()
    assert (row.destination_id, row.sender_domain) == ("au", "")
    tried = Attempt.objects.filter(outcome="deferred").count()
    assert BREAKS <= tried <= BREAKS + 5
    assert queue.due(world.relay) == []
    world.relay.refresh_from_db()
    assert world.relay.is_available(clock.now())
    assert not Suppression.objects.exists()


def test_hosts_that_do_not_answer_park_their_destination(world: World) -> None:
    world.server("127.0.0.2")
    world.domain("own.test")
    # Nobody listens there.
    world.names.add("lsean.ezweb.ne.jp", "A", "127.0.0.9")
    world.domain("ezweb.ne.jp", "lsean.ezweb.ne.jp")
    Destination.objects.filter(pk="au").update(rate=None)
    batch(world, *people("ezweb.ne.jp", 60), *people("own.test", 20))
    engine.drain(world.relay)
    assert Parking.objects.get().destination_id == "au"
    assert Message.objects.filter(status="sent").count() == 20
    assert Attempt.objects.filter(outcome="deferred").count() <= BREAKS + 5


def test_what_the_sender_has_to_mend_parks_the_sender(world: World) -> None:
    server = gmail(world, "gmail.com")
    server.answers("rcpt", Reply("550-5.7.26 This mail has been blocked because the", "550 5.7.26 sender is unauthenticated."))
    batch(world, *people("gmail.com", 30))
    engine.drain(world.relay)
    row = Parking.objects.get()
    assert (row.destination_id, row.sender_domain) == ("gmail", "sender.test")
    assert corridor.books().keys() <= {"deferred", "queued"}
    assert not Suppression.objects.exists()
