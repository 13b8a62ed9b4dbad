"""The numbers of the admin's side bar and of its first page.

All of them stay cheap at ten million messages: they come from small tables, from counters that are kept anyway, or from rows that an
index leads to, and what is counted is counted up to a limit. Nobody sees a number of what they may not look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Case, Count, Exists, Model, OuterRef, Q, QuerySet, Value, When
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from campaigns.models import Campaign, Contact, Subscription
from mailhub.delivery import progress, throughput, workers
from mailhub.delivery.models import Attempt, Batch, Message, Worker
from mailhub.delivery.pages import SERVES
from mailhub.feedback import attention
from mailhub.feedback.models import IncomingMail, Mailbox
from mailhub.lib import charts, clock, sentences
from mailhub.lib.charts import Column, ceiling, grouped
from mailhub.lib.counts import MANY, count_to, in_words
from mailhub.relays.models import Parking, Relay, Route, RouteMember, Stream
from mailhub.senders.models import Sender
from mailhub.watching import sources
from mailhub.watching import words as words_of
from mailhub.watching.models import Trouble

# So many tries of the last day are told apart by their outcome; of more, by what was counted as they came in.
EXACT = 20_000
HOURS = 24
# Keys looked up at once by keys_at().
PROBES = 400


def may(request: HttpRequest, deed: str, model: type[Model]) -> bool:
    """Whether the admin has pages for the model, and lets this person do that there."""
    if not admin.site.is_registered(model):
        return False
    return bool(getattr(admin.site.get_model_admin(model), f"has_{deed}_permission")(request))


def page(model: type[Model], name: str = "changelist", *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


# ------------------------------------------------------------------------------------------------------------------ side bar


@dataclass(frozen=True, slots=True)
class Mark:
    """What waits behind an item of the side bar."""

    number: str
    #: what the number counts
    words: str
    #: "", or how grave it is: good, warn, bad
    tone: str = ""


def counts(request: HttpRequest) -> dict[str, Mark]:
    """Model label -> what is worth knowing before one looks there. What is 0 is left out."""
    now = clock.now()
    found: dict[str, tuple[int, str, str]] = {}
    if may(request, "view", Campaign):
        running = count_to(Campaign.objects.filter(batch__status=Batch.Status.RUNNING), 99)
        found["campaigns.Campaign"] = running, _("being sent"), ""
    if may(request, "view", Message):
        found["delivery.Message"] = sum(sources.waiting_mails()), _("waiting"), ""
    if may(request, "view", Relay):
        resting = Relay.objects.filter(status=Relay.Status.ACTIVE, resting_until__gt=now).count()
        found["relays.Relay"] = resting, _("resting"), "warn"
    if may(request, "view", Parking):
        found["relays.Parking"] = Parking.objects.filter(until__gt=now).count(), _("left alone"), "warn"
    if may(request, "view", Sender):
        unconfirmed = count_to(Sender.objects.filter(status=Sender.Status.UNCONFIRMED), 99)
        found["senders.Sender"] = unconfirmed, _("unconfirmed"), "warn"
    if may(request, "view", Mailbox):
        found["feedback.Mailbox"] = attention.closed().count(), _("with a problem"), "bad"
    if may(request, "view", IncomingMail):
        found["feedback.IncomingMail"] = attention.open_count(), _("to be looked at"), "warn"
    if may(request, "view", Worker):
        found["delivery.Worker"] = len(unserved(now)), _("kinds of work that no worker does"), "bad"
    if may(request, "view", Trouble):
        # Index watching_trouble_open.
        tones = list(Trouble.objects.filter(closed_at__isnull=True).order_by().values_list("tone", flat=True)[:MANY])
        found["watching.Trouble"] = len(tones), _("in trouble"), Trouble.Tone.BAD if Trouble.Tone.BAD in tones else Trouble.Tone.WARN
    return {label: Mark(in_words(count), words, tone) for label, (count, words, tone) in found.items() if count}


def unserved(now: datetime) -> list[str]:
    served = workers.served(now)
    return [queue for queue in workers.QUEUES if queue not in served]


# ---------------------------------------------------------------------------------------------------------------- first page


def overview(request: HttpRequest) -> dict[str, Any]:
    """What templates/admin/index.html shows."""
    now = clock.now()
    shown: dict[str, Any] = {"steps": steps(request), "quick": quick(request), "alerts": alerts(request, now)}
    if may(request, "view", Message):
        traffic = last_day(now)
        shown |= {"traffic": traffic, "stats": stats(traffic, now), "troubles": troubles(now)}
    if may(request, "view", Relay):
        shown["relays"] = relays(now)
    if may(request, "view", Worker):
        served = workers.served(now)
        shown["queues"] = [{"name": SERVES[queue], "served": queue in served} for queue in workers.QUEUES]
    if may(request, "view", Campaign):
        shown["campaigns"] = campaigns()
    return shown


def quick(request: HttpRequest) -> list[dict[str, str]]:
    """What people come for most often."""
    found: list[dict[str, str]] = []
    if may(request, "add", Relay):
        found.append({"url": page(Relay, "add"), "icon": "relay", "words": _("Add relay")})
    if may(request, "add", Contact):
        found.append({"url": page(Contact, "import"), "icon": "import", "words": _("Import contacts")})
    if may(request, "add", Campaign):
        found.append({"url": page(Campaign, "add"), "icon": "plus", "words": _("New campaign"), "primary": "primary"})
    return found


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do before the first campaign can leave."""

    model: type[Model]
    done: bool
    #: where it is done, or "" for those who may not
    url: str
    title: str
    words: str
    button: str
    #: all before it are done
    next: bool = False


