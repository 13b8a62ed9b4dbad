"""A site that has been at work for more than a year: millions of contacts and messages, row for row as MailHub leaves them.

Made by the database itself, a statement for some hundred thousand rows, with the indexes built at the end: minutes instead of hours.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.backends.utils import CursorWrapper

from campaigns import growth
from campaigns.models import MailingList, Template
from mailhub.bench import tallies, words
from mailhub.bench.site import RECEIPT, Site
from mailhub.lib import clock
from mailhub.relays.models import OTHER, KnownDomain
from mailhub.senders.models import Sender
from transactional.models import Project

Show = Callable[[str], None]

# Older than what is kept (MAILHUB_KEEP_MESSAGES_DAYS, MAILHUB_KEEP_BODIES_DAYS), so that there is something to forget.
DAYS = 440
BODIES_DAYS = 45
SENDERS = 40
PROJECTS = 20
# Of all contacts, those on each list; the first is what the large campaign goes to.
LISTS = (0.6, 0.3, 0.2, 0.1, 0.1, *[0.02] * 15)
# One in so many contacts is suppressed.
SUPPRESSED = 97
# One in so many messages is transactional, and a campaign's batch has so many on average.
TRANSACTIONAL = 5
BATCH = 4_000
# Messages made by one statement, and contacts.
CHUNK = 100_000
# Domains that nobody has, and the destination that each is taken to be of; the first seven have two thirds of all contacts.
DOMAINS = {
    "gmail.example": "gmail",
    "docomo.example": "docomo",
    "yahoo.example": "yahoo",
    "outlook.example": "microsoft",
    "icloud.example": "icloud",
    "softbank.example": "softbank",
    "au.example": "au",
    **{f"company{number}.example": "other" for number in range(40)},
}
GIVEN = ("taro", "hana", "yuki", "ren", "aoi", "sora", "mei", "riku", "emma", "oliver", "noah", "grace")
CITIES = ("京都", "東京", "大阪", "札幌", "福岡", "London", "Dublin", "Toronto")
# Of every seventh single mail.
TAG = "shop"
# These are made without their indexes, which follow.
TABLES = (
    "campaigns_contact", "campaigns_consent", "campaigns_subscription", "campaigns_leftout", "delivery_message", "delivery_attempt",
    "delivery_event", "delivery_content", "delivery_suppression", "transactional_submission",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Size:
    messages: int
    contacts: int


def make(size: Size, server: tuple[str, int], show: Show) -> Site:
    """Fill the empty database that this process's default connection leads to. `server`: where the relays hand over."""
    site = Site.make(*server)
    with connection.cursor() as cursor:
        filling = _Filling(size, site, cursor, show)
        with _in_bulk(cursor), _indexed_later(cursor, show):
            filling.people()
            filling.history()
        filling.count()
        show("The tables are looked through, as PostgreSQL does by itself in time …")
        cursor.execute("VACUUM ANALYZE")
    return site


@contextmanager
def _in_bulk(cursor: CursorWrapper) -> Iterator[None]:
    cursor.execute("SET synchronous_commit = off")
    cursor.execute("SET maintenance_work_mem = '512MB'")
    cursor.execute("SET work_mem = '64MB'")
    cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    if cursor.fetchone()[0]:
        # What points to another row is right as it is made, and need not be looked up.
        cursor.execute("SET session_replication_role = replica")
    try:
        yield
    finally:
        cursor.execute("RESET ALL")


@contextmanager
def _indexed_later(cursor: CursorWrapper, show: Show) -> Iterator[None]:
    """The tables lack their large indexes within the block, and have the same ones as before after it. Primary keys stay, and so do partial
    indexes, which cost little."""
    indexes = [index for table in TABLES for index in _indexes(cursor, table)]
    for table, name, constraint, _definition in indexes:
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}" if constraint else f"DROP INDEX {name}")
    yield
    for number, (table, name, constraint, definition) in enumerate(indexes):
        show(f"Indexes are built: {number} of {len(indexes)} …")
        cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}" if constraint else definition)


def _indexes(cursor: CursorWrapper, table: str) -> list[tuple[str, str, bool, str]]:
    """The table, and the name of each of its indexes, whether it is a constraint's, and its definition."""
    cursor.execute(
        """
        SELECT %s, index.relname, unique_.oid IS NOT NULL, COALESCE(pg_get_constraintdef(unique_.oid), pg_get_indexdef(index.oid))
        FROM pg_index JOIN pg_class index ON index.oid = indexrelid
        LEFT JOIN pg_constraint unique_ ON conindid = indexrelid AND contype = 'u'
        WHERE indrelid = %s::regclass AND NOT indisprimary AND indpred IS NULL ORDER BY index.relname
        """,
        [table, table],
    )
    return [(table, name, constraint, definition) for table, name, constraint, definition in cursor.fetchall()]


