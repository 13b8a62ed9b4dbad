"""What came back and needs a person, or does not come any more: for the side bar, the bounce page and the list of incoming mails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from mailhub.delivery import throughput
from mailhub.feedback import by_hand
from mailhub.feedback.models import Callback, CallbackURL, IncomingMail, Mailbox, ParkedReport
from mailhub.lib import clock
from mailhub.lib.charts import grouped
from mailhub.lib.counts import MANY, count_to, in_words

# So many mailboxes and relays are named.
MOST_NAMED = 5
# A service that says nothing of so many mails in a row, for so long, does not call back any more. Older mails than the last tell no more.
STRANGE, PATIENCE, LONG_AGO = 500, timedelta(days=1), timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Need:
    words: str
    url: str
    #: "warn" or "bad"
    tone: str = "warn"


def mails() -> QuerySet[IncomingMail]:
    """Index feedback_incoming_open."""
    return IncomingMail.objects.filter(status__in=by_hand.OPEN).order_by("status", "pk")


def parked() -> QuerySet[ParkedReport]:
    """Index feedback_parked_kept."""
    return ParkedReport.objects.filter(status=ParkedReport.Status.KEPT).order_by("status", "pk")


def stuck() -> QuerySet[Callback]:
    """Index feedback_callback_stuck."""
    return Callback.objects.filter(status=Callback.Status.STUCK).order_by("pk")


def closed() -> QuerySet[Mailbox]:
    """Those that nobody gets into."""
    return Mailbox.objects.filter(status=Mailbox.Status.ACTIVE).exclude(problem="").order_by("name")


def refused() -> QuerySet[CallbackURL]:
    """Those whose service was turned away, and has not been let in since."""
    rows = CallbackURL.objects.filter(Q(last_at=None) | Q(refused_at__gt=F("last_at")), refused_at__isnull=False)
    return rows.select_related("relay").defer("secrets", "relay__secrets").order_by("relay__name")


def silent(now: datetime) -> Iterator[tuple[CallbackURL, int]]:
    """Those whose service has said nothing lately, though their relay took so many mails. Index delivery_throughput_once: some days of a
    relay, and only of those that have been quiet for a day."""
    quiet = CallbackURL.objects.filter(Q(last_at=None) | Q(last_at__lt=now - PATIENCE), created_at__lt=now - PATIENCE)
    for url in quiet.select_related("relay").defer("secrets", "relay__secrets").order_by("relay__name")[: 4 * MOST_NAMED]:
        since = max(url.last_at or url.created_at, now - LONG_AGO)
        taken = throughput.between(since, now - timedelta(hours=2), relay_key=url.relay_id)[()].accepted
        if taken >= STRANGE:
            yield url, taken


def open_count() -> int:
    """Mails, reports and callbacks that somebody should look at, MANY + 1 of each at most. One question, as every page asks it."""
    asked = [rows.values("pk")[: MANY + 1].query.sql_with_params() for rows in (mails(), parked(), stuck())]
    sums = " + ".join(f"(SELECT COUNT(*) FROM ({sql}) AS open)" for sql, _values in asked)  # noqa: S608  Django's own
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sums}", [value for _sql, values in asked for value in values])
        found: int = cursor.fetchone()[0]
    return found


def needs(request: HttpRequest) -> Iterator[Need]:
    """As far as this person may look there."""
    may = request.user.has_perm
    if may("feedback.view_mailbox"):
        for mailbox in closed()[:MOST_NAMED]:
            words = _("The mailbox “%(mailbox)s” cannot be looked into as it should be: %(problem)s")
            about = {"mailbox": mailbox, "problem": mailbox.problem}
            yield Need(words % about, reverse("admin:feedback_mailbox_change", args=[mailbox.pk]), "bad")
    if may("relays.change_relay"):
        yield from _about_callbacks()
    if may("feedback.view_incomingmail") and (number := count_to(mails())):
        words = ngettext(
            "%(n)s mail came back that could not be matched or read.", "%(n)s mails came back that could not be matched or read.", number
        )
        yield Need(words % {"n": in_words(number)}, reverse("admin:feedback_incomingmail_changelist") + "?open=open")
    if may("feedback.view_parkedreport") and (number := count_to(parked())):
        words = ngettext(
            "%(n)s event was told by services for which no mail was found.",
            "%(n)s events were told by services for which no mail was found.",
            number,
        )
        yield Need(words % {"n": in_words(number)}, reverse("admin:feedback_parkedreport_changelist") + "?status__exact=kept")
    if may("feedback.view_callback") and (number := count_to(stuck())):
        words = ngettext(
            "%(n)s callback was set aside: recording it failed.", "%(n)s callbacks were set aside: recording them failed.", number
        )
        yield Need(words % {"n": in_words(number)}, reverse("admin:feedback_callback_changelist") + "?status__exact=stuck", "bad")


def _about_callbacks() -> Iterator[Need]:
    turned_away = list(refused()[:MOST_NAMED])
    for url in turned_away:
        words = _("The last callback for the relay “%(relay)s” was refused.") % {"relay": url.relay}
        yield Need(words, reverse("admin:feedback_callback_relay", args=[url.relay_id]), "bad")
    for url, taken in silent(clock.now()):
        if url in turned_away:
            continue
        words = (
            _("The service of the relay “%(relay)s” has not called back since %(day)s, though it took %(n)s mails: look at its webhooks.")
            if url.last_at
            else _("The service of the relay “%(relay)s” has never called back, though it took %(n)s mails: look at its webhooks.")
        )
        day = date_format(timezone.localtime(url.last_at), "MONTH_DAY_FORMAT") if url.last_at else ""
        about = {"relay": url.relay, "n": grouped(taken), "day": day}
        yield Need(words % about, reverse("admin:feedback_callback_relay", args=[url.relay_id]))