def steps(request: HttpRequest) -> list[Step]:
    """The way of a new installation to its first campaign; nothing once one has been sent."""
    if Campaign.objects.filter(batch__isnull=False).exists():
        return []
    found = [step for step in _steps(request) if may(request, "view", step.model)]
    first = next((step for step in found if not step.done), None)
    return [replace(step, next=step is first) for step in found]


def _steps(request: HttpRequest) -> list[Step]:
    def where(model: type[Model], exists: bool, name: str = "add") -> str:
        """The list when something is in it already, or else the page to add to it."""
        return page(model) if exists else page(model, name) if may(request, "add", model) else ""

    route, sender, campaign = Route.objects.exists(), Sender.objects.exists(), Campaign.objects.exists()
    return [
        Step(
            model=Relay,
            done=Relay.objects.exists(),
            url=where(Relay, False),
            title=_("Add a relay"),
            words=_("The account at a mail server or service through which mail leaves. A sandbox inbox will do for a try."),
            button=_("Add relay"),
        ),
        Step(
            model=Route,
            done=Route.objects.filter(default_for=Stream.CAMPAIGN, members__isnull=False).exists(),
            url=where(Route, route),
            title=_("Put it into a route"),
            words=_("A route says which relays carry a kind of mail, and which of them takes over. Make it the default for campaigns."),
            button=_("Set up a route"),
        ),
        Step(
            model=Sender,
            done=Sender.objects.filter(status=Sender.Status.CONFIRMED).exists(),
            url=where(Sender, sender),
            title=_("Confirm a sender"),
            words=_("The address that recipients see. Nothing is sent in its name before it is confirmed to be yours."),
            button=_("Confirm it") if sender else _("Add a sender"),
        ),
        Step(
            model=Contact,
            done=Subscription.objects.exists(),
            url=where(Contact, False, "import"),
            title=_("Bring in your first list"),
            words=_("Import contacts from a CSV file, with the consent that they gave."),
            button=_("Import contacts"),
        ),
        Step(
            model=Campaign,
            done=False,
            url=where(Campaign, campaign),
            title=_("Send your first campaign"),
            words=_("Write it, send a test to yourself, and send it: you will see what becomes of every single mail."),
            button=_("Go to the campaigns") if campaign else _("New campaign"),
        ),
    ]


