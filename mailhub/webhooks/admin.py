from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from mailhub.admin import BigTableAdmin, two_lines
from mailhub.relays.deletion import ExplainedDeletion
from mailhub.webhooks import pages
from mailhub.webhooks.forms import EndpointForm
from mailhub.webhooks.models import Delivery, Endpoint

View = Callable[..., HttpResponseBase]


@admin.register(Endpoint)
class EndpointAdmin(ExplainedDeletion[Endpoint]):
    lead = _("Addresses of your sites to which MailHub posts what happened to mails: delivered, bounced, opened and so on.")
    empty_hint = _("A site that wants to know what became of its mails gives an address here, and checks who posts by a secret.")
    form = EndpointForm
    list_display = ("title", "whose", "state", "waiting", "succeeded_at")
    list_filter = ("status",)
    search_fields = ("name", "url")
    fields = ("name", "url", "project_ref", "types")
    deleted_too = ("deliveries",)

    class Media:
        css = {"all": ["relays/admin.css", "webhooks/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: View, **arguments: str) -> URLPattern:
            name = f"webhooks_endpoint_{route.rstrip('/')}"
            return path(f"<int:pk>/{route}", self.admin_site.admin_view(view), arguments, name=name)

        return [
            page("pause/", pages.act, deed="pause"),
            page("resume/", pages.act, deed="resume"),
            page("skip/", pages.skip),
            page("test/", pages.test),
            page("secret/", pages.show_secret),
            page("rotate/", pages.rotate),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Endpoint]:
        # Index webhooks_delivery_pending: what was taken is not counted through.
        waiting = Delivery.objects.filter(endpoint=OuterRef("pk"), status=Delivery.Status.PENDING).order_by().values("endpoint")
        counted = Coalesce(Subquery(waiting.annotate(n=Count("pk")).values("n")), 0)
        # Secrets are opened where they are needed: one that no key opens must not take the list away.
        return super().get_queryset(request).defer("secret", "old_secret").annotate(pending=counted)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The projects' names, asked for once."""
        changelist: Any = super().get_changelist_instance(request)
        projects = pages.projects()
        for endpoint in changelist.result_list:
            endpoint.whose = pages.whose(endpoint, projects)
        return changelist

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        endpoint = self.get_object(request, object_id)
        context = pages.overview(endpoint) if endpoint else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def save_model(self, request: HttpRequest, obj: Endpoint, form: Any, change: bool) -> None:
        # The state and the cursor are the verbs' and the posting's alone.
        obj.save(update_fields=list(self.fields) if change else None)

    def response_add(self, request: HttpRequest, obj: Endpoint, post_url_continue: str | None = None) -> HttpResponse:
        messages.info(request, gettext("Show the secret and give it to whoever checks the signature; then send a test event."))
        super().response_add(request, obj, post_url_continue)
        return redirect("admin:webhooks_endpoint_change", obj.pk)

    @admin.display(description=_("webhook"), ordering="name")
    def title(self, endpoint: Endpoint) -> SafeString:
        return two_lines(endpoint.name, endpoint.url)

    @admin.display(description=_("mail of"))
    def whose(self, endpoint: Any) -> str:
        return str(endpoint.whose)

    @admin.display(description=_("state"), ordering="status")
    def state(self, endpoint: Endpoint) -> SafeString:
        shown = pages.endpoint_badge(endpoint)
        return two_lines(shown, endpoint.problem) if endpoint.problem else shown

    @admin.display(description=_("posts waiting"))
    def waiting(self, endpoint: Any) -> int:
        return endpoint.pending  # type: ignore[no-any-return]


@admin.register(Delivery)
class DeliveryAdmin(BigTableAdmin[Delivery]):
    lead = _("What was posted to webhooks and what they answered, the newest first. Taken posts are kept for a week, others for a month.")
    empty_hint = _("Nothing has been posted yet. Add a webhook and send it a test event.")
    list_display = ("title", "state", "answer", "count", "tried_at")
    list_filter = ("status", "endpoint")
    list_select_related = ("endpoint",)
    search_fields = ("public_id",)
    search_help_text = _("The webhook-id")

    class Media:
        css = {"all": ["relays/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(pages.post_again)
        return [path("<int:pk>/post/", view, name="webhooks_delivery_post"), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        return super().get_queryset(request).select_related("endpoint").defer("endpoint__secret", "endpoint__old_secret")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Delivery], search_term: str) -> tuple[QuerySet[Delivery], bool]:
        if not search_term:
            return queryset, False
        try:
            return queryset.filter(public_id=UUID(search_term.strip())), False
        except ValueError:
            return queryset.none(), False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        delivery = self.get_object(request, object_id)
        context = {"delivery": delivery, "badge": pages.delivery_badge(delivery)} if delivery else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description=_("webhook"))
    def title(self, delivery: Delivery) -> SafeString:
        return two_lines(delivery.endpoint, delivery.get_kind_display() if delivery.kind == "test" else delivery.public_id)

    @admin.display(description=_("status"))
    def state(self, delivery: Delivery) -> SafeString:
        return pages.delivery_badge(delivery)

    @admin.display(description=_("answer"))
    def answer(self, delivery: Delivery) -> SafeString | str:
        if delivery.response_status:
            took = gettext("%(seconds).2f s") % {"seconds": delivery.seconds or 0}
            return format_html('{} <small class="quiet">{}</small>', delivery.response_status, took)
        return delivery.problem or "–"
