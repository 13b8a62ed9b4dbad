"""Mailboxes that bounces arrive in, emptied by IMAP (RFC 9051) or POP3 (RFC 1939).

A mail is removed or moved only once it is committed here; one that is fetched again after a crash is known by its digest. What cannot be
fetched stays where it is, and is passed over after some tries.
"""

from __future__ import annotations

import asyncio
import imaplib
import logging
import poplib
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import requests
from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from mailhub.feedback import incoming, mime
from mailhub.feedback.models import IncomingMail, Mailbox
from mailhub.lib import clock, dialer, http
from mailhub.relays.providers.esp import Web

logger = logging.getLogger(__name__)

# Of the server, for any answer (seconds).
PATIENCE = 60.0
# Mails of one look: the next look takes the rest.
MOST = 500
# Looks at a mailbox are so far apart; after failures in a row the distance doubles, up to the longest.
EVERY = timedelta(minutes=2)
LONGEST = timedelta(hours=2)
# A look that takes longer is that of a process which is gone.
HELD = timedelta(minutes=15)
# A larger mail (bytes) is no bounce that anybody reads; it is passed over.
LARGEST = mime.MOST_BYTES * 2


class Failed(Exception):
    """The mailbox could not be looked into. The text is for people."""


#: why a server could not be spoken with
FAULTS = (Failed, OSError, EOFError, ValueError, imaplib.IMAP4.error, poplib.error_proto, requests.RequestException)


def poll(mailbox: Mailbox) -> int:
    """Fetch what has arrived; returns how many mails were new or known already. What went wrong stands in the mailbox's row.

    One looks at a time, however many machines are told of the same mail; who comes meanwhile has the other look once more."""
    this = Mailbox.objects.filter(pk=mailbox.pk)
    now = clock.now()
    if not this.filter(Q(held_until=None) | Q(held_until__lt=now)).update(held_until=now + HELD, asked_again=False):
        this.update(asked_again=True)
        return 0
    fetched = 0
    try:
        while True:
            fetched += _poll(mailbox)
            if mailbox.failures:
                break
            # Let go of in the same statement that sees that nobody has come: who comes a moment later finds it free.
            if this.filter(asked_again=False).update(held_until=None) or not this.update(asked_again=False):
                return fetched
    except BaseException:
        this.update(held_until=None)
        raise
    this.update(held_until=None)
    return fetched


def _poll(mailbox: Mailbox) -> int:
    fetched, failures = 0, 0
    try:
        fetched, problem = (_imap if mailbox.protocol == Mailbox.Protocol.IMAP else _pop3)(mailbox)
    except FAULTS as error:
        problem, failures = str(error) or type(error).__name__, mailbox.failures + 1
        logger.warning("mailbox %s could not be looked into: %s", mailbox, problem)
    now = clock.now()
    mailbox.failures = failures
    mailbox.problem, mailbox.polled_at = problem[:500], now
    mailbox.next_poll_at = now + min(EVERY * 2 ** min(mailbox.failures, 10), LONGEST)
    mailbox.save(update_fields=["failures", "problem", "polled_at", "next_poll_at", "stumbles"])
    return fetched


def in_use() -> QuerySet[Mailbox]:
    """None in a copy that sends nothing: what it fetched would be gone for the original."""
    return Mailbox.objects.none() if settings.MAILHUB_DO_NOT_SEND else Mailbox.objects.filter(status=Mailbox.Status.ACTIVE)


def due() -> Iterator[Mailbox]:
    """Those that it is time to look into."""
    yield from in_use().filter(Q(next_poll_at=None) | Q(next_poll_at__lte=clock.now())).order_by("pk")


# ---------------------------------------------------------------------------------------------------------------------- getting in


def _dial(mailbox: Mailbox) -> socket.socket:
    """Through the guarded dialer, in TLS where that comes first."""

    async def connect() -> socket.socket:
        return await dialer.connect(await dialer.resolve(mailbox.host), mailbox.port_number)

    sock = asyncio.run(connect())
    sock.settimeout(PATIENCE)
    if mailbox.security == Mailbox.Security.TLS:
        return http.public_trust().wrap_socket(sock, server_hostname=mailbox.host)
    return sock


def _token(mailbox: Mailbox) -> str:
    """An access token that the refresh token buys (RFC 6749 section 6)."""
    asked = {
        "grant_type": "refresh_token",
        "refresh_token": mailbox.secrets.get("refresh_token", ""),
        "client_id": mailbox.client_id,
        "client_secret": mailbox.secrets.get("client_secret", ""),
    }
    with Web("MailHub") as web:
        answer = web.request(method="POST", url=mailbox.token_url, data=asked)
    said: Any = answer.json() if answer.headers.get("Content-Type", "").startswith("application/json") else {}
    if answer.status_code != 200 or not said.get("access_token"):
        reason = said.get("error_description") or said.get("error") or f"HTTP {answer.status_code}"
        raise Failed(_("No access token could be had: %(reason)s") % {"reason": reason})
    return str(said["access_token"])


def _bearer(mailbox: Mailbox) -> str:
    return f"user={mailbox.username}\1auth=Bearer {_token(mailbox)}\1\1"


