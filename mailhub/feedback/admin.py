from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters

from mailhub.admin import BigTableAdmin, badge, two_lines
from mailhub.feedback import attention, by_hand, callbacks, callers, incoming_pages, mailboxes
from mailhub.feedback import callback_pages as pages
from mailhub.feedback.forms import MailboxForm
from mailhub.feedback.models import Callback, IncomingMail, Mailbox, ParkedReport
from mailhub.feedback.reports import MailKind
from mailhub.feedback.returns import advice
from mailhub.lib.states import WrongState
from mailhub.relays.pages import demand

KINDS = {
    MailKind.BOUNCE: _("bounce"),
    MailKind.DELIVERED: _("delivery report"),
    MailKind.COMPLAINT: _("complaint"),
    MailKind.AUTO_REPLY: _("auto-reply"),
    MailKind.RECEIPT: _("read receipt"),
    MailKind.CHALLENGE: _("question whether a person sent it"),
    MailKind.RECEIVER_REPORT: _("report from a receiver"),
    MailKind.OTHER: _("other"),
}


class Need(admin.SimpleListFilter):
    title = _("attention")
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", gettext("needed"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[IncomingMail]) -> QuerySet[IncomingMail]:
        # Index feedback_incoming_open.
        return queryset.filter(status__in=by_hand.OPEN) if self.value() == "open" else queryset


