"""What comes back, in the data set of millions: how fast it is taken in and counted, and rows of it for the pages that show it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import connection

from mailhub.bench.site import Failed, tidy
from mailhub.delivery import hits
from mailhub.delivery.models import Event, Hit, Message
from mailhub.feedback import callbacks
from mailhub.feedback.models import Callback, CallbackURL, ParkedReport
from mailhub.feedback.returns import tally
from mailhub.feedback.returns.models import Count, Returned, UpTo
from mailhub.lib import clock
from mailhub.relays.models import Relay

Show = Callable[[str], None]
Note = Callable[[str, str, float], None]

# Callbacks of one event each; pixels that are asked for one by one, and that are recorded together.
CALLBACKS, ASKED, OPENED = 10_000, 2_000, 20_000
# Rows of what services told and mailboxes brought; one in so many needs a person.
ROWS, OPEN = 200_000, 100


def run(relay: Relay, note: Note, show: Show) -> None:
    """Raises Failed."""
    url = CallbackURL.objects.create(relay=relay, service="sendgrid")
    show("What came back is counted …")
    newest = Event.objects.order_by("-pk").values_list("pk", flat=True)[0]
    UpTo.objects.create(pk=1, read=0, seen=newest, seen_at=clock.now() - timedelta(hours=1))
    with timed() as seconds:
        read = tally.count()
    note("returned_per_s", f"events looked through a second for what came back, of {read:,}", read / seconds())
    if not Count.objects.exists():
        raise Failed("Nothing came back.")
    show("Callbacks are recorded, and pixels …")
    messages = list(Message.objects.filter(status="sent", relay=relay).order_by("-pk").values_list("pk", "address", "content_id")[:OPENED])
    Callback.objects.bulk_create(callback(url, number, *messages[number % len(messages)][:2]) for number in range(CALLBACKS))
    with timed() as seconds:
        while callbacks.work_off():
            pass
    note("callbacks_per_s", f"callbacks of one event each that are recorded a second, of {CALLBACKS:,}", CALLBACKS / seconds())
    if (recorded := Callback.objects.filter(recorded=1).count()) != CALLBACKS:
        raise Failed(f"Of {CALLBACKS} callbacks {recorded} were recorded.")
    with timed() as seconds:
        for pk, _address, content in messages[:ASKED]:
            hits.take(content, pk, 0, "")
    note("pixels_per_s", f"pixels asked for a second, each stored by itself, of {ASKED:,}", min(ASKED, len(messages)) / seconds())
    Hit.objects.all().delete()
    before = clock.now() - timedelta(minutes=1)
    Hit.objects.bulk_create(Hit(content_key=content, message_key=pk, number=0, at=before, sign="") for pk, _address, content in messages)
    with timed() as seconds:
        opened = hits.work_off()
    note("opens_per_s", f"opens recorded a second, of {opened:,}", opened / seconds())
    show("What waits for people is made …")
    with connection.cursor() as cursor:
        for sql in (PARKED, STORED, MAILS):
            cursor.execute(sql, {"url": url.pk, "rows": ROWS, "open": OPEN, "now": clock.now()})
    tidy(*(model._meta.db_table for model in (Count, Returned, ParkedReport, Callback, Event)), "feedback_incomingmail")


@contextmanager
def timed() -> Iterator[Callable[[], float]]:
    began = time.perf_counter()
    ended: list[float] = []
    yield lambda: max(ended[0], 1e-6)
    ended.append(time.perf_counter() - began)


def callback(url: CallbackURL, number: int, message: int, address: str) -> Callback:
    """A delivery, as SendGrid tells it."""
    event: dict[str, Any] = {"event": "delivered", "email": address, "timestamp": 1_764_032_400, "sg_event_id": str(number)}
    body = json.dumps([{**event, "response": "250 OK", "mailhub": str(message)}]).encode()
    meta = {"CONTENT_TYPE": "application/json"}
    return Callback(
        url=url, digest=str(number), body_digest=str(number), body=body, meta=meta, size=len(body), received_at=clock.now()
    )  # fmt: skip


PARKED = """
INSERT INTO feedback_parkedreport (url_id, status, why, type, recipient, at, detail, kind, category, source, tries, received_at)
SELECT %(url)s, CASE WHEN n %% %(open)s = 0 THEN 'kept' ELSE 'applied' END, 'unknown', 'bounced', 'reader' || n || '@example.net', at,
    '550 5.1.1 User unknown', 'hard', 'user_unknown', 'made ' || n, 5, at
FROM generate_series(1, %(rows)s) AS n, LATERAL (SELECT %(now)s::timestamptz - n * interval '10 s' AS at) AS timed
"""

STORED = """
INSERT INTO feedback_callback (url_id, digest, body_digest, status, meta, size, asks, position, recorded, parked, passed, unread, tries,
    received_at)
SELECT %(url)s, 'made ' || n, '', CASE WHEN n %% (%(open)s * 100) = 0 THEN 'stuck' ELSE 'done' END, '{}', 400, FALSE, 1, 1, 0, 0, 0, 0,
    %(now)s::timestamptz - n * interval '10 s'
FROM generate_series(1, %(rows)s) AS n
"""

MAILS = """
INSERT INTO feedback_incomingmail
    (digest, source, status, rcpt_to, mail_from, size, kind, subject, sender, reports, proof, tries, received_at)
SELECT 'made ' || n, 'mailbox', CASE WHEN n %% %(open)s = 0 THEN 'unmatched' ELSE 'applied' END, '', '', 4000, 'bounce',
    'Undelivered Mail Returned to Sender', 'MAILER-DAEMON@mx.example.net', '[]', '', 0, %(now)s::timestamptz - n * interval '1 minute'
FROM generate_series(1, %(rows)s) AS n
"""
