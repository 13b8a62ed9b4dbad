"""The admin of moves from relay to relay, and of the pages that say where mail goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from mailhub.admin import ReadOnlyAdmin, badge, meter, two_lines
from mailhub.delivery import advice_pages, route_pages
from mailhub.delivery.models import Move

View = Callable[..., HttpResponseBase]
DEEDS = ("hold", "go_on", "step", "finish", "pace")
# The states' colours.
TONES = {Move.Status.RUNNING: "move", Move.Status.HELD: "paused", Move.Status.DONE: "done", Move.Status.BACK: "disabled"}


@admin.register(Move)
class MoveAdmin(ReadOnlyAdmin[Move]):
    lead = _("Senders on their way from one relay to another, at once or a little more every day. Mail that waits follows.")
    empty_hint = _("A sender can go to another relay a little more every day: receivers get used to it, and you see how it goes.")
    list_display = ("title", "state", "carried", "next_at", "started_at")
    list_filter = ("status",)
    list_select_related = ("sender", "old_relay", "new_relay")

    class Media:
        css = {"all": ["relays/admin.css", "senders/admin.css", "delivery/routes.css"]}

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: View, name: str, **kwargs: Any) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), kwargs, name=f"delivery_move_{name}")

        return [
            page("routes/", route_pages.routes, "routes"),
            page("simulate/", route_pages.simulate, "simulate"),
            page("start/", route_pages.start, "start"),
            page("advisor/", advice_pages.advisor, "advisor"),
            page("report/", advice_pages.report, "report"),
            page("<int:pk>/back/", route_pages.back, "back"),
            *(page(f"<int:pk>/{deed}/", route_pages.act, deed, deed=deed) for deed in DEEDS),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Move]:
        return (
            super()
            .get_queryset(request)
            .select_related("sender__domain", "old_relay", "new_relay", "route", "source")
            .defer(*route_pages.SECRETS)
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        move = self.get_object(request, object_id)
        context = (
            {"title": str(move), "subtitle": None, "tone": TONES[Move.Status(move.status)], **route_pages.overview(move)} if move else {}
        )
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description=_("sender"))
    def title(self, move: Move) -> SafeString:
        return two_lines(move.sender.email, f"{move.old_relay} → {move.new_relay}")

    @admin.display(description=_("state"), ordering="status")
    def state(self, move: Move) -> SafeString:
        return badge(TONES[Move.Status(move.status)], move.get_status_display())

    @admin.display(description=_("by the new relay"), ordering="share")
    def carried(self, move: Move) -> SafeString | str:
        return meter(move.share) if move.status != Move.Status.BACK else "—"