# ----------------------------------------------------------------------------------------------------------------------------- IMAP


class _IMAP(imaplib.IMAP4):
    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        super().__init__(mailbox.host, mailbox.port_number)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        return _dial(self.mailbox)


@contextmanager
def logged_in(mailbox: Mailbox) -> Iterator[imaplib.IMAP4]:
    """A connection that has been let in."""
    server = _IMAP(mailbox)
    try:
        if mailbox.security == Mailbox.Security.STARTTLS:
            server.starttls(http.public_trust())
        if mailbox.login == Mailbox.Login.OAUTH:
            words = _bearer(mailbox)
            server.authenticate("XOAUTH2", lambda _challenge: words.encode())
        else:
            server.login(mailbox.username, mailbox.secrets.get("password", ""))
        yield server
    finally:
        with suppress(OSError, imaplib.IMAP4.error):
            server.logout()
        # Where it did not answer.
        with suppress(OSError):
            server.shutdown()


def _imap(mailbox: Mailbox) -> tuple[int, str]:
    """How many mails were fetched, and the folder that there is not: it keeps nobody from the others."""
    fetched, problem = 0, ""
    with logged_in(mailbox) as server:
        if mailbox.done_folder:
            # It may be there already.
            server.create(quoted(mailbox.done_folder))
        for folder in mailbox.folder_names:
            if server.select(quoted(folder))[0] == "OK":
                fetched += _folder(server, mailbox, folder)
            else:
                problem = problem or _("There is no folder “%(folder)s”.") % {"folder": folder}
    return fetched, problem


def _folder(server: imaplib.IMAP4, mailbox: Mailbox, folder: str) -> int:
    """It is selected."""
    validity = (server.response("UIDVALIDITY")[1] or [b""])[0]
    stumble = f"{folder}:{(validity or b'').decode()}"
    numbers = {f"{stumble}:{uid.decode()}": uid.decode() for uid in server.uid("SEARCH", "UNDELETED")[1][0].split()}
    # Of mails that somebody has taken away nothing is kept.
    known = mailbox.stumbles.items()
    mailbox.stumbles = {key: tries for key, tries in known if key in numbers or not key.startswith(f"{folder}:")}
    done: list[str] = []
    for key, number in [pair for pair in numbers.items() if mailbox.stumbles.get(pair[0], 0) < Mailbox.TRIES][:MOST]:
        raw = _fetch(server, number)
        if raw is None:
            mailbox.stumbles[key] = mailbox.stumbles.get(key, 0) + 1
            continue
        _take(raw, mailbox)
        done.append(number)
        _away(server, mailbox, number)
    if done:
        server.expunge()
    return len(done)


def _fetch(server: imaplib.IMAP4, number: str) -> bytes | None:
    sizes = server.uid("FETCH", number, "(RFC822.SIZE)")[1]
    size = re.search(rb"RFC822\.SIZE (\d+)", sizes[0] if sizes and isinstance(sizes[0], bytes) else b"")
    if size is None or int(size[1]) > LARGEST:
        return None
    answer = server.uid("FETCH", number, "(BODY.PEEK[])")[1]
    return next((bytes(part[1]) for part in answer if isinstance(part, tuple)), None)


def _away(server: imaplib.IMAP4, mailbox: Mailbox, number: str) -> None:
    if mailbox.done_folder and server.uid("COPY", number, quoted(mailbox.done_folder))[0] != "OK":
        raise Failed(_("Mails could not be moved to “%(folder)s”.") % {"folder": mailbox.done_folder})
    server.uid("STORE", number, "+FLAGS.SILENT", r"(\Deleted)")


def quoted(folder: str) -> str:
    return '"' + folder.replace("\\", "\\\\").replace('"', '\\"') + '"'


# ----------------------------------------------------------------------------------------------------------------------------- POP3


class _POP3(poplib.POP3):
    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        super().__init__(mailbox.host, mailbox.port_number, timeout=PATIENCE)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        return _dial(self.mailbox)


def _pop3(mailbox: Mailbox) -> tuple[int, str]:
    server = _POP3(mailbox)
    try:
        if mailbox.security == Mailbox.Security.STARTTLS:
            server.stls(http.public_trust())
        if mailbox.login == Mailbox.Login.OAUTH:
            raise Failed(_("OAuth is for IMAP alone. Choose IMAP, or a password."))
        server.user(mailbox.username)
        server.pass_(mailbox.secrets.get("password", ""))
        fetched = 0
        sizes = [tuple(map(int, line.split()[:2])) for line in server.list()[1]]
        for number in [number for number, size in sizes if size <= LARGEST][:MOST]:
            _take(b"\r\n".join(server.retr(number)[1]) + b"\r\n", mailbox)
            server.dele(number)
            fetched += 1
    except BaseException:
        # Without QUIT the server deletes nothing.
        server.close()
        raise
    server.quit()
    return fetched, ""


def _take(raw: bytes, mailbox: Mailbox) -> None:
    try:
        incoming.take(raw, IncomingMail.Source.MAILBOX, mailbox=mailbox)
    except DatabaseError as error:
        # Not committed: it stays at the server.
        raise Failed(_("The mail could not be stored: %(error)s") % {"error": error}) from error
