"""Telling people: what is to be told stands in a table, and is tried until it got through or nobody wants to know any more.

Mail goes past the queue, which may be what is in trouble, through a relay that is not."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from mailhub.lib import backoff, clock, http, signing, tasks
from mailhub.relays import routing
from mailhub.relays.models import Relay, Stream
from mailhub.senders import trial
from mailhub.senders.models import Sender
from mailhub.watching import weekly, words
from mailhub.watching.models import Alert, Channel, Step, Trouble
from mailhub.webhooks import posting

logger = logging.getLogger(__name__)

# Whoever tells has so long to do it; then another may.
LEASE = timedelta(minutes=5)
FIRST_RETRY = timedelta(minutes=1)
# After this nobody wants to know any more; the trouble's own page has it.
STALE = timedelta(days=1)
# A week is of interest until the next one is over.
WEEK_STALE = timedelta(days=6)
HOUR = timedelta(hours=1)
# An answer to a call: how long it may take (seconds), and how much of it is read (bytes).
PATIENCE, MOST = 10.0, 2_000
# Troubles that a summary names.
NAMED = 20
# Slack's names of colours, and one of ours.
COLOURS = {"warn": "warning", "bad": "danger", "good": "good"}


class NotTold(Exception):
    """It did not get through. The text is for people."""


def announce(trouble: Trouble, now: datetime) -> None:
    """In the transaction that opens or closes it. That it is good again is told to whom it was told that it was not."""
    channels = Channel.objects.filter(active=True, wants_alerts=True)
    if trouble.kind == Trouble.Kind.CHANNEL:
        # Not to the one that cannot be reached.
        channels = channels.exclude(pk=trouble.object_id or 0)
    if trouble.closed_at:
        channels = channels.filter(alerts__trouble=trouble, alerts__kind=Alert.Kind.OPENED)
    kind = Alert.Kind.CLOSED if trouble.closed_at else Alert.Kind.OPENED
    chosen = list(channels)
    Alert.objects.bulk_create(
        [Alert(channel=channel, trouble=trouble, kind=kind, made_at=now, due_at=now) for channel in chosen], ignore_conflicts=True
    )
    for channel in chosen:
        tasks.enqueue("mailhub.watching.tasks.tell", channel.pk, queue="maintenance")


def due(now: datetime) -> list[int]:
    """Channels with something to tell, by key. Index watching_alert_due."""
    rows = Alert.objects.filter(sent_at__isnull=True, gave_up=False, due_at__lte=now, channel__active=True)
    return list(rows.order_by().values_list("channel_id", flat=True).distinct())


def test(channel: Channel) -> str:
    """Tell it something at once; returns what went wrong, or ""."""
    now = clock.now()
    alert = Alert.objects.create(channel=channel, kind=Alert.Kind.TEST, made_at=now, due_at=now + LEASE, tries=1)
    return _tell(channel, [alert])


def tell(channel: Channel) -> int:
    """Tell what is due, no more an hour than the channel wants: the last that it may have tells of all that is left. A week is told by
    itself, whatever else was. Returns how many alerts were told."""
    now = clock.now()
    pending = list(_open(channel).filter(due_at__lte=now).select_related("trouble__rule").order_by("pk"))
    weeks = [[alert] for alert in pending if alert.week]
    told = 0
    for part in [*_parts([alert for alert in pending if not alert.week], channel, now), *weeks]:
        mine = [alert for alert in part if _take(alert, now)]
        if not mine:
            continue
        if _tell(channel, mine):
            break
        told += len(mine)
    return told


def _parts(pending: list[Alert], channel: Channel, now: datetime) -> list[list[Alert]]:
    """What is told together."""
    free = room(channel, now) if pending else 0
    if free < 1:
        return []
    alone = pending if len(pending) <= free else pending[: free - 1]
    parts = [[alert] for alert in alone]
    return parts if len(alone) == len(pending) else [*parts, pending[len(alone) :]]


def room(channel: Channel, now: datetime) -> int:
    """How many it may still be told this hour. Index watching_alert_sent."""
    recent = channel.alerts.filter(sent_at__gt=now - HOUR, within__isnull=True).exclude(kind__in=[Alert.Kind.TEST, Alert.Kind.WEEKLY])
    return channel.most - recent.count()


def _open(channel: Channel) -> Any:
    return channel.alerts.filter(sent_at__isnull=True, gave_up=False)


def _take(alert: Alert, now: datetime) -> bool:
    """Nobody else tells it meanwhile."""
    taken = Alert.objects.filter(pk=alert.pk, sent_at__isnull=True, due_at=alert.due_at).update(due_at=now + LEASE, tries=alert.tries + 1)
    alert.tries += 1
    return bool(taken)


def _tell(channel: Channel, alerts: Sequence[Alert]) -> str:
    """Returns what went wrong, or ""."""
    with translation.override(channel.language):
        try:
            TELL[Channel.Kind(channel.kind)](channel, alerts, Said.of(alerts))
            problem = ""
        except NotTold as error:
            problem = str(error)[:300]
        except Exception as error:  # noqa: BLE001  shown on the channel, and tried again
            logger.exception("alert channel %s", channel.pk)
            problem = f"{type(error).__name__}: {error}"[:300]
    now = clock.now()
    if problem:
        Channel.objects.filter(pk=channel.pk).update(problem=problem, failed_at=now)
        for alert in alerts:
            over = now - alert.made_at > (WEEK_STALE if alert.week else STALE) or alert.kind == Alert.Kind.TEST
            Alert.objects.filter(pk=alert.pk).update(
                due_at=now + backoff.delay(alert.tries, FIRST_RETRY), gave_up=over, reached=alert.reached
            )
        logger.warning("alert channel %s was not told: %s", channel.pk, problem)
        return problem
    Channel.objects.filter(pk=channel.pk).update(problem="", told_at=now)
    head, *others = alerts
    Alert.objects.filter(pk=head.pk).update(sent_at=now)
    Alert.objects.filter(pk__in=[alert.pk for alert in others]).update(sent_at=now, within=head)
    Step.objects.bulk_create(
        Step(trouble=alert.trouble, deed=Step.Deed.ALERTED, at=now, detail=channel.name[:300]) for alert in alerts if alert.trouble
    )
    return ""


# ------------------------------------------------------------------------------------------------------------------ what is said


@dataclass(frozen=True, slots=True)
class Said:
    title: str
    lines: list[str]
    #: of the page to look at
    url: str
    tone: str
    #: of a mail, where it is more than the lines
    html: str = ""

    @classmethod
    def of(cls, alerts: Sequence[Alert]) -> Said:
        """In the language that is in force."""
        if len(alerts) > 1:
            return cls._summary(alerts)
        alert = alerts[0]
        if alert.week:
            week = weekly.Week.of(alert.week)
            return cls(week.title, week.lines(), week.url, week.tone, week.html())
        if alert.trouble is None:
            title = _("Test alert")
            return cls(title, [_("Somebody asked for it in MailHub. Alerts get through to here.")], words.address("admin:index"), "good")
        url = words.address("admin:watching_trouble_change", alert.trouble.pk)
        title = words.title(alert.trouble)
        if alert.kind == Alert.Kind.CLOSED:
            return cls(_("Good again: %(title)s") % {"title": title}, [_("Nothing is to be done.")], url, "good")
        lines = [words.cause(alert.trouble), words.held(alert.trouble), words.step(alert.trouble)]
        return cls(title, [line for line in lines if line], url, alert.trouble.tone)

    @classmethod
    def _summary(cls, alerts: Sequence[Alert]) -> Said:
        title = ngettext("%(count)s more alert in this hour", "%(count)s more alerts in this hour", len(alerts))
        lines = ["· " + cls.of([alert]).title for alert in alerts[:NAMED]]
        if len(alerts) > NAMED:
            lines.append(_("and %(count)s more") % {"count": len(alerts) - NAMED})
        grave = any(alert.trouble and alert.kind == Alert.Kind.OPENED and alert.trouble.tone == Trouble.Tone.BAD for alert in alerts)
        return cls(title % {"count": len(alerts)}, lines, words.address("admin:watching_trouble_changelist"), "bad" if grave else "warn")


# -------------------------------------------------------------------------------------------------------------------------- mail


def _mail(channel: Channel, alerts: Sequence[Alert], said: Said) -> None:
    if channel.sender is None or channel.sender.status != Sender.Status.CONFIRMED:
        raise NotTold(_("Its sender is not confirmed."))
    text = "\n\n".join([said.title, *said.lines, said.url]) + "\n"
    mail = trial.Words(f"[MailHub] {said.title}", text, said.html)
    missing = []
    for to in channel.recipients:
        if to in alerts[0].reached:
            continue
        problem = _hand_over(channel.sender, to, mail, alerts)
        if problem:
            missing.append(f"{to}: {problem}")
        else:
            for alert in alerts:
                alert.reached = [*alert.reached, to]
    if missing:
        raise NotTold(" ".join(missing))


def _hand_over(sender: Sender, to: str, mail: trial.Words, alerts: Sequence[Alert]) -> str:
    """Returns what went wrong, or ""."""
    problem = _("No relay takes mail at the moment.")
    for relay in ways(sender, clock.now(), [alert.trouble.relay_id for alert in alerts if alert.trouble and alert.trouble.relay_id]):
        result = trial.send(relay, sender, to, mail)
        if result.accepted:
            return ""
        problem = f"{relay}: {result.words} {result.reply}"
    return problem


def ways(sender: Sender, now: datetime, troubled: Sequence[int | None] = ()) -> list[Relay]:
    """Relays in the order in which they are tried: those of the sender's route, then the others, and last of all those in trouble."""
    bad = {*troubled, *Trouble.objects.filter(closed_at__isnull=True, relay__isnull=False).values_list("relay_id", flat=True)}
    route = sender.route(Stream.TRANSACTIONAL)
    own = [member.relay_id for member in routing.serving(route, now)] if route else []
    if route:
        own += list(route.members.order_by("position", "pk").values_list("relay_id", flat=True))
    places = {relay: place for place, relay in reversed(list(enumerate(own)))}
    able = [
        relay
        for relay in Relay.objects.defer("secrets").select_related("pool").order_by("pk")
        # An inbox keeps it to itself; while the whole installation sends nothing, that is what is wanted.
        if relay.is_available(now) and (settings.MAILHUB_DO_NOT_SEND or not (relay.do_not_send or relay.kind == "inbox"))
    ]
    return sorted(
        (relay for relay in able if not relay.is_elsewhere()),
        key=lambda relay: (relay.pk in bad, places.get(relay.pk, len(places)), relay.pk),
    )


