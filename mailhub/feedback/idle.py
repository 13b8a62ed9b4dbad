"""Servers that tell at once when a mail has arrived (IMAP IDLE, RFC 2177), so that the clock need not be waited for.

A listener asks for the same poll that the clock asks for, and does nothing else: any number of machines may listen at one mailbox, and
where nobody does the mail is fetched all the same. A connection hears of one folder alone, so there is one for each; waiting takes a
thread besides, and no connection to the database.
"""

from __future__ import annotations

import imaplib
import logging
import math
import re
import selectors
import socket
import ssl
import threading
import time
from contextlib import suppress

from django.db import connection

from mailhub.feedback import mailboxes
from mailhub.feedback.models import Mailbox
from mailhub.lib import tasks

logger = logging.getLogger(__name__)

# Seconds, all of them.
# A server may hang up on who was silent for 30 minutes, and what stands in between sooner; and a dead connection is noticed then.
RENEW = 9 * 60
# Mails that arrive within so long make one poll.
PAUSE = 5.0
# Before a lost connection is opened anew: doubled each time in a row, up to the longest.
FIRST, LONGEST = 5.0, 3600.0
# A connection that was of use for so long is not one failure more in a row.
STEADY = 60.0
# Of a mailbox, so many folders are listened at, the first that staff named: servers count connections, and some allow few.
MOST_FOLDERS = 3

#: imaplib's own tags end in a number
TAG = b"IDLE"
ARRIVED = re.compile(rb"\* [1-9]\d* EXISTS", re.IGNORECASE)
# Of a mailbox: another value of any of these is another connection.
ACCESS = ("host", "port", "security", "username", "login", "token_url", "client_id", "secrets")


def wait(server: imaplib.IMAP4, bell: socket.socket, seconds: float) -> bool:
    """Whether a mail has come to the selected folder: at once when it does; else False after so many seconds, or when `bell` has something
    to read. Raises OSError, imaplib.IMAP4.error: the connection is of no more use."""
    end = time.monotonic() + seconds
    came = False
    server.send(TAG + b" IDLE\r\n")
    while not (line := _line(server)).startswith(b"+"):
        came = came or bool(ARRIVED.match(line))
    while not came and _speaks(server, bell, end - time.monotonic()):
        came = bool(ARRIVED.match(_line(server)))
    server.send(b"DONE\r\n")
    while not (line := _line(server)).startswith(TAG):
        came = came or bool(ARRIVED.match(line))
    return came


def _line(server: imaplib.IMAP4) -> bytes:
    line = server.readline()
    if not line or line.upper().startswith((b"* BYE", TAG + b" NO", TAG + b" BAD")):
        raise imaplib.IMAP4.abort(line.decode(errors="replace").strip() or "the connection was closed")
    return line


def _speaks(server: imaplib.IMAP4, bell: socket.socket, seconds: float) -> bool:
    """Whether the server says something in time."""
    # What has been read from the socket already is no longer there to wait for.
    server.sock.settimeout(0)
    try:
        with suppress(ssl.SSLWantReadError):
            if server.file.peek():  # type: ignore[union-attr]
                return True
    finally:
        server.sock.settimeout(mailboxes.PATIENCE)
    with selectors.DefaultSelector() as selector:
        selector.register(server.sock, selectors.EVENT_READ)
        selector.register(bell, selectors.EVENT_READ)
        ready = [key.fileobj for key, _events in selector.select(max(seconds, 0))]
    return server.sock in ready and bell not in ready


class Listener(threading.Thread):
    """Listens at a folder of a mailbox until it is told to stop."""

    def __init__(self, mailbox: Mailbox, folder: str) -> None:
        super().__init__(name=f"mailbox {mailbox.pk}, {folder}", daemon=True)
        self.mailbox, self.folder = mailbox, folder
        self.access = access(mailbox)
        self.over = threading.Event()
        self.bell, self.button = socket.socketpair()
        self.delay = FIRST
        #: since when the open connection is of use
        self.since = math.inf

    def run(self) -> None:
        while not self.over.is_set():
            try:
                with mailboxes.logged_in(self.mailbox) as server:
                    if b"IDLE" not in server.capability()[1][0].upper().split():
                        # Perhaps another day.
                        self.delay = LONGEST
                    else:
                        self.listen(server)
            except mailboxes.FAULTS as error:
                if not self.over.is_set():
                    logger.info("listening at %s ended and begins anew in %d s: %s", self.name, self.delay, error)
            except Exception:  # a thread that is gone would not come again
                logger.exception("listening at %s", self.name)
            if time.monotonic() - self.since > STEADY:
                self.delay = FIRST
            self.since = math.inf
            self.over.wait(self.delay)
            self.delay = min(self.delay * 2, LONGEST)
        self.bell.close()

    def listen(self, server: imaplib.IMAP4) -> None:
        found, said = server.select(mailboxes.quoted(self.folder), readonly=True)
        # There is no such folder: the poll tells. What came while nobody listened is there already.
        came = found == "OK" and said != [b"0"]
        self.since = time.monotonic()
        while found == "OK" and not self.over.is_set():
            if came:
                wake(self.mailbox.pk)
                if self.over.wait(PAUSE):
                    return
            came = wait(server, self.bell, RENEW)

    def finish(self) -> None:
        self.over.set()
        self.button.close()


def wake(mailbox_id: int) -> None:
    try:
        tasks.enqueue("mailhub.feedback.tasks.poll", mailbox_id, queue="maintenance")
    finally:
        connection.close()


def access(mailbox: Mailbox) -> tuple[object, ...]:
    return tuple(getattr(mailbox, name) for name in ACCESS)


def folders(mailbox: Mailbox) -> list[str]:
    return list(dict.fromkeys(mailbox.folder_names))[:MOST_FOLDERS]


class Listeners:
    """One at each folder of the mailboxes that polls get into: where they do not, they alone go on trying, so no server sees the failures
    twice."""

    def __init__(self) -> None:
        #: by the mailbox's key and the folder
        self.at: dict[tuple[int, str], Listener] = {}

    def follow(self) -> None:
        """Have those listen that should, by the rows as they are now."""
        works = mailboxes.in_use().filter(protocol=Mailbox.Protocol.IMAP, failures=0, polled_at__isnull=False)
        wanted = {(mailbox.pk, name): mailbox for mailbox in works.order_by() for name in folders(mailbox)}
        for place, listener in list(self.at.items()):
            if place not in wanted or listener.access != access(wanted[place]):
                self.at.pop(place).finish()
        for place in wanted.keys() - self.at.keys():
            self.at[place] = Listener(wanted[place], place[1])
            self.at[place].start()

    def finish(self) -> None:
        while self.at:
            self.at.popitem()[1].finish()