@admin.register(IncomingMail)
class IncomingMailAdmin(BigTableAdmin[IncomingMail]):
    """What came back, and what became of it. The mail itself, which may quote ours, is not shown."""

    lead = _("Bounces, complaints and automatic replies, and what became of each.")
    empty_hint = _("Nothing has come back. Enter the mailbox that bounces arrive in, or have your mail server hand them over.")
    list_display = ("state", "title", "message", "proof", "received_at")
    list_display_links = ("title",)
    list_filter = (Need, "status")
    list_select_related = ("message",)
    actions = ("dismiss", "read_again")
    fields = (
        "status", "what", "subject", "writer", "rcpt_to", "mail_from", "source", "message", "proof", "told", "tries", "received_at",
        "read_at",
    )  # fmt: skip

    class Media:
        css = {"all": ["relays/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"feedback_incomingmail_{name}")

        return [
            page("upload/", incoming_pages.upload, "upload"),
            page("<int:pk>/match/", incoming_pages.match, "match"),
            page("<int:pk>/dismiss/", incoming_pages.dismiss, "dismiss"),
            page("<int:pk>/read-again/", incoming_pages.read_again, "read_again"),
            page("<int:pk>/sample/", incoming_pages.sample, "sample"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"needs": list(attention.needs(request)), **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        mail = self.get_object(request, object_id)
        context: dict[str, Any] = {}
        if mail:
            moves = IncomingMail.MOVES[IncomingMail.Status(mail.status)]
            context = {
                "can_match": mail.status != "new"
                and IncomingMail.Status.APPLIED in moves
                and request.user.has_perm("delivery.view_message"),
                "can_dismiss": IncomingMail.Status.DISMISSED in moves,
                "can_read": IncomingMail.Status.NEW in moves and mail.raw is not None,
                "has_words": mail.raw is not None,
            }
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def has_handle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("feedback.change_incomingmail")

    @admin.action(description=_("Dismiss"), permissions=["handle"])
    def dismiss(self, request: HttpRequest, queryset: QuerySet[IncomingMail]) -> None:
        count = by_hand.dismiss(queryset)
        self.message_user(request, ngettext("%(n)s mail was dismissed.", "%(n)s mails were dismissed.", count) % {"n": count})

    @admin.action(description=_("Read again"), permissions=["handle"])
    def read_again(self, request: HttpRequest, queryset: QuerySet[IncomingMail]) -> None:
        count = 0
        for mail in queryset:
            with contextlib.suppress(WrongState):
                by_hand.read_again(mail)
                count += 1
        self.message_user(request, ngettext("%(n)s mail was read again.", "%(n)s mails were read again.", count) % {"n": count})

    @admin.display(description=_("kind"))
    def what(self, mail: IncomingMail) -> str:
        return str(KINDS[MailKind(mail.kind)]) if mail.kind else ""

    @admin.display(description=_("From"))
    def writer(self, mail: IncomingMail) -> str:
        return mail.sender

    @admin.display(description=_("reports"))
    def told(self, mail: IncomingMail) -> SafeString:
        """Of whom, why, and in which words."""
        rows = [(one.get("recipient", ""), one.get("category"), one.get("diagnostic", "")) for one in mail.reports]
        return format_html_join(
            "",
            '<p><strong>{}</strong> {}<br><span class="quiet">{}</span></p>',
            ((recipient, advice.name(category) if category else "", words) for recipient, category, words in rows),
        )

    @admin.display(description=_("incoming mail"))
    def title(self, mail: IncomingMail) -> SafeString:
        return two_lines(mail, mail.sender)

    @admin.display(description=_("status"))
    def state(self, mail: IncomingMail) -> SafeString:
        tone = "warn" if mail.status in by_hand.OPEN else "done" if mail.status == IncomingMail.Status.APPLIED else mail.status
        return badge(tone, mail.get_status_display())


@admin.register(ParkedReport)
class ParkedReportAdmin(BigTableAdmin[ParkedReport]):
    """What services told, and no message was found for."""

    lead = _("Events that services told of, and whose message was not found. Each is tried again for some hours, then kept here.")
    empty_hint = _("Everything that services told of was about mail of yours.")
    list_display = ("state", "title", "received_at")
    list_display_links = ("title",)
    list_filter = ("status", "type")
    list_select_related = ("url__relay",)
    actions = ("try_again", "dismiss")
    fields = (
        "url", "status", "why", "type", "recipient", "number", "public_id", "at", "kind", "category", "detail", "tries", "next_try_at",
        "received_at",
    )  # fmt: skip

    class Media:
        css = {"all": ["relays/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[ParkedReport]:
        return super().get_queryset(request).defer("url__secrets", "url__relay__secrets")

    @admin.display(description=_("parked report"))
    def title(self, report: ParkedReport) -> SafeString:
        return two_lines(report, f"{report.url} · {report.detail or '—'}")

    @admin.display(description=_("status"))
    def state(self, report: ParkedReport) -> SafeString:
        label = badge("warn" if report.status == ParkedReport.Status.KEPT else report.status, report.get_status_display())
        return two_lines(label, report.get_why_display()) if report.status != ParkedReport.Status.APPLIED else label

    @admin.action(description=_("Try again now"), permissions=["view"])
    def try_again(self, request: HttpRequest, queryset: QuerySet[ParkedReport]) -> None:
        self._each(request, queryset, ParkedReport.try_again)
        found = callbacks.try_parked()
        words = ngettext("%(n)s report found its message.", "%(n)s reports found their messages.", found)
        self.message_user(request, words % {"n": found})

    @admin.action(description=_("Dismiss"), permissions=["view"])
    def dismiss(self, request: HttpRequest, queryset: QuerySet[ParkedReport]) -> None:
        done = self._each(request, queryset, ParkedReport.dismiss)
        self.message_user(request, ngettext("%(n)s report is dismissed.", "%(n)s reports are dismissed.", done) % {"n": done})

    def _each(self, request: HttpRequest, queryset: QuerySet[ParkedReport], deed: Callable[[ParkedReport], None]) -> int:
        """Whoever may change relays may; nothing is done to what is recorded already."""
        demand(request, "relays.change_relay")
        done = 0
        for report in queryset.order_by("pk"):
            with contextlib.suppress(WrongState):
                deed(report)
                done += 1
        return done


@admin.register(Callback)
class CallbackAdmin(BigTableAdmin[Callback]):
    """What services posted. Bodies name recipients, and are not shown."""

    lead = _("What services posted, and how many of its events were recorded.")
    empty_hint = _("No service has called back. A relay's page says how to set that up.")
    list_display = ("title", "state", "recorded", "parked", "passed", "unread", "received_at")
    list_filter = ("status",)
    list_select_related = ("url__relay",)
    actions = ("read_again",)
    fields = ("url", "status", "size", "position", "recorded", "parked", "passed", "unread", "tries", "received_at")

    class Media:
        css = {"all": ["relays/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        # About one relay, and so below its number.
        views = {"": pages.relay_page, "set_up": pages.set_up, "renew": pages.renew, "remove": pages.remove, "probe": pages.probe}
        own = [
            path(
                f"relay/<int:relay_pk>/{name and name + '/'}", self.admin_site.admin_view(view), name=f"feedback_callback_{name or 'relay'}"
            )
            for name, view in views.items()
        ]
        return [*own, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Callback]:
        return super().get_queryset(request).defer("body", "url__secrets", "url__relay__secrets")

    @admin.action(description=_("Read again"), permissions=["view"])
    def read_again(self, request: HttpRequest, queryset: QuerySet[Callback]) -> None:
        """Those that were set aside; whoever may change relays may."""
        demand(request, "relays.change_relay")
        count = callbacks.read_again(queryset)
        words = ngettext("%(n)s callback is being read again.", "%(n)s callbacks are being read again.", count)
        self.message_user(request, words % {"n": count})

    @admin.display(description=_("callback"))
    def title(self, callback: Callback) -> SafeString:
        return two_lines(callback, callers.CALLERS[callback.url.service].name)

    @admin.display(description=_("status"))
    def state(self, callback: Callback) -> SafeString:
        return badge("bad" if callback.status == Callback.Status.STUCK else callback.status, callback.get_status_display())


@admin.register(Mailbox)
class MailboxAdmin(admin.ModelAdmin[Mailbox]):
    lead = _("Mailboxes that bounces arrive in. MailHub empties them; use one that nobody reads.")
    empty_hint = _("Without it MailHub hears of no bounce that comes by mail. Enter the mailbox of your bounce address.")
    form = MailboxForm
    list_display = ("state", "title", "polled_at")
    list_display_links = ("title",)
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
            label = badge("failed", gettext("does not work")) if mailbox.failures else badge("warn", gettext("with a problem"))
            return two_lines(label, mailbox.problem)
        label = badge(mailbox.status, mailbox.get_status_display())
        words = ngettext(
            "%(n)s mail stays at the server: too large, or it cannot be fetched.",
            "%(n)s mails stay at the server: too large, or they cannot be fetched.",
            mailbox.left,
        )
        return two_lines(label, words % {"n": mailbox.left}) if mailbox.left else label

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