# ------------------------------------------------------------------------------------------------------------------------- calls


def _call(channel: Channel, alerts: Sequence[Alert], said: Said) -> None:
    body = json.dumps(payload(alerts, said), ensure_ascii=False, separators=(",", ":")).encode()
    signed = signing.headers([channel.secret], f"alert_{alerts[0].public_id.hex}", int(clock.now().timestamp()), body)
    _post(channel.url, body, signed)


def payload(alerts: Sequence[Alert], said: Said) -> dict[str, Any]:
    """docs/watching.md has it for whoever receives it."""
    kind = "summary" if len(alerts) > 1 else alerts[0].kind
    return {
        "type": f"alert.{kind}",
        "timestamp": alerts[0].made_at.isoformat(),
        "data": {
            "title": said.title,
            "text": "\n".join(said.lines),
            "url": said.url,
            "tone": said.tone,
            "troubles": [
                {
                    "id": alert.trouble.pk,
                    "kind": alert.trouble.kind,
                    "subject": alert.trouble.subject,
                    "state": alert.kind,
                    "opened_at": alert.trouble.opened_at.isoformat(),
                    "about": alert.trouble.about,
                }
                for alert in alerts
                if alert.trouble
            ],
        },
    }


def _slack(channel: Channel, alerts: Sequence[Alert], said: Said) -> None:
    text = "\n".join(said.lines)
    note = {"color": COLOURS[said.tone], "fallback": said.title, "title": plain(said.title), "title_link": said.url, "text": plain(text)}
    _post(channel.url, json.dumps({"text": plain(said.title), "attachments": [note]}, ensure_ascii=False).encode(), {})


def plain(text: str) -> str:
    """Without the signs that Slack reads as its own, as in <!channel>."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _post(url: str, body: bytes, fields: dict[str, str]) -> None:
    try:
        head = {"Content-Type": "application/json", **fields}
        page = async_to_sync(http.post)(url, body, head, most=MOST, seconds=PATIENCE, connect=posting.connect)
    except http.HTTPError as error:
        raise NotTold(_("The call did not get through: %(error)s") % {"error": error}) from None
    if not 200 <= page.status < 300:
        said = page.body.decode(errors="replace")[:200]
        raise NotTold(_("The other side answered %(status)s: %(text)s") % {"status": page.status, "text": said})


TELL = {Channel.Kind.MAIL: _mail, Channel.Kind.CALL: _call, Channel.Kind.SLACK: _slack}
