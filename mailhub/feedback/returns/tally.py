"""Counts events of mail that came back, was refused for good, or was called spam.

From the events, by a task, so that sending and recording cost nothing more: each event is read once, in the order of its key, and those
of good mail are passed over: some 70,000 a second on PostgreSQL where every fiftieth is bad. As they are at hand here, mailboxes that
refuse mail at hand-over again and again are found here, too.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TypeVar

from django.conf import settings
from django.db import connection
from django.db.models import F
from django.utils import timezone

from mailhub.delivery import events, suppressions, upto
from mailhub.delivery.models import Event
from mailhub.feedback.returns.alike import alike
from mailhub.feedback.returns.models import Count, Returned, UpTo, Wording
from mailhub.lib import clock
from mailhub.lib.replies import classify
from mailhub.relays.models import OTHER

T = TypeVar("T")

TYPES = (Event.Type.BOUNCED, Event.Type.FAILED, Event.Type.REJECTED, Event.Type.COMPLAINED)
# Events that are read in one transaction.
GROUP = 20_000
# Different wordings that a day may bring; what is said beyond them counts by its category alone.
NEW_WORDINGS = 1_000
# Keys that one statement looks for.
KEYS = 2_000
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
    rows = list(Event.objects.filter(pk__gt=after, pk__lte=last, type__in=TYPES).order_by("pk").values_list(*COLUMNS))
    add(rows)
    given_up = [row[0] for row in rows if row[1] == Event.Type.FAILED and row[3] in suppressions.MAILBOX]
    for keys in _groups(given_up, KEYS):
        events.wear_out(Event.objects.filter(pk__in=keys).select_related("message").order_by("pk"))


#: a message's key, and whether it was called spam
Fate = tuple[int, bool]


def add(rows: Sequence[tuple[object, ...]]) -> None:
    """Count these events, rows of COLUMNS, in the caller's transaction. A mail counts once as come back and once as called spam, however
    many tell of it: the server at hand-over, a mail, a callback. Where one of them says that the address is dead, that is what counts."""
    fates: dict[Fate, tuple[Place, int]] = {}
    said: dict[str, Said] = {}
    for pk, type, kind, category, detail, at, message, address, relay, destination, batch, stream in rows:
        if stream is None:
            continue  # forgotten meanwhile
        words = say(str(type), str(kind), str(category), str(detail), str(address))
        fate = _key(message), words.kind == "complaint"
        if fate in fates and not _worse(words.kind, said[fates[fate][0].wording].kind):
            continue
        said[words.digest] = words
        day = timezone.localtime(at if isinstance(at, datetime) else None).date()
        fates[fate] = Place(day, _key(relay), str(destination or OTHER), _key(batch), str(stream), words.digest), _key(pk)
    _leave_out_counted(fates, said)
    counts = Counter(place for place, _event in fates.values())
    keys = _wordings({place.wording: said[place.wording] for place in counts})
    made = _add(counts, said, keys)
    Returned.objects.bulk_create(
        (Returned(count_id=made[place], message_key=message, event_key=event) for (message, _spam), (place, event) in fates.items()),
        batch_size=2000,
    )


def _worse(kind: str, than: str) -> bool:
    return kind == "hard" and than == "soft"


def _leave_out_counted(fates: dict[Fate, tuple[Place, int]], said: Mapping[str, Said]) -> None:
    """Take out what is counted already; or take back what is counted, where worse is known now. Index returns_returned_message."""
    back: Counter[int] = Counter()
    rows: list[int] = []
    for keys in _groups(sorted({message for message, _spam in fates}), KEYS):
        counted = Returned.objects.filter(message_key__in=keys).order_by("pk")
        for pk, message, count, kind in counted.values_list("pk", "message_key", "count_id", "count__kind"):
            fate = message, kind == "complaint"
            if fate not in fates:
                continue
            if _worse(said[fates[fate][0].wording].kind, kind):
                back[count] += 1
                rows.append(pk)
            else:
                del fates[fate]
    for keys in _groups(rows, KEYS):
        Returned.objects.filter(pk__in=keys).delete()
    for count, number in sorted(back.items()):
        Count.objects.filter(pk=count).update(number=F("number") - number)
    for keys in _groups(sorted(back), KEYS):
        Count.objects.filter(pk__in=keys, number=0).delete()


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


def _groups(keys: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (keys[start : start + size] for start in range(0, len(keys), size))