class _Filling:
    def __init__(self, size: Size, site: Site, cursor: CursorWrapper, show: Show) -> None:
        self.size = size
        self.cursor = cursor
        self.show = show
        self.now = clock.now()
        self.start = self.now - timedelta(days=DAYS)
        self.kept = self.now - timedelta(days=BODIES_DAYS)
        # The same each time.
        self.chance = random.Random(7)  # noqa: S311
        self.senders = [site.news, *self._senders()]
        self.relays = [relay.pk for relay in site.relays]
        self.singles = size.messages // TRANSACTIONAL
        # A suppressed contact gets none of them.
        self.batches = self._batches((size.messages - self.singles) * SUPPRESSED // (SUPPRESSED - 1))
        self.projects = [site.project, *self._projects()]
        for number in range(20):
            Template.objects.create(name=f"Template {number}", subject=words.SUBJECT, html=words.HTML, text=words.TEXT, language="en")

    def _senders(self) -> Iterator[Sender]:
        for number in range(1, SENDERS):
            sender = Sender.objects.create(email=f"news@shop{number}.example", name=f"Shop {number}", organisation=f"Shop {number} Ltd.")
            sender.confirm()
            yield sender

    def _projects(self) -> Iterator[Project]:
        for number in range(1, PROJECTS):
            project = Project.objects.create(name=f"Site {number}")
            project.senders.set(self.chance.sample(self.senders, 2))
            yield project

    def _batches(self, messages: int) -> list[int]:
        """How many contacts each has, in the order of their time: many small ones and a few large."""
        weights = [self.chance.lognormvariate(0, 1.3) for _batch in range(max(messages // BATCH, 10))]
        sizes = [max(min(int(messages * weight / sum(weights)), self.size.contacts), 1) for weight in weights]
        # What rounding left.
        sizes[-1] = max(min(messages - sum(sizes[:-1]), self.size.contacts), 1)
        return sizes

    def run(self, sql: str, **values: Any) -> None:
        self.cursor.execute(sql, {"start": self.start, "now": self.now, "contacts": self.size.contacts, "one_in": SUPPRESSED, **values})

    def number_on(self, table: str) -> None:
        """After keys that were given, not drawn."""
        self.run(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")  # noqa: S608

    # ---------------------------------------------------------------------------------------------------------------- people

    def people(self) -> None:
        known = [KnownDomain(domain=domain, destination_id=key) for domain, key in DOMAINS.items() if key != OTHER]
        KnownDomain.objects.bulk_create(known)
        lists = [MailingList.objects.create(name=f"List {number:02}") for number in range(len(LISTS))]
        values = {"given": list(GIVEN), "domains": list(DOMAINS), "cities": list(CITIES)}
        for first in range(1, self.size.contacts + 1, CHUNK):
            self.show(f"Contacts are made: {first - 1:,} of {self.size.contacts:,} …")
            span = {"first": first, "last": min(first + CHUNK - 1, self.size.contacts)}
            self.run(CONTACTS, **span, **values)
            for each, part in zip(lists, LISTS, strict=True):
                self.run(SUBSCRIPTIONS, **span, list=each.pk, part=int(part * 1024))
        self.number_on("campaigns_contact")
        for sql in (WITHDRAWN, SUPPRESSIONS):
            self.run(sql)
        self.run(IMPORTS, list=lists[0].pk)
        for each in lists:
            growth.recount(each)

    # --------------------------------------------------------------------------------------------------------------- history

    def history(self) -> None:
        """Campaigns and single mails, in the order in which they came."""
        self.cursor.execute(PLAN)
        self.cursor.executemany("INSERT INTO plan VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", list(self._plan()))
        for sql in (CONTENTS, BATCHES, CAMPAIGNS, LEFT_OUT):
            self.run(sql, subject=words.SUBJECT, html=words.HTML, text=words.TEXT)
        total = sum(self.batches)
        through = made = before = 0
        for last, size in enumerate(self.batches, start=1):
            through += size
            if through - made >= CHUNK or last == len(self.batches):
                self.show(f"Messages are made: {made * self.size.messages // total:,} of {self.size.messages:,} …")
                self._messages(before + 1, last, self.singles * made // total, self.singles * through // total)
                before, made = last, through
        for table in ("delivery_content", "delivery_batch"):
            self.number_on(table)
        self.run(INBOX, relay=self.relays[0])

    def _plan(self) -> Iterator[tuple[Any, ...]]:
        lists = list(MailingList.objects.order_by("name").values_list("pk", flat=True))
        through, total = 0, sum(self.batches)
        for number, size in enumerate(self.batches, start=1):
            at = self.start + (self.now - timedelta(hours=1) - self.start) * (through / total)
            through += size
            status = self._status(number)
            before = self.chance.randrange(self.size.contacts - size + 1)
            sender, relay = self.senders[number % SENDERS].pk, self.relays[number % len(self.relays)]
            yield number, size, before, at, status, sender, relay, lists[number % len(lists)]

    def _status(self, number: int) -> str:
        """The last batches are being sent; one is paused since long ago, and some were withdrawn."""
        if number > len(self.batches) - 4:
            return "running"
        return "paused" if number == 3 else "canceled" if number % 100 == 50 else "done"

    def _messages(self, first: int, last: int, since: int, until: int) -> None:
        """Those of the batches from `first` to `last`, and the single mails of their time, with all that became of them."""
        self.cursor.execute(
            "SELECT (SELECT COALESCE(max(id), 0) FROM delivery_message), (SELECT COALESCE(max(id), 0) FROM delivery_attempt)"
        )
        before, tried_before = self.cursor.fetchone()
        projects, senders = [project.pk for project in self.projects], [sender.pk for sender in self.senders]
        span = {"first": first, "last": last, "since": since + 1, "until": until, "singles": self.singles, "before": before}
        span |= {"batches": len(self.batches), "kept": self.kept, "relay": self.relays[0], "projects": projects, "senders": senders}
        span |= {"tried_before": tried_before, "receipt": RECEIPT, "tags": f"\n{TAG}\n"}
        # The last is what a task of MailHub's has yet to count.
        counted = tallies.COUNTED if last == len(self.batches) else tallies.CARRIED
        for sql in (SINGLES, SUBMISSIONS, MESSAGES, ATTEMPTS, EVENTS, tallies.THROUGHPUT, counted):
            self.run(sql, **span, subject="Your order, {{ name }}", html=words.HTML, text=words.TEXT)

    def count(self) -> None:
        self.show("The batches are counted …")
        self.run(COUNTERS)
        tallies.post(self.cursor, self.now)


# ----------------------------------------------------------------------------------------------------------------------- SQL
# hashint8() stands for chance: the same each time, and of no pattern.

CONTACTS = """
INSERT INTO campaigns_contact (id, public_id, email, name, language, attributes, created_at)
SELECT
    n, gen_random_uuid(),
    given || '.' || n || '@' || (%(domains)s::text[])[CASE WHEN hash & 1023 < 683 THEN 1 + mod(hash, 7) ELSE 8 + mod(hash, 40) END],
    initcap(given) || ' ' || n, CASE WHEN hash & 3 = 0 THEN 'ja' ELSE 'en' END,
    jsonb_build_object('city', (%(cities)s::text[])[1 + mod(hash, cardinality(%(cities)s::text[]))], 'points', mod(n, 1000)),
    %(start)s::timestamptz + (%(now)s::timestamptz - %(start)s) * (n::float8 / %(contacts)s)
FROM generate_series(%(first)s::bigint, %(last)s) AS n,
    LATERAL (SELECT hashint8(n) & 1048575 AS hash) AS drawn,
    LATERAL (SELECT (%(given)s::text[])[1 + mod(hash, cardinality(%(given)s::text[]))] AS given) AS named
"""

# Of those who were on a list, one in twenty has left it, and one in sixty-four was taken over without consent.
SUBSCRIPTIONS = """
WITH member AS (
    SELECT id, created_at, hashint8(id * 1000 + %(list)s) & 127 AS fate FROM campaigns_contact
    WHERE id BETWEEN %(first)s AND %(last)s AND hashint8(id * 777 + %(list)s) & 1023 < %(part)s
),
agreed AS (
    INSERT INTO campaigns_consent (contact_id, list_id, basis, source, text, at)
    SELECT id, %(list)s, CASE WHEN fate < 100 THEN 'opt_in' ELSE 'relationship' END, 'sign-up form on shop.example',
        'Yes, send me the tea letter.', created_at
    FROM member ORDER BY id
    RETURNING id, contact_id
)
INSERT INTO campaigns_subscription (contact_id, list_id, status, consent_id, changed_at)
SELECT member.id, %(list)s, CASE WHEN fate < 6 THEN 'unsubscribed' ELSE 'subscribed' END, CASE WHEN fate >= 8 THEN agreed.id END,
    CASE WHEN fate < 6 THEN created_at + (%(now)s - created_at) / 2 ELSE created_at END
FROM member JOIN agreed ON contact_id = member.id ORDER BY member.id
"""

WITHDRAWN = """
INSERT INTO campaigns_consent (contact_id, list_id, basis, source, text, at)
SELECT contact_id, list_id, 'withdrawn', 'unsubscribe link of a campaign', '', changed_at
FROM campaigns_subscription WHERE status = 'unsubscribed' ORDER BY changed_at
"""

SUPPRESSIONS = """
INSERT INTO delivery_suppression (address, scope, reason, detail, created_at)
SELECT email, CASE WHEN id & 7 = 0 THEN 'campaign' ELSE 'all' END, CASE WHEN id & 7 = 0 THEN 'unsubscribe' ELSE 'bounce' END,
    '550 5.1.1 User unknown', created_at
FROM campaigns_contact WHERE mod(id, %(one_in)s) = 0 ORDER BY id
"""

IMPORTS = """
INSERT INTO campaigns_import (name, list_id, basis, source, encoding, rows, created, updated, subscribed, unsubscribed, rejected,
    rejections, at)
SELECT 'customers-' || n || '.csv', %(list)s, 'opt_in', 'sign-up form', 'UTF-8', 11000, 5000, 5000, 5000, 0, 1000, listed, %(now)s
FROM generate_series(1, 200) AS n,
    (SELECT jsonb_agg(jsonb_build_array(line, 'email', 'nobody', 'It has no @.')) AS listed FROM generate_series(1, 1000) AS line) AS all_
"""

PLAN = """
CREATE TEMPORARY TABLE plan (id bigint PRIMARY KEY, size bigint, before bigint, at timestamptz, status text, sender bigint, relay bigint,
    list bigint)
"""

CONTENTS = """
INSERT INTO delivery_content (id, public_id, subject, html, text, from_name, from_email, reply_to, headers, unsubscribe_base, created_at)
SELECT plan.id, gen_random_uuid(), %(subject)s, %(html)s, %(text)s, name, email, '', '{"Precedence": "bulk"}', 'https://hub.example/u/', at
FROM plan JOIN senders_sender ON senders_sender.id = sender ORDER BY plan.id
"""

BATCHES = """
INSERT INTO delivery_batch (id, public_id, name, status, content_id, sender_id, cursor, filled, waiting, deferred, sent, delivered, bounced,
    complained, failed, suppressed, unknown, canceled, created_at, finished_at)
SELECT id, gen_random_uuid(), 'Letter ' || id, status, id, sender, 0, TRUE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, at,
    CASE WHEN status IN ('done', 'canceled') THEN at + interval '1 hour' END
FROM plan ORDER BY id
"""

CAMPAIGNS = """
WITH launched AS (
    INSERT INTO campaigns_campaign (public_id, name, status, sender_id, language, subject, html, text, problem, batch_id, filling_at,
        created_at)
    SELECT gen_random_uuid(), 'Letter ' || id, 'launched', sender, 'en', %(subject)s, %(html)s, '', '', id, at, at FROM plan ORDER BY id
    RETURNING id, batch_id
)
INSERT INTO campaigns_campaign_lists (campaign_id, mailinglist_id) SELECT launched.id, list FROM launched JOIN plan ON plan.id = batch_id
"""

LEFT_OUT = """
INSERT INTO campaigns_leftout (campaign_id, contact_id, reason)
SELECT campaign.id, contact, 'suppressed'
FROM plan JOIN campaigns_campaign AS campaign ON batch_id = plan.id, generate_series(before + 1, before + size) AS contact
WHERE mod(contact, %(one_in)s) = 0 ORDER BY campaign.id, contact
"""

# Their keys follow those of the campaigns' contents.
SINGLES = """
INSERT INTO delivery_content (id, public_id, subject, html, text, from_name, from_email, reply_to, headers, unsubscribe_base, created_at)
SELECT %(batches)s + n, gen_random_uuid(), %(subject)s, CASE WHEN forgotten THEN '' ELSE %(html)s END,
    CASE WHEN forgotten THEN '' ELSE %(text)s END, 'Shop', 'orders@shop.example', '', '{"Auto-Submitted": "auto-generated"}', '', at
FROM generate_series(%(since)s::bigint, %(until)s) AS n,
    LATERAL (SELECT %(start)s::timestamptz + (%(now)s::timestamptz - %(start)s) * (n::float8 / %(singles)s) AS at) AS timed,
    LATERAL (SELECT at < %(kept)s AND mod(n, 20011) <> 20 AS forgotten) AS old
"""

SUBMISSIONS = """
INSERT INTO transactional_submission (project_id, content_id, via, template, tags, origin, idempotency_key, digest, accepted_at)
SELECT (%(projects)s::bigint[])[1 + mod(n, cardinality(%(projects)s::bigint[]))], %(batches)s + n, 'api',
    CASE WHEN n %% 3 = 0 THEN %(receipt)s ELSE '' END, CASE WHEN n %% 7 = 0 THEN %(tags)s ELSE '' END, 'key mh_1234 from 192.0.2.1',
    CASE WHEN n & 1 = 0 THEN 'order-' || n ELSE '' END, CASE WHEN n & 1 = 0 THEN md5(n::text) ELSE '' END,
    %(start)s::timestamptz + (%(now)s::timestamptz - %(start)s) * (n::float8 / %(singles)s)
FROM generate_series(%(since)s::bigint, %(until)s) AS n
"""

# A batch that goes on still has most of its mail waiting; of the single mails the last five hundredth waits, and some very old ones, which
# keep what they need however old they are.
MESSAGES = """
INSERT INTO delivery_message (public_id, stream, status, batch_id, content_id, sender_id, source_ref, destination_id, address,
    recipient_ref, data, next_attempt_at, expires_at, attempts, lost_leases, repeated, relay_id, reply, created_at, settled_at)
SELECT
    gen_random_uuid(), stream, fate.status, batch, content, sender, project, COALESCE(known.destination_id, 'other'), email,
    CASE WHEN batch IS NOT NULL THEN made.contact END,
    CASE WHEN batch IS NOT NULL OR at >= %(kept)s OR going_on THEN
        attributes || jsonb_build_object('email', email, 'name', name, 'language', language) ELSE '{}' END,
    CASE WHEN fate.status = 'deferred' THEN %(now)s + interval '1 hour' ELSE at END,
    CASE WHEN going_on THEN %(now)s + interval '3 days' ELSE at + interval '3 days' END,
    tried::int, 0, FALSE, CASE WHEN tried THEN relay END,
    CASE fate.status WHEN 'queued' THEN '' WHEN 'canceled' THEN '' WHEN 'bounced' THEN '550 5.1.1 User unknown'
        WHEN 'deferred' THEN '451 4.7.1 Try later' WHEN 'failed' THEN '554 5.7.1 Refused' ELSE '250 2.0.0 OK' END,
    at, CASE WHEN fate.status NOT IN ('queued', 'deferred') THEN LEAST(at + interval '1 minute', %(now)s) END
FROM (
    SELECT 'campaign' AS stream, plan.id AS batch, plan.id AS content, plan.sender, 0 AS project, plan.relay, plan.status AS course,
        contact.id AS contact, email, name, language, attributes, at + (contact.id - before) * interval '0.4 ms' AS at,
        hashint8(contact.id * 1000 + plan.id) AS hash
    FROM plan JOIN campaigns_contact AS contact ON contact.id > before AND contact.id <= before + size
    WHERE plan.id BETWEEN %(first)s AND %(last)s AND mod(contact.id, %(one_in)s) <> 0
    UNION ALL
    SELECT 'transactional', NULL, %(batches)s + n, (%(senders)s::bigint[])[1 + mod(n, cardinality(%(senders)s::bigint[]))],
        (%(projects)s::bigint[])[1 + mod(n, cardinality(%(projects)s::bigint[]))], %(relay)s,
        CASE WHEN n > %(singles)s * 0.998 OR mod(n, 20011) = 20 THEN 'running' ELSE 'done' END,
        contact.id, email, name, language, attributes,
        %(start)s::timestamptz + (%(now)s::timestamptz - %(start)s) * (n::float8 / %(singles)s), hashint8(n)
    FROM generate_series(%(since)s::bigint, %(until)s) AS n
    JOIN campaigns_contact AS contact ON contact.id = 1 + mod(n * 7919, %(contacts)s)
) AS made
CROSS JOIN LATERAL (SELECT CASE
    WHEN course = 'paused' THEN 'queued'
    WHEN course = 'running' AND hash & 15 < 10 THEN 'queued'
    WHEN course = 'running' AND hash & 15 = 10 THEN 'deferred'
    WHEN course = 'canceled' AND hash & 1 = 0 THEN 'canceled'
    WHEN hash & 8191 < 4 THEN 'unknown'
    WHEN hash & 8191 < 12 THEN 'complained'
    WHEN hash & 8191 < 36 THEN 'failed'
    WHEN hash & 8191 < 76 THEN 'suppressed'
    WHEN hash & 8191 < 240 THEN 'bounced'
    WHEN hash & 8191 < 2700 THEN 'delivered'
    ELSE 'sent' END AS status) AS fate
CROSS JOIN LATERAL (SELECT
    fate.status IN ('queued', 'deferred') AS going_on,
    fate.status NOT IN ('queued', 'canceled', 'suppressed') AS tried
) AS follows
LEFT JOIN relays_knowndomain AS known ON known.domain = split_part(email, '@', 2)
ORDER BY made.at
"""

ATTEMPTS = """
INSERT INTO delivery_attempt (message_id, number, relay_id, outcome, code, enhanced, reply, started_at, finished_at)
SELECT id, 1, relay_id,
    CASE status WHEN 'bounced' THEN 'refused' WHEN 'failed' THEN 'refused' WHEN 'deferred' THEN 'deferred' WHEN 'unknown' THEN 'unknown'
        ELSE 'sent' END,
    CASE WHEN status <> 'unknown' THEN left(reply, 3)::int END, '', substr(reply, 5), at - interval '50 ms', at
FROM delivery_message CROSS JOIN LATERAL (SELECT COALESCE(settled_at, created_at + interval '1 minute') AS at) AS timed
WHERE id > %(before)s AND attempts > 0 ORDER BY at
"""

EVENTS = """
INSERT INTO delivery_event (message_id, type, at, recorded_at, detail)
SELECT id, type, at, at, CASE WHEN type IN ('opened', 'clicked') THEN '' ELSE reply END
FROM (
    SELECT id, reply, COALESCE(settled_at, created_at + interval '1 minute') AS at,
        CASE WHEN status IN ('delivered', 'complained') THEN 'sent' WHEN status = 'suppressed' THEN 'rejected' ELSE status END AS type
    FROM delivery_message WHERE id > %(before)s AND status NOT IN ('queued', 'canceled')
    UNION ALL
    SELECT id, reply, settled_at + interval '5 s', status FROM delivery_message
    WHERE id > %(before)s AND status IN ('delivered', 'complained')
    UNION ALL
    SELECT id, reply, settled_at + interval '1 hour', CASE WHEN id & 31 = 0 THEN 'clicked' ELSE 'opened' END FROM delivery_message
    WHERE id > %(before)s AND status IN ('sent', 'delivered') AND stream = 'campaign' AND id & 3 = 0
) AS found
WHERE at <= %(now)s ORDER BY at
"""

COUNTERS = """
UPDATE delivery_batch AS batch SET
    waiting = counted.queued, deferred = counted.deferred, sent = counted.sent, delivered = counted.delivered, bounced = counted.bounced,
    complained = counted.complained, failed = counted.failed, suppressed = counted.suppressed, unknown = counted.unknown,
    canceled = counted.canceled
FROM (
    SELECT batch_id, count(*) FILTER (WHERE status = 'queued') AS queued, count(*) FILTER (WHERE status = 'deferred') AS deferred,
        count(*) FILTER (WHERE status = 'sent') AS sent, count(*) FILTER (WHERE status = 'delivered') AS delivered,
        count(*) FILTER (WHERE status = 'bounced') AS bounced, count(*) FILTER (WHERE status = 'complained') AS complained,
        count(*) FILTER (WHERE status = 'failed') AS failed, count(*) FILTER (WHERE status = 'suppressed') AS suppressed,
        count(*) FILTER (WHERE status = 'unknown') AS unknown, count(*) FILTER (WHERE status = 'canceled') AS canceled
    FROM delivery_message WHERE batch_id IS NOT NULL GROUP BY batch_id
) AS counted
WHERE batch.id = counted.batch_id
"""

INBOX = """
INSERT INTO relays_inboxmail (relay_id, message, mail_from, rcpt_to, subject, data, received_at)
SELECT %(relay)s, n, 'news@shop.example', 'reader' || n || '@example.net', 'News', convert_to(repeat('a line of a mail ', 200), 'UTF8'),
    %(now)s
FROM generate_series(1, 20000) AS n
"""
