from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import Count, Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from mailhub.admin import badge
from mailhub.lib import clock
from mailhub.relays.deletion import ExplainedDeletion
from mailhub.relays.forms import MemberForm, RouteForm
from mailhub.relays.models import Relay, Route, RouteMember
from mailhub.relays.pages import ways
from mailhub.senders import pages
from mailhub.senders.forms import DomainForm, SenderForm
from mailhub.senders.models import Domain, Sender

# Senders named in a list; the others are counted.
NAMED = 3


def chosen_only(field: Any) -> Any:
    """A row is chosen here, and may be added; it is changed and deleted on its own page."""
    if hasattr(field.widget, "can_delete_related"):
        field.widget.can_delete_related = field.widget.can_change_related = field.widget.can_view_related = False
    return field


View = Callable[..., HttpResponseBase]

# ------------------------------------------------------------------------------------------------------------------- senders


@admin.register(Sender)
class SenderAdmin(ExplainedDeletion[Sender]):
    form = SenderForm
    lead = _("From addresses, and what the law wants readers to see with them. Only confirmed ones may send.")
    empty_hint = _("A sender is an address that your mail comes from. Add one and confirm that it is yours.")
    list_display = ("email", "name", "state", "domain", "transactional_way", "campaign_way")
    list_filter = ("status", ("domain", admin.RelatedOnlyFieldListFilter))
    search_fields = ("email", "name", "organisation")
    list_select_related = ("domain", "transactional_route", "campaign_route")
    actions = ("confirm", "disable")
    instead = _("Disable it instead: then nothing is accepted from it any more, and what it has sent still names it.")
    fieldsets = (
        (None, {"fields": ("email", "name", "reply_to")}),
        (_("How its mail leaves"), {"fields": ("transactional_route", "campaign_route", "pool")}),
        (
            _("What the law wants readers to see"),
            {
                "fields": ("organisation", "postal_address", "contact_point"),
                "description": _(
                    "Advertising must say who sends it, where they are and how to complain: in Japan by the Act on Regulation of"
                    " Transmission of Specified Electronic Mail, in the United States by CAN-SPAM. MailHub puts it at the foot of every"
                    " campaign, and refuses campaigns without it. Transactional mail leaves without."
                ),
            },
        ),
    )

    class Media:
        css = {"all": ["relays/admin.css", "senders/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: View, name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"senders_sender_{name}")

        return [
            page("<int:pk>/confirm/", pages.confirm, "confirm"),
            page("<int:pk>/disable/", pages.disable, "disable"),
            page("<int:pk>/mail-link/", pages.mail_link, "mail_link"),
            page("trial/<int:relay_pk>/", pages.try_relay, "trial"),
            page("connection/<int:relay_pk>/", pages.test_connection, "connection"),
            *super().get_urls(),
        ]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        return chosen_only(super().formfield_for_dbfield(db_field, request, **kwargs))

    def get_readonly_fields(self, request: HttpRequest, obj: Sender | None = None) -> tuple[str, ...]:
        # It was confirmed for this address: another address is another sender.
        return ("email",) if obj else ()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        sender = self.get_object(request, object_id)
        context = pages.overview(sender) if sender else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def save_model(self, request: HttpRequest, obj: Sender, form: Any, change: bool) -> None:
        # The state is the verbs' alone: who disabled the sender since the form was read is not overruled.
        obj.save(update_fields=[*form.cleaned_data, "domain"] if change else None)

    @admin.display(description=_("state"), ordering="status")
    def state(self, sender: Sender) -> SafeString:
        return badge(sender.status, sender.get_status_display())

    @admin.display(description=_("transactional mail by"))
    def transactional_way(self, sender: Sender) -> SafeString | str:
        return _way(sender.transactional_route)

    @admin.display(description=_("campaigns by"))
    def campaign_way(self, sender: Sender) -> SafeString | str:
        return _way(sender.campaign_route)

    @admin.action(description=_("Confirm: the address is ours"), permissions=["change"])
    def confirm(self, request: HttpRequest, queryset: QuerySet[Sender]) -> None:
        pages.confirm_all(request, queryset)

    @admin.action(description=_("Disable…"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Sender]) -> HttpResponse | None:
        return pages.disable_several(request, list(queryset))


def _way(route: Route | None) -> SafeString | str:
    return str(route) if route else format_html('<span class="quiet">{}</span>', gettext("default route"))


@admin.register(Domain)
class DomainAdmin(ExplainedDeletion[Domain]):
    lead = _("What stands after the @ of your senders. A domain comes with its first sender.")
    empty_hint = _("A domain comes with its first sender, or is added here before.")
    form = DomainForm
    list_display = ("name", "standing", "sender_count", "checked_at")
    search_fields = ("name",)
    deleted_too = ("dkim_keys",)
    instead = _("It goes when its last sender has gone.")

    class Media:
        css = {"all": ["relays/admin.css", "senders/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: View, name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"senders_domain_{name}")

        return [
            page("<int:pk>/check/", pages.check_domain, "check"),
            page("<int:pk>/keys/", pages.make_key, "make_key"),
            page("<int:pk>/keys/<int:key_pk>/sign/", pages.sign, "sign"),
            page("<int:pk>/keys/<int:key_pk>/retire/", pages.retire, "retire"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Domain]:
        return super().get_queryset(request).annotate(used=Count("senders")).prefetch_related("findings")

    def get_readonly_fields(self, request: HttpRequest, obj: Domain | None = None) -> tuple[str, ...]:
        # Its senders' addresses end in it.
        return ("name",) if obj else ()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        domain = self.get_object(request, object_id)
        context = pages.domain_overview(domain) if domain else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description=_("records in the DNS"))
    def standing(self, domain: Domain) -> SafeString:
        tone, label, _words = pages.standing(domain, list(domain.findings.all()))
        return badge(tone, label)

    @admin.display(description=_("senders"), ordering="used")
    def sender_count(self, domain: Any) -> SafeString | str:
        if not domain.used:
            return gettext("none yet")
        url = reverse("admin:senders_sender_changelist")
        return format_html('<a href="{}?domain__id__exact={}">{}</a>', url, domain.pk, domain.used)


# -------------------------------------------------------------------------------------------------------------------- routes


class MemberInline(admin.StackedInline[RouteMember, Route]):
    model = RouteMember
    form = MemberForm
    fieldsets = (
        (None, {"fields": ["relay", "position", "weight"]}),
        (_("Only for some mail"), {"fields": ["stream", "senders", "destinations"], "classes": ["collapse"]}),
    )
    ordering = ("position", "pk")
    verbose_name = pgettext_lazy("mail", "relay")
    verbose_name_plural = pgettext_lazy("mail", "relays")

    def get_extra(self, request: HttpRequest, obj: Route | None = None, **kwargs: Any) -> int:
        return 0 if obj else 1

    def get_queryset(self, request: HttpRequest) -> QuerySet[RouteMember]:
        return super().get_queryset(request).select_related("relay").defer("relay__secrets").prefetch_related("destinations")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "relay":
            kwargs["queryset"] = Relay.objects.defer("secrets")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        return chosen_only(super().formfield_for_dbfield(db_field, request, **kwargs))


@admin.register(Route)
class RouteAdmin(ExplainedDeletion[Route]):
    """Stands here and not with the relays, because its pages name the senders that use it."""

    lead = _("Which relays mail leaves by: the first that can takes it, the next one steps in. A change takes effect at once.")
    empty_hint = _("A route is a list of relays. Make one the default, and every sender has a way out.")
    form = RouteForm
    list_display = ("name", "ways", "senders", "default")
    search_fields = ("name",)
    inlines = (MemberInline,)
    instead = _("Give the senders and drafts another route. A route that campaigns were sent by stays, for their history.")

    class Media:
        css = {"all": ["relays/admin.css", "senders/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Route]:
        members = RouteMember.objects.select_related("relay__pool").defer("relay__secrets").prefetch_related("destinations")
        members = members.order_by("position", "pk")
        return super().get_queryset(request).prefetch_related(Prefetch("members", members))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist: Any = super().get_changelist_instance(request)
        users, now = pages.users_of(changelist.result_list), clock.now()
        for route in changelist.result_list:
            route.users, route.seen_at = users[route.pk], now
        return changelist

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        route = self.get_object(request, object_id)
        context = pages.route_overview(route) if route else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description=_("default"), ordering="default_for")
    def default(self, route: Route) -> SafeString | str:
        return pages.default_badge(route)

    @admin.display(description=_("how mail leaves"))
    def ways(self, route: Any) -> SafeString:
        return render_to_string("admin/relays/route/ways.html", {"ways": ways(list(route.members.all()), route.seen_at)})

    @admin.display(description=_("senders"))
    def senders(self, route: Any) -> SafeString | str:
        named = format_html_join(
            ", ",
            '<a href="{}">{}</a>',
            ((reverse("admin:senders_sender_change", args=[sender.pk]), sender.email) for sender in route.users[:NAMED]),
        )
        if len(route.users) > NAMED:
            return format_html("{} {}", named, gettext("and %(n)s more") % {"n": len(route.users) - NAMED})
        return named
