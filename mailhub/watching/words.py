"""What a trouble says: its title, its cause and what to do, in the reader's language. Rows keep names and figures alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from mailhub.delivery.pages import SERVES
from mailhub.relays import failures
from mailhub.relays.models import Relay, shipped_words
from mailhub.senders import models as senders
from mailhub.watching.models import Rule, Trouble

Kind = Trouble.Kind


@dataclass(frozen=True, slots=True)
class Words:
    """Sentences with places for what `about` holds."""

    title: Any
    cause: Any
    step: Any


SHARE = gettext_lazy("%(bad)s of %(of)s (%(percent)s %%) in the last %(hours)s hours. The rule “%(rule)s” allows %(limit)s %%.")

KINDS: dict[str, Words] = {
    Kind.COMPLAINTS: Words(
        gettext_lazy("Mail is called spam: %(place)s"),
        SHARE,
        gettext_lazy(
            "Look at what was sent in these hours and to whom: stop what people did not ask for, and send to those who opened lately first."
        ),
    ),
    Kind.BOUNCES: Words(
        gettext_lazy("Addresses do not exist: %(place)s"),
        SHARE,
        gettext_lazy(
            "Find the list or site that these addresses come from. Old or bought lists cost your good name; each bad address is suppressed"
            " already."
        ),
    ),
    Kind.DEFERRALS: Words(
        gettext_lazy("Mail is put off: %(place)s"),
        SHARE,
        gettext_lazy("Read what the servers say in the messages' replies. It mostly passes by itself; if not, send less at once."),
    ),
    Kind.UNPROVEN: Words(
        gettext_lazy("Mail is refused for want of proof: %(place)s"),
        SHARE,
        gettext_lazy("Open the domain's page and put its SPF, DKIM and DMARC records right. Nobody's address is at fault."),
    ),
    Kind.WAITING: Words(
        gettext_lazy("Transactional mail waits for %(minutes)s minutes"),
        gettext_lazy("The oldest has been due for so long. The rule “%(rule)s” allows %(limit)s minutes."),
        gettext_lazy("Open one of the waiting messages: its page says what keeps it. Mostly no relay takes mail, or no worker runs."),
    ),
    Kind.RELAY: Words(
        gettext_lazy("The relay “%(relay)s” does not work"),
        gettext_lazy("Failures in a row: %(failures)s. It said: %(reason)s"),
        gettext_lazy("Test the connection on the relay's page. Meanwhile its mail takes the route's next relay, or waits."),
    ),
    Kind.FAILOVER: Words(
        gettext_lazy("The route “%(route)s” has failed over to %(instead)s"),
        gettext_lazy("No mail leaves through %(relays)s: %(reason)s"),
        gettext_lazy("Mail leaves all the same. Mend the first relay; the route goes back to it by itself."),
    ),
    Kind.STANDSTILL: Words(
        gettext_lazy("No relay takes the mail of the route “%(route)s”"),
        gettext_lazy("No mail leaves through %(relays)s: %(reason)s"),
        gettext_lazy("Nothing is lost: the mail waits. Mend a relay, or put another one into the route."),
    ),
    Kind.QUOTA: Words(
        gettext_lazy("The quota of “%(relay)s” is used up, and mail waits"),
        gettext_lazy("The quota is %(quota)s. It has room again on %(until)s."),
        gettext_lazy("Wait, raise the quota if your account allows more, or put another relay into the route."),
    ),
    Kind.DNS: Words(
        gettext_lazy("A DNS record of %(domain)s got worse: %(record)s"),
        gettext_lazy("%(name)s was in order, and is %(verdict)s now."),
        gettext_lazy("Open the domain's page: it shows what to publish, ready to copy."),
    ),
    Kind.LISTING: Words(
        gettext_lazy("%(address)s is on the blocklist %(list)s"),
        gettext_lazy("The list answers: %(reason)s"),
        gettext_lazy("Find out what was sent from the address, mend it, and then ask the list to take it off."),
    ),
    Kind.PTR: Words(
        gettext_lazy("The name of %(address)s is not in order"),
        "%(reason)s",
        gettext_lazy("Ask whoever you have the address from to set its PTR record to %(name)s, and publish that name's address."),
    ),
    Kind.WORKERS: Words(
        gettext_lazy("No worker is there for: %(queue)s"),
        gettext_lazy("None has given a sign of life for a minute."),
        gettext_lazy("Start a worker, or see in its log why it stopped: manage.py worker."),
    ),
    Kind.ENDPOINT: Words(
        gettext_lazy("The webhook “%(endpoint)s” is switched off"),
        gettext_lazy("It did not take what was posted: %(reason)s"),
        gettext_lazy("Have its owner put it right, then resume it: what happened meanwhile is posted then."),
    ),
    Kind.CHANNEL: Words(
        gettext_lazy("Alerts do not get through: %(channel)s"),
        "%(reason)s",
        gettext_lazy("Open the alert channel, correct it, and send a test alert."),
    ),
}


class Known(dict[str, Any]):
    """What was not stored, as by an older version, is a dash."""

    def __missing__(self, key: str) -> str:
        return "—"


def sentence(text: str) -> str:
    """With a full stop, where what it ends in, such as a server's reply, has none."""
    return text if text[-1:] in (*".!?。！？", "") else _("%(sentence)s.") % {"sentence": text}


