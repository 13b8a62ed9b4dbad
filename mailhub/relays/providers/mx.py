"""Direct delivery: from an address of our own to the servers that the recipient's domain names (RFC 5321 section 5).

One session serves mails to any domain. Behind all sessions of a drain stand the connections that it keeps, each to one host, from one
address of ours, as secure as the domain asks.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import IntEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING, ClassVar, TypeVar

from asgiref.sync import sync_to_async
from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import DatabaseError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mailhub.lib import addresses, clock, dialer, dns, http
from mailhub.lib.notes import Notes
from mailhub.relays import dane, destinations, replies
from mailhub.relays.base import Deferred, Envelope, Fault, Held, Refused, RelayDown, Reply, SendError
from mailhub.relays.client import Answered, Client, Lost, Stale
from mailhub.relays.destinations import Guide
from mailhub.relays.models import OTHER
from mailhub.relays.mta_sts import Mode, Policies, Policy
from mailhub.relays.providers.smtp import tls_context
from mailhub.relays.warmup import Allowances

if TYPE_CHECKING:
    from mailhub.relays.models import Relay

logger = logging.getLogger(__name__)

T = TypeVar("T")

# For one mail no more hosts of its domain, and addresses of theirs, are tried than this; and after so many seconds it must have a
# connection, since what is marked as being handed over cannot be held for long.
MOST_HOSTS = 5
MOST_ADDRESSES = 8
TRY_FOR = 30.0
# Seconds that an address has to answer, to agree on TLS, and to let us in altogether; the last also for any reply but the final one.
CONNECT = 10.0
HANDSHAKE = 10.0
PATIENCE = 30.0
# A connection waits this long for another mail to its host (seconds); of those that wait there are no more than this.
IDLE = 10.0
MOST_IDLE = 50
# Carriers end connections after a hundred mails. A destination may want another one sooner.
MAILS_PER_CONNECTION = 100
# Of a destination that limits connections none may be free: a mail waits so long (seconds) for one. Drains hand over no more mails to it at
# once than it allows connections, but they may want to leave from different addresses.
SLOT = 5.0
SLOT_AGAIN = timedelta(seconds=30)
LOOK_EVERY = 0.05
# Where the books and what was claimed did not agree: by then claims know that the day's mail is sent.
WARM_AGAIN = timedelta(minutes=5)
# What is learnt of domains is stored so many at a time, and again after so many seconds.
LEARN_AT = 50
LEARN_AGAIN = 3600

# Remembered by the process, for all drains that it runs. What did not let us in is left alone for a moment: each try holds one of the
# relay's connections up.
_shut: Notes[Target] = Notes(120, 10_000)
# A host whose TLS is broken gets plain words for an hour, where nobody asked for more.
_plain: Notes[str] = Notes(3600, 10_000)
# Which destination a domain was found to belong to.
_met: Notes[str] = Notes(LEARN_AGAIN, 50_000)
# What the log was told of a domain's policy, it need not be told with every mail.
_told: Notes[str] = Notes(3600, 10_000)


def forget() -> None:
    _shut.clear()
    _plain.clear()
    _met.clear()
    _told.clear()


class MXForm(forms.Form):
    rarely = ("port", "final_timeout")

    tls = forms.ChoiceField(
        label=gettext_lazy("encryption"),
        initial="opportunistic",
        choices=[
            ("opportunistic", gettext_lazy("where the other side can: what the domain publishes (MTA-STS, DANE) is kept to in any case")),
            ("required", gettext_lazy("always: mail to servers without TLS waits until it expires")),
        ],
    )
    port = forms.IntegerField(
        label=gettext_lazy("port"),
        initial=25,
        validators=[MinValueValidator(1), MaxValueValidator(65535)],
        help_text=gettext_lazy("Mail servers listen on 25; another one is only of use for trying things out."),
    )
    final_timeout = forms.IntegerField(
        label=gettext_lazy("patience for the last reply (seconds)"),
        initial=60,
        validators=[MinValueValidator(10), MaxValueValidator(600)],
        help_text=gettext_lazy(
            "For the reply to a whole mail. Whether the mail was taken is unknown when none comes: rather too long than too short."
        ),
    )


# ------------------------------------------------------------------------------------------------------------------- where, and how


class Level(IntEnum):
    """What a connection must have before a mail goes over it."""

    ANY = 0  # TLS where the host can, whoever it is; plain words otherwise
    ENCRYPTED = 1  # TLS, whoever it is
    VERIFIED = 2  # TLS, and a certificate for the host's name from an authority that this machine trusts (MTA-STS)
    DANE = 3  # TLS, and a key that the host's own zone names


@dataclass(frozen=True, slots=True)
class Security:
    level: Level
    # For DANE: what the zone says, and the names that a certificate below an authority may be for.
    records: tuple[dns.TLSA, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """An address of ours to leave from."""

    address: str
    #: what it calls itself in EHLO
    name: str
    #: the DedicatedIP's key while it warms up
    warms_up: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One address of one host, reached from one of ours."""

    source: Source
    host: str
    address: str
    security: Security
    #: key of the destination that the domain's hosts are
    destination: str = OTHER

    def serves(self, other: Target) -> bool:
        """A connection to this is as good as one to the other."""
        return self.source == other.source and self.host == other.host and self.security == other.security


