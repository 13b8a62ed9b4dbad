"""The process: ports that others may share, how many may come at once, and what all connections have in common."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from ipaddress import ip_address, ip_network
from typing import ClassVar, ParamSpec, TypeVar

from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import translation

from mailhub.lib import addresses
from mailhub.relays.models import Stream
from mailhub.senders.models import Sender
from transactional import credentials, policies, sending
from transactional.models import Credential, Project
from transactional.requests import Forbidden
from transactional.smtpd.certificates import Contexts, NoCertificate
from transactional.smtpd.committer import Committer
from transactional.smtpd.protocol import Connection

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# Of all connections, so many may be one client's.
SHARE = 5
# Bytes of mails that are held before they are committed.
MOST_BYTES = 256 * 1024 * 1024
# Threads that look things up.
LOOKERS = 4
# Seconds: TLS from the first byte has to be agreed on within; a permission found is believed for; certificates are looked at every; mail
# that is on its way in when we are to stop has so long.
HANDSHAKE, BELIEVED, RENEWAL, GRACE = 15, 10, 60, 30
# (user, client) pairs that are remembered as known, and permissions.
KNOWN = 10_000
BACKLOG = 1024


class Rates:
    """So many recipients a minute for each credential, in one process: what a minute leaves unused is there for a burst."""

    def __init__(self, limit: int) -> None:
        """0: without limit."""
        self.limit = limit
        self._left: dict[int, tuple[float, float]] = {}

    def take(self, credential: int) -> bool:
        if not self.limit:
            return True
        now = time.monotonic()
        left, at = self._left.get(credential, (float(self.limit), now))
        left = min(left + (now - at) * self.limit / 60, self.limit)
        enough = left >= 1
        self._left[credential] = left - enough, now
        return enough


class Server:
    """Serves until told to stop. Use it in a thread with a running loop: the state is that thread's alone."""

    #: what speaks with a client
    speaks: ClassVar[type[Connection]] = Connection

    def __init__(self) -> None:
        """Raises NoCertificate."""
        self.loop = asyncio.get_running_loop()
        self.name: str = settings.MAILHUB_SMTPD_NAME
        self.contexts = Contexts()
        self.committer = Committer(self.loop)
        self.rates = Rates(settings.MAILHUB_SMTPD_RATE)
        self.throttle = credentials.Throttle()
        self.most: int = settings.MAILHUB_SMTPD_CONNECTIONS
        #: connections by client, those whose TLS is still being agreed on included
        self.clients: Counter[str] = Counter()
        self.connections: set[Connection] = set()
        self.stopping = False
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        #: when a (user name, client) last logged in
        self._known: dict[tuple[str, str], float] = {}
        #: until when a (project, envelope sender) may be used without asking
        self._permitted: dict[tuple[int, str], float] = {}
        self._held: dict[Connection, int] = {}
        self._held_by_all = 0
        self._lookers = ThreadPoolExecutor(LOOKERS, thread_name_prefix="lookup")
        self._handshakes: set[asyncio.Task[None]] = set()

    # -------------------------------------------------------------------------------------------------------------- coming in

    def stop(self) -> None:
        """Take no more connections, and finish the mails at hand; at once, when asked again."""
        (self._hurry if self._stop.is_set() else self._stop).set()

    async def serve(self, plain: Sequence[socket.socket], implicit: Sequence[socket.socket]) -> None:
        """On these listening sockets, with STARTTLS and with TLS from the first byte, until asked to stop."""
        # Replies go to programs and their logs, in ASCII. All connections are made by what is begun here, and think in its language.
        translation.activate("en")
        self.committer.start()
        doors = [self.loop.create_task(self._door(listener, implicit=False)) for listener in plain]
        doors += [self.loop.create_task(self._door(listener, implicit=True)) for listener in implicit]
        doors.append(self.loop.create_task(self._renew()))
        await self._stop.wait()
        logger.info("stopping: mail that is on its way in is finished")
        self.stopping = True
        for door in doors:
            door.cancel()
        await asyncio.gather(*doors, return_exceptions=True)
        for listener in (*plain, *implicit):
            listener.close()
        await self._leave()

    async def _leave(self) -> None:
        for handshake in self._handshakes:
            handshake.cancel()
        for each in list(self.connections):
            each.leave()
        end = self.loop.time() + GRACE
        while self.connections and not self._hurry.is_set() and self.loop.time() < end:
            await asyncio.sleep(0.05)
        for each in list(self.connections):
            if each.transport is not None:
                each.transport.abort()
        self.committer.finish()
        await self.loop.run_in_executor(None, self.committer.join, GRACE)
        # One for each thread, since none gets past it before all have come: every connection to the database is closed.
        together = threading.Barrier(LOOKERS)
        await asyncio.gather(*(self.loop.run_in_executor(self._lookers, hang_up, together) for _ in range(LOOKERS)))
        self._lookers.shutdown()

    async def _door(self, listener: socket.socket, *, implicit: bool) -> None:
        while True:
            try:
                sock, peer = await self.loop.sock_accept(listener)
            except OSError as error:
                # No file numbers left, most likely. Who waits, waits.
                logger.error("no connection can be accepted: %s", error)
                await asyncio.sleep(1)
                continue
            self._admit(sock, client_of(peer[0]), implicit)

    def _admit(self, sock: socket.socket, client: str, implicit: bool) -> None:
        sock.setblocking(False)
        if self.clients.total() >= self.most or self.clients[client] >= max(self.most // SHARE, 1):
            if not implicit:
                with suppress(OSError):
                    sock.send(b"421 4.7.0 Too many connections, please come again\r\n")
            sock.close()
            return
        self.clients[client] += 1
        task = self.loop.create_task(self._connect(sock, client, implicit))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _connect(self, sock: socket.socket, client: str, implicit: bool) -> None:
        new = self.speaks(self)
        new.client = client
        context, patience = (self.contexts.current, HANDSHAKE) if implicit else (None, None)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self.loop.connect_accepted_socket(lambda: new, sock, ssl=context, ssl_handshake_timeout=patience)
        except (OSError, ssl.SSLError, asyncio.CancelledError) as error:
            logger.info("no TLS with %s: %s", client, error)
            sock.close()
            self.left(new)

    def left(self, one: Connection) -> None:
        """A connection is over. It may be told twice."""
        self.connections.discard(one)
        self.holds(one, 0)
        if client := one.client:
            one.client = ""
            self.clients[client] -= 1
            if not self.clients[client]:
                del self.clients[client]

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            try:
                if self.contexts.look():
                    logger.info("the certificate has been renewed")
            except NoCertificate as error:
                logger.error("the certificate is not renewed: %s", error)

    # ------------------------------------------------------------------------------------------------------ what connections ask

    def clear_text_from(self, peer: str) -> bool:
        """Settings let this client log in without TLS."""
        address = ip_address(peer)
        return any(address in network for network in settings.MAILHUB_SMTPD_CLEAR_NETWORKS)

    def holds(self, one: Connection, size: int) -> None:
        """So many bytes of a mail are in its hands."""
        self._held_by_all += size - self._held.pop(one, 0)
        if size:
            self._held[one] = size

    @property
    def full(self) -> bool:
        return self._held_by_all > MOST_BYTES

    def must_wait(self, peer: str, user: str) -> float:
        """Seconds, after failures."""
        return self.throttle.wait(self._keys(client_of(peer), user))

    def _keys(self, client: str, user: str) -> list[tuple[str, str]]:
        """What failures are counted for. Strangers who try a name do not lock out those who use it."""
        user = user[:100].lower()
        return [("client", client), *([] if (user, client) in self._known else [("user", user)])]

    async def recognise(self, peer: str, user: str, password: str) -> Credential | None:
        """Who logs in. Raises DatabaseError."""
        client = client_of(peer)
        keys = self._keys(client, user)
        found = await self.look_up(credentials.recognise, password, Credential.Kind.SMTP, peer)
        if found is None or found.prefix != user.strip().lower():
            self.throttle.failed(keys)
            logger.warning("failed to log in: user %s from %s", ascii(user[:100]), peer)
            return None
        self.throttle.succeeded(keys)
        remember(self._known, (user[:100].lower(), client), self.loop.time())
        return found

    async def may_use(self, credential: Credential, address: str) -> Forbidden | None:
        """Why not, if the project may not use this envelope sender: it is one of its senders', or of their domains (bounces are told
        apart by address), or empty; or if it hands in no mails. The envelope that leaves has one of our own. Raises DatabaseError."""
        if credential.project.stream != Stream.TRANSACTIONAL:
            return await self.look_up(policies.not_its_stream, credential.project)
        key = (credential.project_id, address)
        if not address or self._permitted.get(key, 0.0) > self.loop.time():
            return None
        refusal = await self.look_up(envelope_sender, credential, address)
        if refusal is None:
            remember(self._permitted, key, self.loop.time() + BELIEVED)
        return refusal

    def look_up(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        return self.loop.run_in_executor(self._lookers, partial(looked_up, partial(function, *args, **kwargs)))


def looked_up(function: Callable[[], T]) -> T:
    """In a thread of its own, with a connection that works. Raises DatabaseError."""
    connection.close_if_unusable_or_obsolete()
    try:
        with translation.override("en"):
            return function()
    except DatabaseError:
        connection.close()
        raise


def hang_up(together: threading.Barrier) -> None:
    with suppress(threading.BrokenBarrierError):
        together.wait(GRACE)
    connection.close()


def envelope_sender(credential: Credential, address: str) -> Forbidden | None:
    if credential.project.from_policy != Project.FromPolicy.KEEP:
        # It is replaced, as the From is.
        return None
    found = sending.permitted(credential.project, address)
    if not isinstance(found, Forbidden):
        return None
    beside = Sender.objects.filter(projects=credential.project_id, status=Sender.Status.CONFIRMED)
    return None if beside.filter(domain__name=addresses.domain(address)).exists() else found


def client_of(address: str) -> str:
    """Whom connections and failures are counted for: an IPv4 address, or the network that one IPv6 customer has."""
    parsed = ip_address(address.partition("%")[0])
    return str(parsed) if parsed.version == 4 else str(ip_network((parsed, 64), strict=False))


K = TypeVar("K")


def remember(known: dict[K, float], key: K, value: float) -> None:
    if len(known) >= KNOWN:
        known.clear()
    known[key] = value


# ------------------------------------------------------------------------------------------------------------------------ ports


def listen(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Listening sockets on this port, which other processes of ours may share; none for port 0. Raises OSError."""
    found: list[socket.socket] = []
    for host in hosts if port else ():
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=True)
        except OSError as error:
            if found and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                continue  # this machine has no IPv6
            for each in found:
                each.close()
            raise
        listener.setblocking(False)
        found.append(listener)
    return found


def run(hosts: Sequence[str], port: int, tls_port: int, make: Callable[[], Server] = Server) -> None:
    """Take mail in until SIGTERM or SIGINT. Raises NoCertificate, or OSError where a port cannot be had."""
    # aiosmtpd tells of every command.
    logging.getLogger("mail.log").setLevel(logging.ERROR)

    async def serve() -> None:
        server = make()
        plain = listen(hosts, port)
        implicit = listen(hosts, tls_port)
        for number in (signal.SIGTERM, signal.SIGINT):
            server.loop.add_signal_handler(number, server.stop)
        logger.info("taking mail in as %s: port %s with STARTTLS, port %s with TLS", server.name, port or "-", tls_port or "-")
        await server.serve(plain, implicit)

    asyncio.run(serve())