def title(trouble: Trouble) -> str:
    return str(KINDS[trouble.kind].title) % ready(trouble)


def cause(trouble: Trouble) -> str:
    words = sentence(str(KINDS[trouble.kind].cause) % ready(trouble))
    failure = failures.explain_text(trouble.about.get("reason", "")) if trouble.kind == Kind.RELAY else None
    return f"{words} {failure.cause}" if failure else words


def step(trouble: Trouble) -> str:
    failure = failures.explain_text(trouble.about.get("reason", "")) if trouble.kind == Kind.RELAY else None
    return str(failure.step) if failure else str(KINDS[trouble.kind].step) % ready(trouble)


def held(trouble: Trouble) -> str:
    """What a rule has stopped, while it is; or ""."""
    if not trouble.holds or trouble.closed_at:
        return ""
    words = {
        Rule.Scope.RELAY: _("The relay is paused: its mail takes the route's next relay, or waits. It stays so until somebody resumes it."),
        Rule.Scope.DESTINATION: _(
            "Mail to this destination is left alone through this relay: it takes the route's next relay, or waits. It stays so until"
            " somebody resumes it."
        ),
        Rule.Scope.IP: _("Nothing leaves from this address: the pool's others take its mail. It stays so until somebody resumes it."),
    }
    return words[Rule.Scope(trouble.holds)]


def ready(trouble: Trouble) -> Known:
    """What it holds, as people write it."""
    found = Known({name: _ready(name, value) for name, value in trouble.about.items()})
    places = [found.get("relay"), found.get("destination"), found.get("source")]
    found["place"] = pgettext("between things", ", ").join(str(place) for place in places if place)
    return found


def _ready(name: str, value: Any) -> Any:
    match name:
        case "rule" | "destination" | "reason":
            return shipped_words(str(value)) or ("" if name == "destination" else "—")
        case "until":
            return date_format(timezone.localtime(datetime.fromisoformat(value)), "DATETIME_FORMAT") if value else "—"
        case "queue":
            return SERVES.get(value, value)
        case "record":
            return dict(senders.Kind.choices).get(value, value)
        case "verdict":
            return dict(senders.Verdict.choices).get(value, value)
    if isinstance(value, float):
        return number_format(value, decimal_pos=2 if round(value, 1) != round(value, 2) else 1 if value != int(value) else 0)
    return number_format(value, force_grouping=True) if isinstance(value, int) else value


def relay_name(relay: Relay | None, key: object) -> str:
    return str(relay) if relay else _("relay %(number)s, which is gone") % {"number": key}


def address(name: str, *args: object) -> str:
    """Of a page of the admin, with the host."""
    return settings.MAILHUB_PUBLIC_URL.rstrip("/") + reverse(name, args=args)


def url(trouble: Trouble) -> str:
    """The page on which it is mended, without the host; "" where there is none."""
    if not trouble.model:
        return ""
    model = apps.get_model(trouble.model)
    if not admin.site.is_registered(model):
        return ""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_"
    try:
        if trouble.object_id:
            return reverse(f"{name}change", args=[trouble.object_id])
        return reverse(f"{name}changelist") + ("?state=waiting" if trouble.kind == Kind.WAITING else "")
    except NoReverseMatch:
        return ""