def sources(relay: Relay) -> list[Source]:
    """The addresses of the relay's pool that this machine holds."""
    found = relay.pool.here() if relay.pool else []
    return [Source(ip.address, ip.ehlo_name or literal(ip.address), ip.pk if ip.plan_id else None) for ip in found]


def literal(address: str) -> str:
    """RFC 5321 section 4.1.3."""
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def ranked(found: Sequence[Source], envelope: Envelope) -> list[Source]:
    """In the order in which the mail would like to leave from them, always the same for mail from one domain to one recipient.

    Greylisting knows a mail by where it comes from, who sends it and who gets it: the next try has to leave from the same address. Each
    pair has an order of its own (rendezvous hashing), so mail spreads evenly, and an address that is added or taken away moves only its
    share."""
    pair = f"{addresses.domain(envelope.mail_from)}\0{addresses.key(envelope.rcpt_to)}"
    return sorted(found, key=lambda source: hashlib.sha256(f"{source.address}\0{pair}".encode()).digest())


def ways(found: Sequence[str], order: Sequence[Source]) -> list[tuple[str, Source]]:
    """Each of a host's addresses with the first of ours that can reach it, those that our first choice reaches first."""
    chosen: dict[int, Source] = {}
    for source in order:
        chosen.setdefault(ip_address(source.address).version, source)
    # A dict keeps the order in which its keys came.
    return [(address, source) for version, source in chosen.items() for address in found if ip_address(address).version == version]


def named(hosts: Sequence[str], policy: Policy, domain: str) -> list[str]:
    """Those of the domain's hosts that may have its mail by its policy: all of them while it only tries the policy out."""
    strangers = [host for host in hosts if not policy.names(host)]
    if policy.mode == Mode.ENFORCE:
        return [host for host in hosts if host not in strangers]
    if strangers and _told.read(domain) is None:
        logger.warning("the MTA-STS policy that %s tries out does not name %s", domain, ", ".join(strangers))
        _told.write(domain)
    return list(hosts)


# ---------------------------------------------------------------------------------------------------------------------- connecting


class NotThere(Exception):
    """The mail cannot go this way; there may be others."""

    def __init__(self, reply: Reply, *, forbidden: bool = False) -> None:
        super().__init__(str(reply))
        self.reply = reply
        #: our own rules keep us from it
        self.forbidden = forbidden


class Insecure(NotThere):
    """The connection is not what the target's security asks for."""

    def __init__(self, why: str) -> None:
        super().__init__(Reply(None, "4.7.5", why[:500]))


async def in_time(deadline: float, step: Awaitable[T]) -> T:
    """Raises NotThere when it takes longer."""
    try:
        async with asyncio.timeout_at(deadline):
            return await step
    except TimeoutError:
        raise NotThere(Reply(None, "4.4.1", _("No connection could be had in time."))) from None


