"""Opens and clicks, from the web's side: stored at once as they come, and recorded in groups a little later.

Later, because machines show themselves by what they do next: a scanner follows all links of a mail within seconds. They are recorded like
the others, as machines', and counted apart. Nothing of a request is kept but its moment and what it gives away of who made it.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from mailhub.delivery import events, tracking
from mailhub.delivery.events import Report
from mailhub.delivery.models import Batch, Content, Event, Hit, LinkCount, Message
from mailhub.lib import charts, clock
from mailhub.lib.charts import Part

# How long hits are left, so that what a machine does next can be seen.
WAIT = timedelta(seconds=20)
GROUP = 500
# From the moment in which a relay took the mail: nobody reads so fast, and nobody reads so fast from a data centre.
TOO_SOON = timedelta(seconds=5)
SOON = timedelta(minutes=2)
# So many different links of one mail within so long.
MANY = 3
AT_ONCE = timedelta(seconds=5)


class Sign(StrEnum):
    """What tells a machine from a person, or a person's own program from a service in between."""

    PROXY = "proxy"  # a service that fetches pictures when its user opens the mail, as Gmail's does: a person, hidden
    APPLE = "apple"  # Apple's Mail Privacy Protection, which fetches every picture whether the mail is opened or not
    SCANNER = "scanner"  # a program by its own name
    PREFETCH = "prefetch"  # a browser that loads ahead, or whoever asks for the head of a page alone
    SOON = "soon"  # sooner after delivery than a person can be
    MANY = "many"  # several links of one mail within seconds


#: All but these are machines'.
PEOPLE = ("", Sign.PROXY)
#: What a data centre makes of a request that says nothing else: a machine's only if it was in haste.
CENTRE = "centre"

TABLE: dict[str, Any] = tomllib.loads(Path(__file__).with_name("machines.toml").read_text())


def _named(names: str) -> re.Pattern[str]:
    return re.compile("|".join(TABLE[names]), re.IGNORECASE)


# By what a program calls itself, the first that fits. Nothing else is so brief as Apple's.
AGENTS = ((Sign.PROXY, _named("proxies")), (Sign.APPLE, re.compile(r"\AMozilla/5\.0\Z")), (Sign.SCANNER, _named("scanners")))
PREFETCH_FIELDS = ("HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_PURPOSE", "HTTP_X_MOZ")

APPLE = tuple(map(ip_network, TABLE["apple"]))
CENTRES = tuple(ip_network(network) for networks in TABLE["centres"].values() for network in networks)


# --------------------------------------------------------------------------------------------------------------- in the request


def sign(meta: Mapping[str, object], method: str, client: str) -> str:
    """What a request (its WSGI variables) from this IP address gives away of who made it; "" is nothing. A data centre alone proves
    nothing: it is "centre", and with haste a machine."""
    if method == "HEAD" or any("prefetch" in (said := str(meta.get(name, "")).lower()) or "preview" in said for name in PREFETCH_FIELDS):
        return Sign.PREFETCH
    agent = str(meta.get("HTTP_USER_AGENT", "")).strip()
    if not agent:
        return Sign.SCANNER
    for found, pattern in AGENTS:
        if pattern.search(agent):
            return found
    try:
        ip = ip_address(client)
    except ValueError:  # a Unix socket has none
        return ""
    if any(ip in network for network in APPLE):
        return Sign.APPLE
    return CENTRE if any(ip in network for network in CENTRES) else ""


def take(content: int, message: int, number: int, sign: str) -> None:
    """Store that it happened: one row, in a transaction of its own."""
    if tracking.allowed():
        if settings.MAILHUB_TRACKING == "anonymous":
            message = 0
        Hit.objects.create(content_key=content, message_key=message, number=number, at=clock.now(), sign=sign)


# -------------------------------------------------------------------------------------------------------------------- recording


def work_off(groups: int = 200) -> int:
    """Record what has waited long enough; returns how many that were. By the primary key."""
    count = 0
    for _group in range(groups):
        found = _work_off()
        count += found
        if found < GROUP:
            break
    return count