def alerts(request: HttpRequest, now: datetime) -> list[dict[str, str]]:
    """What somebody should do something about."""
    found: list[dict[str, str]] = []
    if may(request, "view", Worker) and (missing := unserved(now)):
        if len(missing) == len(workers.QUEUES):
            words = _("No worker is running: what is accepted waits.")
        else:
            words = _("No worker is running for: %(kinds)s.") % {
                "kinds": pgettext("between things", ", ").join(str(SERVES[queue]) for queue in missing)
            }
        found.append({"tone": "bad", "words": words, "url": page(Worker), "button": _("See the workers")})
    if may(request, "view", Relay):
        for relay in Relay.objects.filter(status=Relay.Status.ACTIVE, resting_until__gt=now).order_by("-resting_until")[:3]:
            words = _("The relay “%(relay)s” rests until %(time)s: %(reason)s") % {
                "relay": relay,
                "time": date_format(timezone.localtime(relay.resting_until), "TIME_FORMAT"),
                "reason": relay.rest_words,
            }
            found.append({"tone": "warn", "words": words, "url": page(Relay, "change", relay.pk), "button": _("See the relay")})
    if may(request, "view", Route):
        # Whoever is called since no mail leaves need not be who paused them.
        moving = RouteMember.objects.filter(route=OuterRef("pk")).exclude(relay__status=Relay.Status.PAUSED)
        still = Route.objects.filter(~Exists(moving), members__isnull=False).distinct().order_by("name")[:3]
        for route in still if still and sum(sources.waiting_mails()) else ():
            words = _("All relays of the route “%(route)s” are paused: its mail waits until one is resumed.") % {"route": route}
            found.append({"tone": "warn", "words": words, "url": page(Route, "change", route.pk), "button": _("See the route")})
    if may(request, "view", Trouble):
        # What stands above already is not said twice. Index watching_trouble_open.
        rows = Trouble.objects.filter(closed_at__isnull=True).exclude(kind__in=[Trouble.Kind.WORKERS, Trouble.Kind.RELAY])
        for row in rows.select_related("rule").order_by("tone", "-pk")[:5]:
            said = sentences.joined(words_of.sentence(words_of.title(row)), words_of.cause(row), words_of.held(row) or words_of.step(row))
            found.append({"tone": row.tone, "words": said, "url": page(Trouble, "change", row.pk), "button": _("See the trouble")})
    if may(request, "view", Campaign):
        # The newest hundred: nobody waits for an older one any more.
        newest = Campaign.objects.order_by("-pk").values("pk")[:100]
        for campaign in Campaign.objects.filter(pk__in=list(newest.values_list("pk", flat=True))).exclude(problem="").order_by("-pk")[:3]:
            words = _("“%(campaign)s” could not be sent when its time came: %(problem)s") % {
                "campaign": campaign,
                "problem": campaign.problem,
            }
            found.append({"tone": "warn", "words": words, "url": page(Campaign, "change", campaign.pk), "button": _("See the campaign")})
    return found


def relays(now: datetime) -> list[dict[str, Any]]:
    """Each with its state in a word; those that need a look first."""
    found: list[dict[str, Any]] = []
    for relay in Relay.objects.only("name", "status", "resting_until")[:MANY]:
        resting = relay.status == Relay.Status.ACTIVE and not relay.is_available(now)
        state, words = ("resting", _("resting")) if resting else (relay.status, relay.get_status_display())
        found.append({"relay": relay, "state": state, "words": words, "until": relay.resting_until if resting else None})
    return sorted(found, key=lambda row: ["resting", "active", "paused"].index(row["state"]))[:7]


def campaigns() -> list[dict[str, Any]]:
    """What is being sent, what will be, and what was last."""
    rows = Campaign.objects.select_related("batch").defer("html", "text")
    under_way = Q(batch__status__in=[Batch.Status.RUNNING, Batch.Status.PAUSED])
    found = [
        *rows.filter(under_way).order_by("-pk")[:5],
        # Index campaigns_campaign_due.
        *rows.filter(status=Campaign.Status.SCHEDULED).order_by("scheduled_at")[:3],
        *rows.filter(batch__status=Batch.Status.DONE).order_by("-pk")[:2],
    ]
    return [
        {
            "campaign": campaign,
            "batch": campaign.batch,
            "bar": progress.bar(campaign.batch) if campaign.batch else [],
            "percent": progress.percent(campaign.batch) if campaign.batch else 0,
            "through": progress.through(campaign.batch) if campaign.batch else 0,
        }
        for campaign in found
    ]


def troubles(now: datetime) -> list[dict[str, Any]]:
    """The mails that went wrong last."""
    found: list[dict[str, Any]] = []
    for status in (Message.Status.BOUNCED, Message.Status.COMPLAINED, Message.Status.FAILED, Message.Status.UNKNOWN):
        # Index delivery_message_trouble.
        newest = Message.objects.filter(status=status).order_by("-pk")
        found.extend(dict(row) for row in newest.values("pk", "address", "status", "reply", "created_at", "settled_at")[:6])
    for row in found:
        row["at"] = row["settled_at"] or row["created_at"]
        row |= {"age": timesince(row["at"], now, depth=1), "words": Message.Status(row["status"]).label}
    return sorted(found, key=lambda row: row["at"], reverse=True)[:6]


