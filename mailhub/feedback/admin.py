from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters

from mailhub.admin import BigTableAdmin, badge
from mailhub.feedback import mailboxes
from mailhub.feedback.forms import MailboxForm
from mailhub.feedback.models import IncomingMail, Mailbox
from mailhub.lib.states import WrongState
from mailhub.relays.pages import two_lines


@admin.register(IncomingMail)
class IncomingMailAdmin(BigTableAdmin[IncomingMail]):
    """What came back, and what became of it. The mail itself, which may quote ours, is not shown."""

    lead = _("Bounces, complaints and automatic replies, and what became of each.")
    empty_hint = _("Nothing has come back. Enter the mailbox that bounces arrive in, or have your mail server hand them over.")
    list_display = ("state", "title", "message", "proof", "received_at")
    list_display_links = ("title",)
    list_filter = ("status",)
    list_select_related = ("message",)
    fields = (
        "status", "kind", "subject", "sender", "rcpt_to", "mail_from", "source", "message", "proof", "reports", "tries", "received_at",
        "read_at",
    )  # fmt: skip

    class Media:
        css = {"all": ["relays/admin.css"]}

    @admin.display(description=_("incoming mail"))
    def title(self, mail: IncomingMail) -> SafeString:
        return two_lines(mail, mail.sender)

    @admin.display(description=_("status"))
    def state(self, mail: IncomingMail) -> SafeString:
        return badge(mail.status, mail.get_status_display())


@admin.register(Mailbox)
class MailboxAdmin(admin.ModelAdmin[Mailbox]):
    lead = _("Mailboxes that bounces arrive in. MailHub empties them; use one that nobody reads.")
    empty_hint = _("Without it MailHub hears of no bounce that comes by mail. Enter the mailbox of your bounce address.")
    form = MailboxForm
    list_display = ("title", "state", "polled_at")
    search_fields = ("name", "host", "username")
    actions = ("look_now", "pause", "resume")
    fieldsets = (
        (None, {"fields": ["name"]}),
        (_("How to connect"), {"fields": ["protocol", "host", "port", "security"]}),
        (_("How to log in"), {"fields": ["username", "login", "password"]}),
        ("OAuth 2.0", {"fields": ["token_url", "client_id", "client_secret", "refresh_token"], "classes": ["collapse"]}),
        (_("What is read"), {"fields": ["folders", "done_folder"]}),
    )

    class Media:
        css = {"all": ["relays/admin.css"]}

    @method_decorator(sensitive_post_parameters())
    def changeform_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().changeform_view(*args, **kwargs)

    @admin.display(description=_("name"), ordering="name")
    def title(self, mailbox: Mailbox) -> SafeString:
        return two_lines(mailbox.name, f"{mailbox.username} · {mailbox.host}")

    @admin.display(description=_("state"))
    def state(self, mailbox: Mailbox) -> SafeString:
        if mailbox.status == Mailbox.Status.ACTIVE and mailbox.problem:
            return two_lines(badge("failed", gettext("does not work")), mailbox.problem)
        return badge(mailbox.status, mailbox.get_status_display())

    @admin.action(description=_("Look into it now"), permissions=["change"])
    def look_now(self, request: HttpRequest, queryset: QuerySet[Mailbox]) -> None:
        for mailbox in queryset:
            fetched = mailboxes.poll(mailbox)
            if mailbox.problem:
                self.message_user(request, f"{mailbox}: {mailbox.problem}", messages.ERROR)
            else:
                words = ngettext("%(mailbox)s: %(n)s mail was fetched.", "%(mailbox)s: %(n)s mails were fetched.", fetched)
                self.message_user(request, words % {"mailbox": mailbox, "n": fetched})

    @admin.action(description=pgettext_lazy("mail", "Pause"), permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Mailbox]) -> None:
        self._each(request, queryset, Mailbox.pause, gettext("Paused."))

    @admin.action(description=pgettext_lazy("mail", "Resume"), permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Mailbox]) -> None:
        self._each(request, queryset, Mailbox.resume, gettext("Resumed."))

    def _each(self, request: HttpRequest, queryset: QuerySet[Mailbox], deed: Callable[[Mailbox], None], words: str) -> None:
        for mailbox in queryset:
            try:
                deed(mailbox)
            except WrongState:
                already = gettext("Nothing was done: “%(mailbox)s” is %(state)s already.")
                about = {"mailbox": mailbox, "state": mailbox.get_status_display()}
                self.message_user(request, already % about, messages.WARNING)
            else:
                self.log_change(request, mailbox, words)
