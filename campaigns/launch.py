"""From a draft to a batch: everything is checked, the words are frozen, and the filling begins."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Literal
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from campaigns import audience, contents
from campaigns.models import Campaign, Contact
from mailhub.delivery import html as markup
from mailhub.delivery import prepare, queue, rendering
from mailhub.delivery.models import Batch, Content, Message
from mailhub.delivery.rendering import Rendered
from mailhub.lib import clock, sentences, tasks
from mailhub.relays.base import Refused
from mailhub.relays.models import Relay, Stream
from mailhub.senders import readiness
from mailhub.senders.models import Sender

# Bytes of HTML after which Gmail hides the rest, with the unsubscribe link.
CLIPPED = 102_400
# Characters of a subject that phones still show.
LONG_SUBJECT = 60
# So many of the recipients' mails are made for a try.
TRIED = 3
TARGET = re.compile(r"""<(?:a|area|img)\b[^>]*?\s(?:href|src)\s*=\s*["']?\s*([^"'>\s]*)""", re.IGNORECASE)
SCHEMES = frozenset({"http", "https", "mailto", "tel", "sms", "data"})
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
# Characters; what a content holds, less room for "[Test] ".
LONGEST_SUBJECT = 950


@dataclass(frozen=True, slots=True)
class Problem:
    #: an error keeps the campaign from being sent, a warning does not
    level: Literal["error", "warning"]
    #: the campaign's field that it is about, or "sender", "route", "lists"
    field: str
    message: str
    #: what to do about it
    remedy: str


class NotReady(Exception):
    """The campaign has errors; nothing was done."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(sentences.joined(*(words for problem in problems for words in (problem.message, problem.remedy))))
        self.problems = problems


# -------------------------------------------------------------------------------------------------------------------- verbs


@transaction.atomic
def launch(campaign: Campaign, by: User | None) -> Batch:
    """Send it. Raises NotReady, or WrongState when it is launched already."""
    _ready(campaign)
    content = contents.freeze(campaign)
    content.save()
    batch = Batch.objects.create(name=campaign.name, content=content, sender=campaign.sender, route=campaign.route)
    campaign.launched(batch, by)
    tasks.enqueue("campaigns.tasks.expand", batch.pk, queue="bulk")
    return batch


@transaction.atomic
def schedule(campaign: Campaign, at: datetime, by: User | None) -> None:
    """Have it launched at `at`. Raises NotReady, or WrongState when it is no draft any more."""
    problems = [] if at > clock.now() else [_past()]
    _ready(campaign, problems)
    campaign.schedule(at, by)


def launch_scheduled(campaign: Campaign) -> None:
    """Its time has come. What speaks against it makes it a draft again, with the problem for its author to see. Raises WrongState."""
    try:
        launch(campaign, campaign.launched_by)
    except NotReady as error:
        campaign.unschedule(problem=str(error))


def _past() -> Problem:
    return Problem("error", "scheduled_at", _("This time has passed."), _("Choose one that is to come, or send now."))


def _ready(campaign: Campaign, problems: Sequence[Problem] = ()) -> None:
    """Lock the campaign, so that what is checked is what is sent; raises NotReady."""
    campaign.refresh_from_db(from_queryset=Campaign.objects.select_for_update(no_key=True))
    errors = [*problems, *(problem for problem in check(campaign) if problem.level == "error")]
    if errors:
        raise NotReady(errors)


@transaction.atomic
def send_tests(campaign: Campaign, to: Sequence[str]) -> list[Message]:
    """All of them or none. Raises NotReady."""
    return [send_test(campaign, address) for address in to]


@transaction.atomic
def send_test(campaign: Campaign, to: str) -> Message:
    """Send what the first recipient would get to the address `to` instead, on the campaign's own route. Raises NotReady."""
    errors = [problem for check in (_sender, _route, _words) for problem in check(campaign) if problem.level == "error"]
    if errors:
        raise NotReady(errors)
    content = contents.freeze(campaign)
    content.subject = _("[Test] %(subject)s") % {"subject": content.subject}
    content.save()
    batch = Batch.objects.create(
        name=_("Test of %(name)s") % {"name": campaign.name}, content=content, sender=campaign.sender, route=campaign.route, filled=True
    )
    data = {**sample(campaign).data, "email": to}
    # No contact: the link in a test unsubscribes nobody.
    message = queue.new(Stream.CAMPAIGN, batch=batch, content=content, sender=campaign.sender, address=to, data=data)
    queue.enqueue([message])
    return message


def sample(campaign: Campaign) -> Contact:
    """Somebody to show the campaign with: its first recipient, or a person who is made up."""
    if campaign.pk and (first := next(audience.recipients(campaign), None)):
        return first
    return Contact(email="taro@example.com", name=_("Taro Yamada"), language=campaign.language)


# ------------------------------------------------------------------------------------------------------------------- checks


def check(campaign: Campaign) -> list[Problem]:
    """Everything that speaks against sending it, errors first."""
    problems = [problem for part in (_sender, _route, _readiness, _audience, _words, _look, _surroundings) for problem in part(campaign)]
    return sorted(problems, key=lambda problem: problem.level)


def _error(field: str, message: str, remedy: str) -> Problem:
    return Problem("error", field, message, remedy)


def _warning(field: str, message: str, remedy: str) -> Problem:
    return Problem("warning", field, message, remedy)


def _sender(campaign: Campaign) -> Iterator[Problem]:
    sender = campaign.sender
    if sender.status != Sender.Status.CONFIRMED:
        yield _error(
            "sender",
            _("The sender %(address)s is %(status)s.") % {"address": sender.email, "status": sender.get_status_display()},
            _("Confirm it on its page, or choose another sender."),
        )
    missing = [str(getattr(Sender, name).field.verbose_name) for name, value in contents.displayed(sender).items() if not value]
    if missing:
        yield _error(
            "sender",
            _("The sender's page lacks what the law wants every campaign to show: %(fields)s.")
            % {"fields": pgettext("between things", ", ").join(missing)},
            _("Fill it in on the sender's page; it is added at the foot of the mail."),
        )


def _route(campaign: Campaign) -> Iterator[Problem]:
    route = campaign.route_in_force
    if route is None:
        yield _error(
            "route",
            _("There is no route for this campaign."),
            _("Choose one here or on the sender's page, or make a route the default for campaigns."),
        )
        return
    relays = list(route.relays.all())
    if not relays:
        yield _error("route", _("The route “%(route)s” has no relay.") % {"route": route}, _("Add a relay to it, or choose another route."))
    elif not any(relay.status == Relay.Status.ACTIVE for relay in relays):
        yield _warning(
            "route",
            _("All relays of the route “%(route)s” are paused.") % {"route": route},
            _("The mails will wait until one is resumed."),
        )


def _readiness(campaign: Campaign) -> Iterator[Problem]:
    """What the sender's domain lacks in the DNS for the relays that the campaign may leave by."""
    for lack in readiness.of_route(campaign.sender.domain, campaign.route_in_force):
        remedy = lack.remedy
        if lack.record:
            words = _("%(remedy)s %(type)s record at %(name)s: %(record)s")
            remedy = words % {"remedy": lack.remedy, "type": lack.type, "name": lack.name, "record": lack.record}
        yield _warning("route", lack.words, remedy)


def _audience(campaign: Campaign) -> Iterator[Problem]:
    if not campaign.lists.exists():
        yield _error("lists", _("No list is chosen."), _("Choose at least one."))
    elif next(audience.recipients(campaign), None) is None:
        yield _error(
            "lists", _("Nobody on these lists may get this campaign."), _("Choose other lists, or import contacts with their consent.")
        )


def _words(campaign: Campaign) -> Iterator[Problem]:
    if not campaign.subject.strip():
        yield _error("subject", _("The subject is empty."), _("Write one."))
    if not campaign.html.strip() and not campaign.text.strip():
        yield _error("html", _("The mail says nothing."), _("Write its HTML or its text."))
        return
    mistakes = prepare.check(campaign.subject, campaign.html, campaign.text)
    for mistake in mistakes:
        words = _("Line %(line)s: %(problem)s") % {"line": mistake.line, "problem": mistake.message}
        yield _error(mistake.field, words, _("Correct the template."))
    if not mistakes:
        yield from _tries(campaign, contents.freeze(campaign))
        yield from _placeholders(campaign)


def _tries(campaign: Campaign, content: Content) -> Iterator[Problem]:
    """Make the first recipients' mails and look at them."""
    if len(content.subject) > LONGEST_SUBJECT:
        yield _error("subject", _("The subject is too long."), _("Shorten it."))
        return
    contact = None
    try:
        compiled = prepare.Compiled(content)
        for contact in list(islice(audience.recipients(campaign), TRIED)) or [sample(campaign)]:
            message = Message(address=contact.email, recipient_ref=contact.pk, data=contact.data, created_at=clock.now())
            compiled.envelope(message)
            link = content.unsubscribe_url(message.batch_id, message.recipient_ref)
            said = compiled.words.render({**contact.data, "unsubscribe_url": link})
            if hidden := list(_hidden(campaign, said, link)):
                yield from hidden
                return
    except Refused as refusal:
        yield _error("html", refusal.reply.text, _("Correct the template; it was tried with %(contact)s.") % {"contact": contact})


def _hidden(campaign: Campaign, said: Rendered, link: str) -> Iterator[Problem]:
    """What the law wants shown and a reader of the HTML, or of the text, would not see: it may stand in a comment or a condition."""
    parts = {"html": markup.text(said.html)} if campaign.html else {}
    if campaign.text:
        parts["text"] = said.text
    wanted = {"unsubscribe_url": link, **contents.displayed(campaign.sender)}
    for field, words in parts.items():
        visible = " ".join(words.split())
        for name, value in wanted.items():
            if " ".join(value.split()) not in visible:
                yield _error(
                    field,
                    _("{{ %(name)s }} is in the template but does not show.") % {"name": name},
                    _("Take it out of the comment or condition, or leave it away: then it is added at the foot."),
                )


def _placeholders(campaign: Campaign) -> Iterator[Problem]:
    """Names that are empty for every contact. Without an index: stops at the first contact who has the attribute."""
    known = {*prepare.SYSTEM_NAMES, *contents.displayed(campaign.sender), "name", "language"}
    members = Contact.objects.filter(lists__in=campaign.lists.all())
    for field in ("subject", "html", "text"):
        for name in rendering.names(getattr(campaign, field)).keys() - known:
            if not members.filter(attributes__has_key=name).exists():
                yield _warning(
                    field,
                    _("No contact of these lists has “%(name)s”: it will be empty in every mail.") % {"name": name},
                    _("Correct the name, or import the attribute."),
                )


def _look(campaign: Campaign) -> Iterator[Problem]:
    if len(campaign.subject) > LONG_SUBJECT:
        yield _warning(
            "subject",
            _("The subject has %(count)s characters; phones show about %(shown)s.")
            % {"count": len(campaign.subject), "shown": LONG_SUBJECT},
            _("Say what matters first."),
        )
    size = len(campaign.html.encode())
    if size > CLIPPED:
        yield _warning(
            "html",
            _("The HTML has %(size)s kB; Gmail hides what comes after %(limit)s kB.") % {"size": size // 1000, "limit": CLIPPED // 1000},
            _("Shorten it, or link to a page."),
        )
    for target in dict.fromkeys(filter(_leads_nowhere, TARGET.findall(campaign.html))):
        yield _warning(
            "html",
            _("“%(target)s” is no address that a reader can open.") % {"target": target[:100]},
            _("Write links and images with https:// and their host."),
        )


def _leads_nowhere(target: str) -> bool:
    if not target or target.startswith(("#", "{{", "{%")):
        return False
    parts = urlsplit(target)
    return parts.scheme.lower() not in SCHEMES or parts.hostname in LOCAL


def _surroundings(campaign: Campaign) -> Iterator[Problem]:
    if not settings.PUBLIC_HTTPS:
        yield _warning(
            "sender",
            _("Unsubscribe links begin with %(url)s, and mail services want https for one click.") % {"url": settings.MAILHUB_PUBLIC_URL},
            _("Set MAILHUB_PUBLIC_URL to the https address at which recipients reach MailHub."),
        )
