"""What staff do with mails that came back, apart from the lists."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from mailhub.delivery.models import Message
from mailhub.feedback import by_hand, samples
from mailhub.feedback.models import IncomingMail
from mailhub.lib.states import WrongState
from mailhub.relays.pages import demand, page

CHANGE = "feedback.change_incomingmail"
LIST = "admin:feedback_incomingmail_changelist"


def upload(request: HttpRequest) -> HttpResponse:
    demand(request, "feedback.add_incomingmail")
    files = request.FILES.getlist("files")[:50]
    if request.method == "POST" and files:
        brought = by_hand.Brought()
        for file in files:
            if (file.size or 0) > by_hand.LARGEST_FILE:
                brought.reports.problems.append(f"{file.name}: > {by_hand.LARGEST_FILE // 1024 // 1024} MB")
            else:
                by_hand.bring(file.read(), file.name or "", brought)
        _tell(request, brought)
        return redirect(LIST)
    if request.method == "POST":
        messages.error(request, _("Choose files first: mails as .eml or mbox, or reports as .xml, .json, .gz or .zip."))
    return page(request, "admin/feedback/upload.html", _("Upload mails"), IncomingMail)


def _tell(request: HttpRequest, brought: by_hand.Brought) -> None:
    if brought.mails:
        words = ngettext(
            "%(n)s mail was read: %(applied)s recorded, %(open)s for you to look at.",
            "%(n)s mails were read: %(applied)s recorded, %(open)s for you to look at.",
            len(brought.mails),
        )
        counts = {"n": len(brought.mails), "applied": brought.count("applied"), "open": brought.count(*by_hand.OPEN)}
        messages.success(request, words % counts)
    if brought.reports.read:
        words = ngettext("%(n)s report was read.", "%(n)s reports were read.", brought.reports.read)
        messages.success(request, words % {"n": brought.reports.read})
    for problem in brought.reports.problems[:10]:
        messages.error(request, _("Not read: %(problem)s") % {"problem": problem})


def match(request: HttpRequest, pk: int) -> HttpResponse:
    """Find the message that a mail is about, and say so."""
    demand(request, CHANGE)
    demand(request, "delivery.view_message")
    mail = get_object_or_404(IncomingMail, pk=pk)
    if request.method == "POST":
        chosen = request.POST.get("message", "")
        message = get_object_or_404(Message, pk=int(chosen) if chosen.isascii() and chosen.isdigit() and len(chosen) < 19 else 0)
        try:
            by_hand.match(mail, message, request.POST.get("kind", ""))
        except WrongState:
            messages.warning(request, _("Nothing was done: somebody was quicker."))
        else:
            words = _("Matched by hand with the message to %(address)s.") % {"address": message.address}
            admin.site.get_model_admin(IncomingMail).log_change(request, mail, words)
            messages.success(request, words)
        return redirect("admin:feedback_incomingmail_change", pk)
    named = next((report["recipient"] for report in mail.reports if report.get("recipient")), "")
    asked = request.GET.get("q", named)
    found = by_hand.candidates(asked) if asked else []
    context: dict[str, Any] = {"mail": mail, "asked": asked, "found": found, "reads": any(report.get("kind") for report in mail.reports)}
    return page(request, "admin/feedback/match.html", _("Match by hand"), IncomingMail, **context)


@require_POST
def dismiss(request: HttpRequest, pk: int) -> HttpResponse:
    demand(request, CHANGE)
    mail = get_object_or_404(IncomingMail, pk=pk)
    if by_hand.dismiss(IncomingMail.objects.filter(pk=pk)):
        admin.site.get_model_admin(IncomingMail).log_change(request, mail, _("Dismissed."))
        messages.success(request, _("Dismissed. It stays here until it is forgotten."))
    return redirect("admin:feedback_incomingmail_change", pk)


@require_POST
def read_again(request: HttpRequest, pk: int) -> HttpResponse:
    demand(request, CHANGE)
    mail = get_object_or_404(IncomingMail, pk=pk)
    try:
        by_hand.read_again(mail)
    except WrongState:
        messages.warning(request, _("Nothing was done: somebody was quicker."))
    else:
        messages.success(request, _("Read again: it is %(state)s now.") % {"state": mail.get_status_display()})
    return redirect("admin:feedback_incomingmail_change", pk)


@require_safe
def sample(request: HttpRequest, pk: int) -> HttpResponse:
    """The mail without anybody's name: shown first, and then to be downloaded."""
    demand(request, CHANGE)
    mail = get_object_or_404(IncomingMail, pk=pk)
    text = samples.anonymised(bytes(mail.raw)) if mail.raw else ""
    if "download" in request.GET and text:
        response = HttpResponse(text, content_type="message/rfc822")
        response["Content-Disposition"] = f'attachment; filename="sample-{pk}.eml"'
        return response
    return page(request, "admin/feedback/sample.html", _("Anonymised sample"), IncomingMail, mail=mail, text=text)
