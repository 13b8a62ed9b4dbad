"""What leaves as a table."""

from __future__ import annotations

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils.translation import gettext as _

from campaigns.models import Consent
from mailhub.lib.sheets import sheet


def consents(rows: QuerySet[Consent]) -> StreamingHttpResponse:
    """Who agreed or withdrew, when, how and to what."""
    heading = [_("address"), _("list"), _("basis"), _("source"), _("text agreed to"), _("IP address"), _("recorded by"), _("at")]
    found = rows.select_related("contact", "list", "recorded_by").order_by("pk").iterator(chunk_size=2_000)
    return sheet(
        _("consents"),
        heading,
        (
            [
                consent.contact.email,
                consent.list.name,
                consent.get_basis_display(),
                consent.source,
                consent.text,
                consent.ip_address or "",
                consent.recorded_by or "",
                consent.at.isoformat(),
            ]
            for consent in found
        ),
    )