async def dial(target: Target, port: int) -> socket.socket:
    """Raises NotThere."""
    try:
        return await dialer.connect([target.address], port, source=target.source.address, timeout=CONNECT)
    except dialer.Forbidden as error:
        raise NotThere(Reply(None, "5.4.4", f"{target.host}: {error}"), forbidden=True) from None
    except OSError as error:
        words = {"host": target.host, "address": target.address, "source": target.source.address, "error": error.strerror or error}
        raise NotThere(Reply(None, "4.4.1", _("No connection to %(host)s (%(address)s) from %(source)s: %(error)s") % words)) from None


async def introduce(client: Client, target: Target, trust: Callable[[], ssl.SSLContext]) -> None:
    """From the greeting until mail can be sent, as safely as the target's security asks. Raises Insecure, NotThere or Lost."""
    expect(220, await client.greeting())
    expect(250, await client.hello())
    anyhow = target.security.level == Level.ANY
    if anyhow and _plain.read(target.host) is not None:
        return
    if "STARTTLS" in client.offers:
        try:
            reply = await client.ask("STARTTLS")
            if reply.code != 220:
                raise Insecure(_("%(host)s offers STARTTLS, but answered: %(reply)s") % {"host": target.host, "reply": reply})
            await start_tls(client, target, trust)
            expect(250, await client.hello())
        except Lost as lost:
            raise Insecure(_("TLS with %(host)s failed: %(error)s") % {"host": target.host, "error": lost}) from None
    elif not anyhow:
        raise Insecure(_("%(host)s does not offer STARTTLS, and mail to it must be encrypted.") % {"host": target.host})


def expect(code: int, reply: Reply) -> None:
    if reply.code != code:
        raise NotThere(reply)


async def start_tls(client: Client, target: Target, trust: Callable[[], ssl.SSLContext]) -> None:
    """Raises Insecure."""
    security, host = target.security, target.host
    context = trust() if security.level == Level.VERIFIED else tls_context(False, ssl.get_default_verify_paths())
    try:
        async with asyncio.timeout(HANDSHAKE):
            await client.start_tls(context, host)
        if security.level == Level.DANE and client.wire.transport:
            dane.prove(security.records, dane.chain(client.wire.transport.get_extra_info("ssl_object")), security.names)
    except dane.Unproven as error:
        raise Insecure(_("%(host)s did not show the key that its zone names (DANE): %(error)s") % {"host": host, "error": error}) from None
    except ssl.SSLCertVerificationError as error:
        words = {"host": host, "error": error.verify_message or error}
        raise Insecure(_("The certificate of %(host)s cannot be trusted (MTA-STS): %(error)s") % words) from None
    except TimeoutError:
        raise Insecure(_("TLS with %(host)s failed: %(error)s") % {"host": host, "error": _("no answer in time")}) from None
    except (OSError, ValueError) as error:  # also a host's name that cannot stand in a certificate
        raise Insecure(_("TLS with %(host)s failed: %(error)s") % {"host": host, "error": error}) from None


# ------------------------------------------------------------------------------------------------------------------------ provider


@dataclass(slots=True)
class Kept:
    """A connection that waits for another mail."""

    target: Target
    client: Client
    since: float


