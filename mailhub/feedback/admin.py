from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from mailhub.admin import BigTableAdmin, badge
from mailhub.feedback.models import IncomingMail


@admin.register(IncomingMail)
class IncomingMailAdmin(BigTableAdmin[IncomingMail]):
    """What came back, and what became of it. The mail itself, which may quote ours, is not shown."""

    list_display = ("state", "__str__", "sender", "message", "proof", "received_at")
    list_display_links = ("__str__",)
    list_filter = ("status",)
    list_select_related = ("message",)
    fields = (
        "status", "kind", "subject", "sender", "rcpt_to", "mail_from", "source", "message", "proof", "reports", "tries", "received_at",
        "read_at",
    )  # fmt: skip

    @admin.display(description=_("status"))
    def state(self, mail: IncomingMail) -> SafeString:
        return badge(mail.status, mail.get_status_display())