@transaction.atomic
def _work_off() -> int:
    """One group, with all that came with its last, so that nobody's are torn apart."""
    waiting = Hit.objects.filter(at__lte=clock.now() - WAIT).order_by("pk")
    locked = waiting.select_for_update(skip_locked=True) if connection.features.has_select_for_update_skip_locked else waiting
    hits = list(locked[:GROUP])
    if not hits:
        return 0
    Hit.objects.filter(pk__in=[hit.pk for hit in hits]).delete()
    _record(hits)
    return len(hits)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a message that somebody opened."""

    content: int
    sent_at: datetime | None
    left: bool


def _record(hits: Sequence[Hit]) -> None:
    contents = Content.objects.defer("html", "text", "raw").in_bulk({hit.content_key for hit in hits})
    known = _known({hit.message_key for hit in hits if hit.message_key})
    signs = _signs(hits, known)
    reports = []
    fresh: dict[tuple[int, int], set[int]] = defaultdict(set)
    counts: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for hit in hits:
        content = contents.get(hit.content_key)
        if content is None or (hit.number and not tracking.shown(content.links, hit.number)):
            continue
        found = signs[hit.pk]
        is_shared = tracking.is_shared(content)
        if is_shared:
            count = counts[hit.content_key, hit.number]
            count["times" if found in PEOPLE else "machines"] += 1
            count["proxied"] += found == Sign.PROXY
        message = known.get(hit.message_key)
        # Who has unsubscribed is not watched any more; and a token names both, so they belong together unless a key leaked.
        if message is None or message.left or message.content != hit.content_key:
            continue
        reports.append(_report(hit, content, found))
        if found in PEOPLE and is_shared:
            fresh[hit.content_key, hit.number].add(hit.message_key)
    _count_messages(fresh, contents, counts)
    events.record_all(reports)
    _write(counts)


def _report(hit: Hit, content: Content, found: str) -> Report:
    kind = "" if found in PEOPLE else Event.Kind.MACHINE
    if not hit.number:
        return Report(hit.message_key, Event.Type.OPENED, hit.at, "", kind, found)
    return Report(hit.message_key, Event.Type.CLICKED, hit.at, tracking.shown(content.links, hit.number), kind, found)


def _known(keys: set[int]) -> dict[int, _Known]:
    """By primary key, and the index on Event.message."""
    rows = Message.objects.filter(pk__in=keys).values_list("pk", "content_id", "settled_at")
    left = set(Event.objects.filter(message__in=keys, type=Event.Type.UNSUBSCRIBED).order_by().values_list("message_id", flat=True))
    return {pk: _Known(content, sent_at, pk in left) for pk, content, sent_at in rows}


def _signs(hits: Sequence[Hit], known: Mapping[int, _Known]) -> dict[int, str]:
    """What each hit is taken for, by its key: what it said of itself, when it came, and what came with it."""
    found = {hit.pk: _alone(hit, known.get(hit.message_key)) for hit in hits}
    clicks: dict[int, list[Hit]] = defaultdict(list)
    for hit in hits:
        if hit.number and hit.message_key:
            clicks[hit.message_key].append(hit)
    for of_message in clicks.values():
        for hit in of_message:
            beside = {other.number for other in of_message if abs(other.at - hit.at) <= AT_ONCE}
            if len(beside) >= MANY and found[hit.pk] in PEOPLE:
                found[hit.pk] = Sign.MANY
    return found


def _alone(hit: Hit, message: _Known | None) -> str:
    sent_at = message.sent_at if message else None
    after = hit.at - sent_at if sent_at else None
    if hit.sign in ("", CENTRE, Sign.PROXY) and after is not None and after <= (SOON if hit.sign == CENTRE else TOO_SOON):
        return Sign.SOON
    return "" if hit.sign == CENTRE else hit.sign


def _count_messages(
    fresh: Mapping[tuple[int, int], set[int]], contents: Mapping[int, Content], counts: dict[tuple[int, int], Counter[str]]
) -> None:
    """Count each message once a link, and once for its opens: those of which no earlier event tells. Index on Event.message."""
    everybody = {message for messages in fresh.values() for message in messages}
    told = Event.objects.filter(message__in=everybody, type__in=[Event.Type.OPENED, Event.Type.CLICKED]).exclude(kind=Event.Kind.MACHINE)
    before = set(told.order_by().values_list("message_id", "type", "detail"))
    for (content, number), messages in fresh.items():
        target = tracking.shown(contents[content].links, number)[: events.LONGEST_DETAIL]
        type = Event.Type.CLICKED if number else Event.Type.OPENED
        counts[content, number]["messages"] += sum((message, type, target) not in before for message in messages)


def _write(counts: Mapping[tuple[int, int], Counter[str]]) -> None:
    """The last that the transaction does, in one order, so that nobody waits in a circle. Index delivery_linkcount_once."""
    places = sorted(place for place, count in counts.items() if any(count.values()))
    LinkCount.objects.bulk_create([LinkCount(content_id=content, number=number) for content, number in places], ignore_conflicts=True)
    for content, number in places:
        added = {name: F(name) + by for name, by in counts[content, number].items() if by}
        LinkCount.objects.filter(content=content, number=number).update(**added)


# ---------------------------------------------------------------------------------------------------------------------- telling


@dataclass(frozen=True, slots=True)
class Link:
    """One tracked link of a content, with how it was followed."""

    target: str
    count: LinkCount
    #: of the most followed one's, as the width of a bar that is 1000 wide
    width: str


def links(content: Content) -> list[Link]:
    """The most followed first."""
    counted = {row.number: row for row in LinkCount.objects.filter(content=content, number__gt=0)}
    rows = [
        (target, counted.get(number) or LinkCount(content=content, number=number)) for number, target in enumerate(content.links or (), 1)
    ]
    most = max((row.times for _target, row in rows), default=0) or 1
    found = [Link(target, row, f"{1000 * row.times / most:.2f}") for target, row in rows]
    return sorted(found, key=lambda link: (-link.count.messages, -link.count.times, link.count.number))


def opens(content: Content) -> LinkCount:
    return LinkCount.objects.filter(content=content, number=0).first() or LinkCount(content=content, number=0)


@dataclass(frozen=True, slots=True)
class Told:
    """What the opens and clicks of a batch come to."""

    batch: Batch
    opens: LinkCount
    links: list[Link]

    @property
    def received(self) -> int:
        """Mails that may have been opened: those that a relay took and that did not come back, as far as is known."""
        return self.batch.sent + self.batch.delivered + self.batch.complained

    @property
    def clicks(self) -> int:
        return sum(link.count.times for link in self.links)

    @property
    def machine_clicks(self) -> int:
        return sum(link.count.machines for link in self.links)

    @property
    def rows(self) -> list[Row]:
        """Opens and clicks, as far as they are tracked: each with a bar of all its people and machines."""
        found = []
        if self.batch.content.tracks_opens:
            count = self.opens
            found.append(Row("opened", _("opened"), self.batch.opened, self.received, count.times, count.proxied, count.machines))
        if self.batch.content.links is not None:
            clicked = self.batch.clicked
            found.append(Row("clicked", _("clicked"), clicked, self.received, self.clicks, 0, self.machine_clicks))
        return found


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    label: str
    #: messages in which a person did, and of how many
    people: int
    of: int
    #: how often people did, how often of that by way of a proxy, and how often machines did
    times: int
    proxied: int
    machines: int

    @property
    def percent(self) -> str:
        return number_format(100 * self.people / self.of if self.of else 0, decimal_pos=1)

    @property
    def parts(self) -> list[Part]:
        """Of a bar that is 1000 wide: who opened or clicked, among all who got it."""
        return charts.shares([("sent", min(self.people, self.of))], self.of)

    @property
    def kinds(self) -> list[Part]:
        """The same of how often: people, people behind a proxy, machines."""
        return charts.shares([("sent", self.times - self.proxied), ("deferred", self.proxied), ("kept", self.machines)])


def told(batch: Batch | None) -> Told | None:
    """None where nothing is tracked. Two queries."""
    if batch is None or not batch.content.tracking_base:
        return None
    return Told(batch, opens(batch.content), links(batch.content))