class MX:
    label = gettext_lazy("Direct delivery (to the recipients' own mail servers)")
    options_form: ClassVar[type[forms.Form]] = MXForm
    secret_options: ClassVar[frozenset[str]] = frozenset()
    uses_pool: ClassVar[bool] = True

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.port: int = relay.options.get("port") or 25
        self.final_timeout: float = relay.options.get("final_timeout") or 60
        self.least = Level.ENCRYPTED if relay.options.get("tls") == "required" else Level.ANY
        self.policies = Policies()
        self.trust: Callable[[], ssl.SSLContext] = http.public_trust
        #: None until a session is opened: looking them up needs the database
        self.sources: list[Source] | None = None
        self.kept: list[Kept] = []
        #: looked up together with the sources
        self.guide: Guide | None = None
        self.slots: Mapping[str, Mapping[str, int]] = {}
        #: open connections, and those being opened, by destination and source
        self.clients: dict[Client, tuple[str, str]] = {}
        self.connecting: Counter[tuple[str, str]] = Counter()
        #: what addresses that warm up may still send
        self.allowances = Allowances()
        self.asking = asyncio.Lock()
        #: what was learnt of domains and is not stored
        self.learnt: dict[str, str] = {}
        self.sessions = 0
        self.leaving: set[asyncio.Task[None]] = set()

    def allow(self, slots: Mapping[str, Mapping[str, int]]) -> None:
        self.slots = slots

    async def open(self) -> DirectSession:
        if self.sources is None:
            self.guide = await sync_to_async(Guide)()
            self.sources = await sync_to_async(sources)(self.relay)
        if not self.sources:
            words = {"pool": self.relay.pool or "-", "node": socket.gethostname()}
            raise RelayDown(Reply(None, "", _("None of the addresses of pool %(pool)s is on this machine (%(node)s).") % words))
        self.sessions += 1
        return DirectSession(self)

    async def closed(self) -> None:
        """A session was closed; with the last one the kept connections go."""
        self.sessions -= 1
        if not self.sessions:
            while self.kept:
                self.part(self.kept.pop().client)
            await self.learn()
            await self.return_allowances()
            await asyncio.gather(*self.leaving)

    # -- one mail

    async def deliver(self, envelope: Envelope) -> Reply:
        """Raises Refused, Deferred or OutcomeUnknown."""
        domain = addresses.domain(envelope.rcpt_to).lower()
        enough = asyncio.get_running_loop().time() + TRY_FOR
        failures: list[NotThere] = []
        tries = 0
        try:
            exchangers = await in_time(enough, self.exchangers(domain))
            policy = await in_time(enough, self.policies.policy(domain))
        except NotThere as failure:
            raise self.given_up(domain, [failure]) from None
        hosts = [exchanger.host for exchanger in exchangers.records]
        destination = await self.destination(domain, hosts)
        if policy:
            hosts = named(hosts, policy, domain)
            if not hosts:
                words = _("The policy of %(domain)s (MTA-STS) names none of its hosts.") % {"domain": domain}
                raise Deferred(Reply(None, "4.7.5", words))
        order = await self.allowed(ranked(self.sources or (), envelope), destination)
        unused = set(order)
        try:
            for host in hosts[:MOST_HOSTS]:
                try:
                    found = await in_time(enough, self.targets(domain, host, policy, exchangers.authenticated, order))
                    targets = [self.asked_for(replace(target, destination=destination)) for target in found]
                except NotThere as failure:
                    failures.append(failure)
                    continue
                for target in targets[: MOST_ADDRESSES - tries]:
                    tries += 1
                    # Until it is certain that nothing left.
                    unused.discard(target.source)
                    try:
                        reply = await self.hand_over(target, envelope, enough)
                    except NotThere as failure:
                        failures.append(failure)
                        unused.add(target.source)
                    except SendError as error:
                        self.hear(target, error)
                        raise
                    else:
                        self.hear(target, None)
                        return reply
            raise self.given_up(domain, failures)
        finally:
            self.put_back(unused, destination)

    # -- warm-up

    async def allowed(self, order: Sequence[Source], destination: str) -> list[Source]:
        """Of each version the first that may carry another mail to the destination today, which is set apart. Raises Held."""
        chosen: dict[int, Source] = {}
        for source in order:
            version = ip_address(source.address).version
            if version not in chosen and await self.may(source, destination):
                chosen[version] = source
        if order and not chosen:
            words = _("All addresses have sent to %(destination)s what they may send in a day while they warm up.")
            raise Held(Reply(None, "", words % {"destination": destination}), WARM_AGAIN)
        return list(chosen.values())

    async def may(self, source: Source, destination: str) -> bool:
        if source.warms_up is None or self.allowances.at_hand(source.warms_up, destination):
            return True
        async with self.asking:
            return await sync_to_async(self.fetch)(source.warms_up, destination)

    def fetch(self, ip: int, destination: str) -> bool:
        return self.allowances.fetch(ip, destination, clock.now())

    def hear(self, target: Target, error: SendError | None) -> None:
        if target.source.warms_up is not None:
            self.allowances.hear(target.source.warms_up, target.destination, error)

    def put_back(self, unused: Iterable[Source], destination: str) -> None:
        for source in unused:
            if source.warms_up is not None:
                self.allowances.put_back(source.warms_up, destination)

    async def return_allowances(self) -> None:
        try:
            await sync_to_async(self.store_allowances)()
        except DatabaseError:  # it counts as sent, then
            logger.exception("what relay %s did not send of its warm-up could not be given back", self.relay.pk)

    def store_allowances(self) -> None:
        if self.allowances.stocks:
            self.allowances.store(clock.now())

    # -- where

    async def exchangers(self, domain: str) -> dns.Answer[dns.Exchanger]:
        """Where the domain's mail goes; among equals first where a connection waits. Raises Refused or Deferred."""
        try:
            answer = await dns.exchangers(domain)
        except dns.NullMX as error:
            raise Refused(Reply(556, "5.1.10", str(error)), Fault.RECIPIENT) from None
        except dns.Absent as error:
            raise Refused(Reply(550, "5.1.2", str(error)), Fault.RECIPIENT) from None
        except dns.Unanswered as error:
            raise Deferred(Reply(None, "4.4.3", str(error))) from None
        waiting = {kept.target.host for kept in self.kept}
        best_first = sorted(answer.records, key=lambda exchanger: (exchanger.preference, exchanger.host not in waiting))
        return replace(answer, records=tuple(best_first))

    async def targets(self, domain: str, host: str, policy: Policy | None, proven: bool, order: Sequence[Source]) -> list[Target]:
        """The ways to one of the domain's hosts. Raises NotThere, or Refused."""
        try:
            found = await dns.addresses(host)
            security = await self.security(domain, host, policy, proven and found.authenticated)
        except dns.Absent as error:
            if host == domain:
                # Neither exchanger nor address: it takes no mail, and that it did by itself.
                raise Refused(Reply(550, "5.1.2", str(error)), Fault.RECIPIENT) from None
            raise NotThere(Reply(None, "4.4.4", str(error))) from None
        except dns.Unanswered as error:
            raise NotThere(Reply(None, "4.4.3", str(error))) from None
        # Hosts of many machines have many addresses; a kept answer gives them always in the same order.
        shuffled = random.sample(found.records, len(found.records))
        targets = [Target(source, host, address, security) for address, source in ways(shuffled, order)]
        if not targets:
            words = _("%(host)s has no address of a version that we can leave from: %(addresses)s")
            raise NotThere(Reply(None, "4.4.4", words % {"host": host, "addresses": ", ".join(found.records)}))
        return targets

    async def security(self, domain: str, host: str, policy: Policy | None, proven: bool) -> Security:
        """What mail for the domain asks of a connection to its host. `proven`: DNSSEC has proven that this is its host, and its addresses.

        Raises Unanswered: a zone that has DANE and does not answer for it may be under attack (RFC 7672 section 2.1)."""
        level = Level.VERIFIED if policy and policy.mode == Mode.ENFORCE else self.least
        if not proven:
            return Security(level)
        answer = await dns.tlsa(host, self.port)
        if not answer.records or not answer.authenticated:
            return Security(level)
        usable = dane.usable(answer.records)
        if not usable:
            return Security(max(level, Level.ENCRYPTED))
        records = sorted(usable, key=lambda record: (record.usage, record.selector, record.matching, record.data))
        below_authority = any(record.usage == dane.ANCHOR for record in usable)
        return Security(Level.DANE, tuple(records), (host, domain) if below_authority else ())

    def given_up(self, domain: str, failures: Sequence[NotThere]) -> SendError:
        """The decision when no way was open."""
        if failures and all(failure.forbidden for failure in failures):
            # The domain is set up for its own network alone, or leads us astray; nothing that is wrong with the address.
            return Refused(replace(failures[-1].reply, code=550), Fault.POLICY)
        # What a server said tells more than that another did not answer.
        said = [failure.reply for failure in failures if failure.reply.code]
        said += [failure.reply for failure in failures if not failure.reply.code and not failure.forbidden] if not said else []
        return Deferred(said[-1] if said else Reply(None, "4.4.1", _("No host of %(domain)s could be tried.") % {"domain": domain}))

    # -- destinations

    async def destination(self, domain: str, hosts: Sequence[str]) -> str:
        """Whose servers the domain's hosts are; for the next mails to it they are in the books."""
        found = self.guide.of(hosts) if self.guide else OTHER
        if _met.read(domain) != found:
            _met.write(domain, found)
            self.learnt[domain] = found
            if len(self.learnt) >= LEARN_AT:
                await self.learn()
        return found

    async def learn(self) -> None:
        learnt, self.learnt = self.learnt, {}
        if learnt:
            try:
                await sync_to_async(destinations.learn)(learnt)
            except DatabaseError:  # it will be learnt again
                logger.exception("what was learnt of %s domains could not be stored", len(learnt))

    def asked_for(self, target: Target) -> Target:
        """The target as securely as its destination wants it."""
        wanted = self.guide.by_key[target.destination] if self.guide else None
        if wanted is None or not wanted.tls_required or target.security.level >= Level.ENCRYPTED:
            return target
        return replace(target, security=replace(target.security, level=Level.ENCRYPTED))

    def most_mails(self, target: Target) -> int:
        """On one connection."""
        wanted = self.guide.by_key[target.destination].messages_per_connection if self.guide else None
        return min(wanted or MAILS_PER_CONNECTION, MAILS_PER_CONNECTION)

    async def slot(self, target: Target) -> None:
        """Wait until another connection to the target's destination may be opened from its source. Raises Held."""
        key = (target.destination, target.source.address)
        if target.destination not in self.slots:
            return
        allowed = self.slots[target.destination].get(target.source.address, 0)
        enough = asyncio.get_running_loop().time() + (SLOT if allowed else 0)
        while self.used(key) >= allowed:
            idle = next((kept for kept in self.kept if (kept.target.destination, kept.target.source.address) == key), None)
            if idle:
                # To another host, or less secure.
                self.kept.remove(idle)
                await self.leave(idle.client)
            elif asyncio.get_running_loop().time() < enough:
                await asyncio.sleep(LOOK_EVERY)
            else:
                words = _("All connections that %(destination)s may have from %(source)s are in use.")
                named = {"destination": target.destination, "source": target.source.address}
                raise Held(Reply(None, "4.4.5", words % named), SLOT_AGAIN)

    def used(self, key: tuple[str, str]) -> int:
        self.clients = {client: of for client, of in self.clients.items() if not client.wire.failure}
        return self.connecting[key] + sum(of == key for of in self.clients.values())

    # -- connections

    async def connect(self, target: Target) -> Client:
        """Raises NotThere, or Deferred."""
        shut = _shut.read(target)
        if shut is not None:
            words = {"host": target.host, "reason": shut}
            raise NotThere(Reply(None, "4.4.1", _("%(host)s is left alone for a moment: %(reason)s") % words))
        try:
            try:
                return await self.new(target)
            except Insecure as error:
                if target.security.level > Level.ANY:
                    raise
                logger.warning("%s gets mail unencrypted for a while: %s", target.host, error)
                _plain.write(target.host)
                return await self.new(target)
        except NotThere as failure:
            if not failure.forbidden:
                _shut.write(target, failure.reply.text)
            raise

    async def new(self, target: Target) -> Client:
        """Raises NotThere, or Deferred."""
        key = (target.destination, target.source.address)
        await self.slot(target)
        self.connecting[key] += 1
        try:
            client = await self.introduced(target)
        finally:
            self.connecting[key] -= 1
        self.clients[client] = key
        return client

    async def introduced(self, target: Target) -> Client:
        """Raises NotThere."""
        sock = await dial(target, self.port)
        client = Client(patience=PATIENCE, final_timeout=self.final_timeout, name=target.source.name)
        try:
            async with asyncio.timeout(PATIENCE):
                await client.connect(sock)
                await introduce(client, target, self.trust)
        except BaseException as error:
            await client.wire.close()
            if isinstance(error, TimeoutError):
                raise NotThere(Reply(None, "4.4.2", _("%(host)s did not let us in in time.") % {"host": target.host})) from None
            if isinstance(error, Lost):
                raise NotThere(replace(error.reply, enhanced="4.4.2", text=f"{target.host}: {error.reply.text}")) from None
            raise
        return client

    def waiting(self, target: Target) -> Client | None:
        now = asyncio.get_running_loop().time()
        for kept in [kept for kept in self.kept if now - kept.since >= IDLE or not kept.client.alive]:
            self.kept.remove(kept)
            self.part(kept.client)
        for kept in reversed(self.kept):
            if kept.target.serves(target):
                self.kept.remove(kept)
                return kept.client
        return None

    async def hand_over(self, target: Target, envelope: Envelope, enough: float) -> Reply:
        """Over a connection that waits, or a new one if there is one to be had until `enough`. Raises Refused, Deferred, OutcomeUnknown or
        NotThere."""
        try:
            if client := self.waiting(target):
                # It may have ended unnoticed, or end now: servers do that when they like.
                try:
                    return await self.send(client, target, envelope)
                except Stale:
                    await self.leave(client)
            return await self.send(await in_time(enough, self.connect(target)), target, envelope)
        except Stale:
            raise NotThere(Reply(None, "4.4.2", _("%(host)s let us in, and hung up.") % {"host": target.host})) from None

    async def send(self, client: Client, target: Target, envelope: Envelope) -> Reply:
        """Raises Refused, Deferred, OutcomeUnknown or Stale."""
        decision: SendError
        try:
            reply = await client.send(envelope)
        except Answered as answered:
            # We have no account here: what is refused, is refused to this mail.
            decision = replies.judge(answered.reply, answered.phase, let_in=True)
            if isinstance(decision, RelayDown):
                # What would rest a relay is between this host and us. Hosts of other domains know nothing of it.
                decision = Deferred(decision.reply)
        except Lost as lost:
            decision = Deferred(Reply(None, "4.4.2", f"{target.host}: {lost}"[:500]))
        except SendError as error:
            decision = error
        except BaseException:
            # It has ended, or we were stopped in the middle of something: it is of no more use.
            await client.wire.close()
            raise
        else:
            self.keep(target, client)
            return replace(reply, source_ip=target.source.address)
        self.keep(target, client)
        decision.reply = replace(decision.reply, source_ip=target.source.address)
        raise decision

    def keep(self, target: Target, client: Client) -> None:
        if not client.alive or client.count >= self.most_mails(target):
            self.part(client)
            return
        self.kept.append(Kept(target, client, asyncio.get_running_loop().time()))
        if len(self.kept) > MOST_IDLE:
            self.part(self.kept.pop(0).client)

    def part(self, client: Client) -> None:
        """Leave politely, while others go on."""
        task = asyncio.create_task(self.leave(client))
        self.leaving.add(task)
        task.add_done_callback(self.leaving.discard)

    async def leave(self, client: Client) -> None:
        await client.quit()
        self.clients.pop(client, None)


class DirectSession:
    """Serves mails to any domain, one at a time."""

    spent = False

    def __init__(self, provider: MX) -> None:
        self.provider = provider
        self.open = True

    async def send(self, envelope: Envelope) -> Reply:
        return await self.provider.deliver(envelope)

    async def close(self) -> None:
        if self.open:
            self.open = False
            await self.provider.closed()
