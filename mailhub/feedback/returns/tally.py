"""Counts events of mail that came back, was refused for good, or was called spam.

From the events, by a task, so that sending and recording cost nothing more: each event is read once, in the order of its key, and those
of good mail are passed over: some 70,000 a second on PostgreSQL where every fiftieth is bad.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.conf import settings
from django.db import connection
from django.utils import timezone

from mailhub.delivery import upto
from mailhub.delivery.models import Event
from mailhub.feedback.returns.alike import alike
from mailhub.feedback.returns.models import Count, Returned, UpTo, Wording
from mailhub.lib import clock
from mailhub.lib.replies import classify
from mailhub.relays.models import OTHER

TYPES = (Event.Type.BOUNCED, Event.Type.FAILED, Event.Type.REJECTED, Event.Type.COMPLAINED)
# Events that are read in one transaction.
GROUP = 20_000
# Different wordings that a day may bring; what is said beyond them counts by its category alone.
NEW_WORDINGS = 1_000
COLUMNS = (
    "pk", "type", "kind", "category", "detail", "recorded_at", "message_id", "message__address", "message__relay_id",
    "message__destination_id", "message__batch_id", "message__stream",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """What a Count is of."""

    day: date
    relay_key: int
    destination_key: str
    batch_key: int
    stream: str
    wording: str


@dataclass(frozen=True, slots=True)
class Said:
    category: str
    kind: str
    text: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.category}\n{self.kind}\n{self.text}".encode("utf-8", "replace")).hexdigest()


def count() -> int:
    """Count the events that came until the last time this ran; returns how many were read. Each is counted once, however often it runs
    at once."""
    return upto.read_on(UpTo, Event, GROUP, _read)


def _read(after: int, last: int) -> None:
    """The primary key: a range of it."""
    add(list(Event.objects.filter(pk__gt=after, pk__lte=last, type__in=TYPES).order_by("pk").values_list(*COLUMNS)))


def add(rows: Sequence[tuple[object, ...]]) -> None:
    """Count these events, rows of COLUMNS, in the caller's transaction."""
    counts: Counter[Place] = Counter()
    mails: list[tuple[Place, int, int]] = []
    said: dict[str, Said] = {}
    for pk, type, kind, category, detail, at, message, address, relay, destination, batch, stream in rows:
        if stream is None:
            continue  # forgotten meanwhile
        words = say(str(type), str(kind), str(category), str(detail), str(address))
        said[words.digest] = words
        day = timezone.localtime(at if isinstance(at, datetime) else None).date()
        place = Place(day, _key(relay), str(destination or OTHER), _key(batch), str(stream), words.digest)
        counts[place] += 1
        mails.append((place, _key(message), _key(pk)))
    keys = _wordings(said)
    made = _add(counts, said, keys)
    Returned.objects.bulk_create(
        (Returned(count_id=made[place], message_key=message, event_key=event) for place, message, event in mails), batch_size=2000
    )


def _key(value: object) -> int:
    return value if isinstance(value, int) else 0


def say(type: str, kind: str, category: str, detail: str, address: str) -> Said:
    """Why it came to nothing, and in which words."""
    if type == Event.Type.COMPLAINED:
        return Said("complaint", "complaint", "")
    verdict = classify.classify(detail)
    # What we refused is the address's fault where it is called a bounce without more words, as queue.settle() does.
    told = kind or ("hard" if type == Event.Type.BOUNCED else "soft")
    return Said(category or str(verdict.category), told, alike(detail, address))


def _wordings(said: Mapping[str, Said]) -> dict[str, int]:
    """Digest -> key, made where it is new."""
    known = dict(Wording.objects.filter(digest__in=list(said)).values_list("digest", "pk"))
    today = timezone.localdate()
    room = NEW_WORDINGS - Wording.objects.filter(first_day=today).count()
    keys: dict[str, int] = {}
    for digest, words in said.items():
        if digest not in known and words.text:
            room -= 1
            if room < 0:
                words = Said(words.category, words.kind, "")
        if digest not in known:
            fields = {"category": words.category, "kind": words.kind, "text": words.text, "first_day": today}
            row, _new = Wording.objects.get_or_create(digest=words.digest, defaults=fields)
            known[digest] = row.pk
        keys[digest] = known[digest]
    return keys


ADD = """
INSERT INTO returns_count (day, relay_key, destination_key, batch_key, stream, wording_id, category, kind, number)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (day, relay_key, destination_key, batch_key, stream, wording_id) DO UPDATE SET
number = returns_count.number + excluded.number
RETURNING id
"""


def _add(counts: Mapping[Place, int], said: Mapping[str, Said], keys: Mapping[str, int]) -> dict[Place, int]:
    """Keys of the counts. Index returns_count_once: a statement a place."""
    made = {}
    with connection.cursor() as cursor:
        for place, number in counts.items():
            day = connection.ops.adapt_datefield_value(place.day)
            where = (day, place.relay_key, place.destination_key, place.batch_key, place.stream, keys[place.wording])
            cursor.execute(ADD, [*where, said[place.wording].category, said[place.wording].kind, number])
            made[place] = cursor.fetchone()[0]
    return made


def forget() -> int:
    """Delete the counts of days whose messages are forgotten; returns how many. Index returns_count_once."""
    before = (clock.now() - timedelta(days=settings.MAILHUB_KEEP_MESSAGES_DAYS)).date()
    old = list(Count.objects.filter(day__lt=before).order_by("day").values_list("pk", flat=True)[:100_000])
    for group in _groups(old, 500):
        mails = Returned.objects.filter(count__in=group)
        mails._raw_delete(mails.db)
        Count.objects.filter(pk__in=group).delete()
    Wording.objects.filter(first_day__lt=before, counts__isnull=True).delete()
    return len(old)


def _groups(keys: Sequence[int], size: int) -> Iterable[Sequence[int]]:
    return (keys[start : start + size] for start in range(0, len(keys), size))
