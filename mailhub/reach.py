"""Why mail does not reach a person, and what can be done about it: what all packages know of one address, on one page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from campaigns import subscriptions
from campaigns.models import Contact, Subscription
from mailhub.delivery import erasure, history, progress, suppressions
from mailhub.delivery.models import Suppression
from mailhub.feedback.models import IncomingMail
from mailhub.lib import addresses, clock
from mailhub.relays.pages import demand
from transactional.models import Project

MOST_LIFTED = 20
# Who may all of these may erase a person.
ERASES = ("campaigns.delete_contact", "delivery.change_message", "delivery.delete_suppression")


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether one kind of mail reaches the address."""

    name: str
    #: what keeps it back, in lines, the last of which say what to do: none where nothing does
    reasons: list[list[str]]


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    demand(request, "delivery.view_suppression")
    asked = request.GET.get("address", "").strip()
    context: dict[str, Any] = {}
    if asked:
        try:
            context = _about(request, addresses.key(addresses.normalise(asked)))
        except ValidationError as error:
            context = {"problem": error.messages[0]}
    title = _("Why does mail not reach somebody?")
    opts = Suppression._meta
    return TemplateResponse(
        request, "admin/mailhub/reach.html", {**admin.site.each_context(request), "title": title, "opts": opts, "asked": asked, **context}
    )


@require_POST
def erase(request: HttpRequest) -> HttpResponse:
    """The person asked to be forgotten."""
    demand(request, *ERASES)
    try:
        address = addresses.key(addresses.normalise(request.POST.get("address", "")))
    except ValidationError as error:
        messages.error(request, error.messages[0])
        return redirect("admin:reach")
    mine = _messages(address)
    if "confirmed" not in request.POST:
        title = _("Erase %(address)s?") % {"address": address}
        context = {**admin.site.each_context(request), "title": title, "opts": Suppression._meta, "address": address, "mails": len(mine)}
        return TemplateResponse(request, "admin/mailhub/erase.html", context)
    for contact in Contact.objects.filter(email=address):
        subscriptions.forget(contact)
    IncomingMail.objects.filter(message__in=mine).update(raw=None, subject="", sender="", reports=[])
    count = erasure.erase(address)
    words = ngettext("Erased, with what was kept of %(count)s mail.", "Erased, with what was kept of %(count)s mails.", count)
    messages.success(request, words % {"count": count})
    return redirect("admin:delivery_suppression_changelist")


def _messages(address: str) -> list[int]:
    """Index delivery_message_address."""
    return list(history.messages(address).values_list("pk", flat=True))


# -------------------------------------------------------------------------------------------------------------------- answers


def _about(request: HttpRequest, address: str) -> dict[str, Any]:
    contact = Contact.objects.filter(email=address).first()
    held = suppressions.of(address)
    may_see = request.user.has_perm("campaigns.view_contact")
    return {
        "address": address,
        "answers": list(_answers(address, contact, held)),
        "suppressions": [(row, _ended(row), _project(row)) for row in held],
        "contact": contact if may_see else None,
        "subscriptions": contact.subscriptions.select_related("list", "consent").order_by("list__name") if contact and may_see else [],
        "lifted": _lifted(address),
        "history": history.of(address) if request.user.has_perm("delivery.view_event") else None,
        "may_erase": request.user.has_perms(ERASES),
    }


def _answers(address: str, contact: Contact | None, held: list[Suppression]) -> Iterator[Answer]:
    in_force = [row for row in held if not _ended(row)]
    everybody = [row for row in in_force if not row.project]
    yield Answer(_("Transactional mail"), [_reason(row) for row in everybody if row.scope == Suppression.Scope.ALL])
    for row in in_force:
        if row.project:
            yield Answer(_("Mail of the project “%(project)s”") % {"project": _project(row)}, [_reason(row)])
    reasons = [_reason(row) for row in everybody]
    if contact is None:
        reasons.append([_("Nobody of that address is among the contacts."), _("Import or add the person, with their consent.")])
    else:
        reasons += _of_lists(contact)
    yield Answer(_("Campaigns"), reasons)


def _of_lists(contact: Contact) -> list[list[str]]:
    rows = list(contact.subscriptions.all())
    if any(row.status == Subscription.Status.SUBSCRIBED and row.consent_id for row in rows):
        return []
    if any(row.status == Subscription.Status.UNSUBSCRIBED for row in rows):
        return [[_("They have unsubscribed."), _("Leave it so, unless they ask to be subscribed again.")]]
    if rows:
        return [[_("They are on lists, but no consent is on record."), _("Record their consent on the contact's page.")]]
    return [[_("They are on no list."), _("Subscribe them on the contact's page, with their consent.")]]


def _reason(row: Suppression) -> list[str]:
    words = str(row.get_reason_display())
    lines = [words[:1].upper() + words[1:]]
    if row.detail:
        lines.append(row.detail)
    if row.expires_at:
        lines.append(_("It holds until %(when)s.") % {"when": progress.moment(row.expires_at)})
    remedies = {
        Suppression.Reason.BOUNCE: _(
            "Ask the person by another way for an address that works. Lift it only if you know that this one does."
        ),
        Suppression.Reason.SOFT: _("It ends by itself. The person may have to make room in the mailbox."),
        Suppression.Reason.COMPLAINT: _("Do not write to them. If it was a mistake, they can say so, and you lift it."),
        Suppression.Reason.UNSUBSCRIBE: _("Leave it so, unless they ask to get mail again."),
        Suppression.Reason.MANUAL: _("Ask whoever entered it."),
    }
    return [*lines, remedies[Suppression.Reason(row.reason)]]


def _ended(row: Suppression) -> bool:
    return row.expires_at is not None and row.expires_at <= clock.now()


def _project(row: Suppression) -> str:
    return str(Project.objects.filter(pk=row.project).first() or row.project) if row.project else ""


def _lifted(address: str) -> list[LogEntry]:
    """What staff have lifted of it, by whom and why."""
    kind = ContentType.objects.get_for_model(Suppression)
    found = LogEntry.objects.filter(content_type=kind, action_flag=DELETION, object_repr=address[:200]).select_related("user")
    return list(found.order_by("-action_time")[:MOST_LIFTED])
