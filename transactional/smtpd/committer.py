"""Mails of all connections, committed together: while one transaction is on its way to the disk, the next gathers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from django.db import DatabaseError, connection
from django.utils import translation
from django.utils.translation import gettext as _

from transactional import credentials, sending
from transactional.models import Submission
from transactional.requests import Forbidden, NotAccepted, Request

logger = logging.getLogger(__name__)

# Of one transaction: mails, and their bytes.
MOST = 200
MOST_BYTES = 16 * 1024 * 1024


class Unavailable(Exception):
    """Nothing can be stored at present. Nothing was accepted."""


Outcome = Submission | NotAccepted | Unavailable


@dataclass(frozen=True, slots=True)
class Waiting:
    request: Request
    #: the key of the credential with which it was handed in
    credential: int
    #: gets the outcome; cancelled when the client has left
    answer: asyncio.Future[Outcome]


class Committer(threading.Thread):
    """The one thread of the process that writes mails. Each mail is all or nothing for itself, whatever it was committed with."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="committer", daemon=True)
        self.loop = loop
        self.waiting: deque[Waiting] = deque()
        self.bell = threading.Condition()
        self.over = False
        self.away = False

    async def commit(self, request: Request, credential: int) -> Submission | NotAccepted:
        """Returns once it is committed, or refused. Raises Unavailable."""
        mail = Waiting(request, credential, self.loop.create_future())
        with self.bell:
            self.waiting.append(mail)
            self.bell.notify()
        outcome = await mail.answer
        if isinstance(outcome, Unavailable):
            raise outcome
        return outcome

    def finish(self) -> None:
        """Commit what waits, and end."""
        with self.bell:
            self.over = True
            self.bell.notify()

    def run(self) -> None:
        with translation.override("en"):
            while group := self.gather():
                outcomes = self.outcomes(group)
                self.loop.call_soon_threadsafe(tell, group, outcomes)
        connection.close()

    def gather(self) -> list[Waiting]:
        """What waits, up to a group; nothing at the end. Who has left meanwhile will come again, and is left out."""
        with self.bell:
            while True:
                self.bell.wait_for(lambda: self.waiting or self.over)
                group: list[Waiting] = []
                size = 0
                while self.waiting and len(group) < MOST and (not group or size + len(self.waiting[0].request.raw) <= MOST_BYTES):
                    mail = self.waiting.popleft()
                    if not mail.answer.cancelled():
                        group.append(mail)
                        size += len(mail.request.raw)
                if group or self.over:
                    return group

    def outcomes(self, group: Sequence[Waiting]) -> list[Outcome]:
        connection.close_if_unusable_or_obsolete()
        try:
            found = send(group)
        except DatabaseError as error:
            self.lost(error)
            return [Unavailable() for _mail in group]
        except Exception:
            if len(group) > 1:
                # One of them, and the others must not suffer.
                return [outcome for mail in group for outcome in self.outcomes([mail])]
            logger.exception("a mail of credential %s cannot be taken in", group[0].credential)
            return [Unavailable()]
        self.away = False
        return found

    def lost(self, error: DatabaseError) -> None:
        connection.close()
        if not self.away:
            logger.error("the database does not answer, mail is put off: %s", error)
            self.away = True


def send(group: Sequence[Waiting]) -> list[Outcome]:
    """Raises DatabaseError when nothing of it is stored."""
    good = credentials.in_force({mail.credential for mail in group})
    let_in = [mail for mail in group if mail.credential in good]
    # As its project is now: who stays connected must not keep limits and policies of yesterday.
    answers = iter(sending.send_all([replace(mail.request, project=good[mail.credential]) for mail in let_in]))
    turned_away = Forbidden("credential", _("The password has been revoked or has expired."), _("Log in with another."))
    return [next(answers) if mail.credential in good else turned_away for mail in group]


def tell(group: Sequence[Waiting], outcomes: Sequence[Outcome]) -> None:
    for mail, outcome in zip(group, outcomes, strict=True):
        if not mail.answer.done():
            mail.answer.set_result(outcome)