# --------------------------------------------------------------------------------------------------------------- the last day


@dataclass(frozen=True, slots=True)
class Hour:
    starts_at: datetime
    tries: int
    #: of the tries; 0 where only their number is known
    sent: int = 0
    deferred: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """Tries to hand mail over, hour by hour."""

    hours: list[Hour]
    #: their outcomes are not known, and their numbers nearly
    rough: bool

    @property
    def tries(self) -> int:
        return sum(hour.tries for hour in self.hours)

    @property
    def sent(self) -> int:
        return sum(hour.sent for hour in self.hours)

    @property
    def top(self) -> int:
        """Of the scale: a round number that no hour exceeds."""
        return ceiling(max([hour.tries for hour in self.hours] or [0]))

    @property
    def scale(self) -> list[int]:
        return [self.top, self.top // 2, 0]

    @property
    def columns(self) -> list[Column]:
        return [self._column(place, hour) for place, hour in enumerate(self.hours)]

    def _column(self, place: int, hour: Hour) -> Column:
        time = date_format(timezone.localtime(hour.starts_at), "H:i")
        if self.rough:
            title = _("%(time)s: about %(tries)s tries") % {"time": time, "tries": grouped(hour.tries)}
            parts = [("plain", hour.tries)]
        else:
            title = _("%(time)s: %(sent)s accepted, %(deferred)s deferred, %(refused)s refused") % {
                "time": time,
                "sent": grouped(hour.sent),
                "deferred": grouped(hour.deferred),
                "refused": grouped(hour.refused),
            }
            parts = [("sent", hour.sent), ("deferred", hour.deferred), ("refused", hour.refused)]
        return charts.column(place, time, title, [(tone, charts.HEIGHT * count / self.top) for tone, count in parts])


def last_day(now: datetime) -> Traffic:
    """By the keys of attempts, which are numbered in the order of their times: finding where each hour began costs some lookups in the
    primary key, however many there are."""
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    starts = [this_hour - timedelta(hours=back) for back in range(HOURS - 1, -1, -1)]
    *keys, end = keys_at(Attempt.objects.all(), "finished_at", [*starts, now + timedelta(hours=1)])
    tries = [after - before for before, after in zip(keys, [*keys[1:], end], strict=True)]
    if sum(tries) > EXACT:
        return _counted(starts, tries) or Traffic([Hour(*pair) for pair in zip(starts, tries, strict=True)], rough=True)
    outcomes = _outcomes(keys)
    hours = []
    for place, start in enumerate(starts):
        found = outcomes[place]
        sent, deferred = found.get(Attempt.Outcome.SENT, 0), found.get(Attempt.Outcome.DEFERRED, 0)
        hours.append(Hour(start, sum(found.values()), sent, deferred, sum(found.values()) - sent - deferred))
    return Traffic(hours, rough=False)


def _counted(starts: Sequence[datetime], tries: Sequence[int]) -> Traffic | None:
    """By what was counted when it was settled; nothing where that leaves out more than `tries` may be wrong by: rows from elsewhere."""
    found = throughput.between(starts[0], starts[-1] + timedelta(hours=1), "hour")
    counts = [found.get((start,), throughput.Counts()) for start in starts]
    if sum(count.tries for count in counts) < 0.98 * sum(tries):
        return None
    hours = [
        Hour(start, count.tries, count.accepted, count.deferred, count.tries - count.accepted - count.deferred)
        for start, count in zip(starts, counts, strict=True)
    ]
    return Traffic(hours, rough=False)


def _outcomes(keys: Sequence[int]) -> list[dict[str, int]]:
    """For each range that ends where the next of `keys` begins: outcome -> attempts. Primary key: reads EXACT rows at most."""
    place = Case(*[When(pk__gt=key, then=Value(number)) for number, key in reversed(list(enumerate(keys)))])
    rows = Attempt.objects.filter(pk__gt=keys[0]).annotate(place=place).order_by().values_list("place", "outcome").annotate(n=Count("pk"))
    found: list[dict[str, int]] = [{} for _key in keys]
    for number, outcome, count in rows:
        found[number][outcome] = count
    return found


def keys_at(rows: QuerySet[Any], column: str, moments: Sequence[datetime]) -> list[int]:
    """For each moment a key that parts the rows before it from those after it, of rows whose keys grow with the times in `column`.

    All are narrowed down together: four looks at PROBES keys at most, which leaves a few rows of ten million undecided between 25
    moments; where clocks or transactions made neighbours change places, it is off by as many. Of 4,000,000 attempts the hours of a
    day were found within 0.1 %, in 40 ms."""
    newest = rows.order_by("-pk").values_list("pk", flat=True).first()
    oldest = rows.order_by("pk").values_list("pk", flat=True).first()
    if newest is None or oldest is None:
        return [0] * len(moments)
    # Everything up to `low` is before the moment, everything from `high` on is not.
    brackets = [(oldest - 1, newest + 1)] * len(moments)
    for _look in range(4):
        probes = _probes(brackets)
        if not probes:
            break
        times = sorted(rows.filter(pk__in=probes).order_by().values_list("pk", column))
        brackets = [_narrow(bracket, times, moment) for bracket, moment in zip(brackets, moments, strict=True)]
    return [low for low, _high in brackets]


def _probes(brackets: Iterable[tuple[int, int]]) -> set[int]:
    """Keys spread evenly over each different bracket."""
    wide = {bracket for bracket in brackets if bracket[1] - bracket[0] > 1}
    each = PROBES // max(len(wide), 1)
    probes: set[int] = set()
    for low, high in wide:
        step = max((high - low) // (each + 1), 1)
        probes.update(range(low + step, high, step)[:each])
    return probes


def _narrow(bracket: tuple[int, int], times: Iterable[tuple[int, datetime]], moment: datetime) -> tuple[int, int]:
    low, high = bracket
    for key, at in times:
        if low < key < high:
            if at >= moment:
                return low, key
            low = key
    return low, high


def stats(traffic: Traffic, now: datetime) -> list[dict[str, Any]]:
    """The cards at the top, each a stat.html."""
    messages = page(Message)
    campaign, transactional = sources.waiting_mails()
    key = keys_at(Message.objects.all(), "created_at", [traffic.hours[0].starts_at])[0]
    # Index delivery_message_trouble. Their number since that key is that of the mails accepted since then that went wrong.
    lost = {
        status: count_to(Message.objects.filter(status=status, pk__gt=key).order_by("pk")) for status in ("bounced", "failed", "complained")
    }
    # What bounced without an answer that is counted, such as a mail whose outcome was unknown until it came back, is part of the whole.
    answered = max(traffic.sent + sum(hour.refused for hour in traffic.hours), lost["bounced"])
    share = _("%(percent)s %% of what was handed over") % {"percent": f"{100 * lost['bounced'] / answered:.1f}"} if answered else ""
    return [
        {
            "label": _("Waiting"),
            "icon": "clock",
            "value": in_words(campaign + transactional, campaign + MANY),
            "words": _("%(campaign)s campaign, %(transactional)s transactional")
            % {"campaign": grouped(campaign), "transactional": in_words(transactional)},
            "url": f"{messages}?state=waiting",
        },
        {
            "label": _("Tries in 24 hours") if traffic.rough else _("Accepted in 24 hours"),
            "icon": "submission",
            "about": traffic.rough,
            "value": grouped(traffic.tries if traffic.rough else traffic.sent),
            "words": _("to hand mail over to relays")
            if traffic.rough
            else ngettext("by relays, of %(tries)s try", "by relays, of %(tries)s tries", traffic.tries)
            % {"tries": grouped(traffic.tries)},
            "url": messages,
        },
        {
            "label": _("Bounced in 24 hours"),
            "icon": "bounce",
            "value": in_words(lost["bounced"]),
            "words": share or _("addresses that refused their mail"),
            "url": f"{messages}?state=bounced",
            "tone": "",
        },
        {
            "label": _("Failed in 24 hours"),
            "icon": "fault",
            "value": in_words(lost["failed"]),
            "words": ngettext("and %(count)s complaint", "and %(count)s complaints", lost["complained"])
            % {"count": in_words(lost["complained"])},
            "url": f"{messages}?state=failed",
            "tone": "bad" if lost["failed"] else "",
        },
    ]
