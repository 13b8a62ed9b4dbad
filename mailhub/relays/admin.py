from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Prefetch, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters

from mailhub.admin import BigTableAdmin
from mailhub.lib import clock
from mailhub.lib.states import WrongState
from mailhub.relays import limits, pages, providers
from mailhub.relays.deletion import ExplainedDeletion
from mailhub.relays.forms import DedicatedIPForm, QuotaForm, RelayForm
from mailhub.relays.limits import Standing
from mailhub.relays.models import DedicatedIP, InboxMail, IPPool, Quota, Relay, RouteMember

View = Callable[..., HttpResponseBase]

# -------------------------------------------------------------------------------------------------------------------- relays


class QuotaInline(admin.TabularInline[Quota, Relay]):
    model = Quota
    form = QuotaForm
    extra = 0


@admin.register(Relay)
class RelayAdmin(ExplainedDeletion[Relay]):
    lead = _("Accounts through which mail leaves: a mail server, a service, or an inbox to try things out.")
    empty_hint = _("A relay is an account at a mail server or a service. Add one, put it into a route, and mail can leave.")
    list_display = ("title", "state", "quota", "in_routes", "connections")
    list_filter = ("status",)
    search_fields = ("name",)
    inlines = (QuotaInline,)
    actions = ("pause", "resume")
    deleted_too = ("quotas", "inbox")
    instead = _("Take it out of its routes and pause it: then nothing leaves through it any more, and what has left still names it.")

    class Media:
        css = {"all": ["relays/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        def deed(name: str) -> URLPattern:
            view = self.admin_site.admin_view(pages.act)
            return path(f"<int:pk>/{name}/", view, {"deed": name}, name=f"relays_relay_{name}")

        return [deed("pause"), deed("resume"), deed("wake"), *super().get_urls()]

    # -- the list

    def get_queryset(self, request: HttpRequest) -> QuerySet[Relay]:
        # Secrets are opened where they are needed: one that no key opens must not take the list away.
        members = RouteMember.objects.select_related("route").order_by("route__name")
        used = Sum("leases__connections", filter=Q(leases__expires_at__gt=clock.now()))
        found = super().get_queryset(request).defer("secrets").prefetch_related(Prefetch("memberships", members))
        return found.annotate(used=used)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The time and the quotas of all the page's relays, each asked for once."""
        changelist: Any = super().get_changelist_instance(request)
        self._look_at(changelist.result_list)
        return changelist

    def _look_at(self, relays: Iterable[Any]) -> None:
        now = clock.now()
        standings: dict[int, list[Standing]] = {}
        for standing in limits.standing(Quota.objects.filter(relay__in=relays).order_by("limit", "pk"), now):
            standings.setdefault(standing.quota.relay_id, []).append(standing)
        for relay in relays:
            relay.seen_at = now
            # The one that will stop it first.
            relay.tightest = max(standings.get(relay.pk, []), key=lambda standing: standing.used / standing.quota.limit, default=None)

    @admin.display(description=_("quota"))
    def quota(self, relay: Any) -> SafeString | str:
        if relay.tightest is None:
            return format_html('<span class="quiet">{}</span>', gettext("no limit"))
        standing: Standing = relay.tightest
        words = gettext("%(used)s of %(limit)s a %(period)s") % {
            "used": pages.grouped(standing.used),
            "limit": pages.grouped(standing.quota.limit),
            "period": standing.quota.get_period_display(),
        }
        return pages.quota_meter(standing, words)

    @admin.display(description=_("name"), ordering="name")
    def title(self, relay: Relay) -> SafeString:
        return pages.two_lines(relay.name, relay.get_kind_display())

    @admin.display(description=_("state"))
    def state(self, relay: Any) -> SafeString:
        return pages.state_line(relay, relay.seen_at)

    @admin.display(description=_("routes"))
    def in_routes(self, relay: Relay) -> SafeString | str:
        routes = [member.route for member in relay.memberships.all()]
        if not routes:
            return gettext("in none: gets no mail")
        url = "admin:relays_route_change"
        return format_html_join(", ", '<a href="{}">{}</a>', ((reverse(url, args=[route.pk]), route) for route in routes))

    @admin.display(description=_("connections"))
    def connections(self, relay: Any) -> str:
        return gettext("%(used)s of %(most)s") % {"used": relay.used or 0, "most": relay.max_connections}

    @admin.action(description=pgettext_lazy("mail", "Pause"), permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Relay]) -> None:
        done = self._each(request, queryset, "pause")
        self.message_user(request, ngettext("%(n)s relay is paused.", "%(n)s relays are paused.", done) % {"n": done})

    @admin.action(description=pgettext_lazy("mail", "Resume"), permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Relay]) -> None:
        done = self._each(request, queryset, "resume")
        self.message_user(request, ngettext("%(n)s relay takes mail again.", "%(n)s relays take mail again.", done) % {"n": done})

    def _each(self, request: HttpRequest, queryset: QuerySet[Relay], deed: str) -> int:
        done = 0
        for relay in queryset:
            try:
                words = pages.perform(relay, deed)
            except WrongState:
                already = gettext("Nothing was done: “%(relay)s” is %(state)s already.")
                self.message_user(request, already % {"relay": relay, "state": relay.get_status_display()}, messages.WARNING)
            else:
                self.log_change(request, relay, words)
                done += 1
        return done

    # -- the form: the relay's own fields, then those of its provider

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.GET.get("kind") in providers.REGISTRY:
            kind = dict(providers.choices())[request.GET["kind"]]
            return super().add_view(request, form_url, {"kind": kind, **(extra_context or {})})
        return pages.kinds(request)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            relay = self.get_object(request, object_id)
            context = pages.overview(relay) if relay else {}
            return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})
        except ImproperlyConfigured as error:
            # A secret that no key opens cannot be kept, and must not be lost by saving the rest.
            self.message_user(request, str(error), messages.ERROR)
            return redirect("admin:relays_relay_changelist")

    @method_decorator(sensitive_post_parameters())
    def changeform_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().changeform_view(*args, **kwargs)

    def get_form(self, request: HttpRequest, obj: Relay | None = None, change: bool = False, **kwargs: Any) -> Any:
        form = RelayForm.of(obj.kind if obj else request.GET["kind"])
        return super().get_form(request, obj, change, **{**kwargs, "form": form, "fields": RelayForm.Meta.fields})

    def get_fieldsets(self, request: HttpRequest, obj: Relay | None = None) -> Any:
        kind = obj.kind if obj else request.GET["kind"]
        # Who may only look finds what the provider was given in words, above the form.
        often, seldom = RelayForm.of(kind)(instance=obj).lines() if self._may_write(request, obj) else ([], [])
        label = providers.load(kind).label
        asked: list[Any] = [
            (None, {"fields": ["name"]}),
            (label, {"fields": often}),
            (_("How much at once"), {"fields": ["max_connections", "first_retry"]}),
            (_("Own addresses"), {"fields": ["pool"]}),
            (_("Rarely needed"), {"fields": seldom, "classes": ["collapse"]}),
        ]
        return [fieldset for fieldset in asked if fieldset[1]["fields"]]

    def _may_write(self, request: HttpRequest, relay: Relay | None) -> bool:
        return self.has_change_permission(request, relay) if relay else self.has_add_permission(request)

    def save_model(self, request: HttpRequest, obj: Relay, form: Any, change: bool) -> None:
        # The state is the verbs' and the workers' alone: what they wrote since the form was read stays.
        obj.save(update_fields=[*RelayForm.Meta.fields, "options", "secrets"] if change else None)

    def obstacles(self, obj: Relay) -> Iterable[str]:
        for member in obj.memberships.select_related("route"):
            yield gettext("It is in the route “%(route)s”.") % {"route": member.route}
        # No index serves this: it reads until the first that it finds, which for a relay that was never used is the whole table, once.
        if obj.messages.exists():
            yield gettext("Mail has left through it, and says so in its history.")


# --------------------------------------------------------------------------------------------------------- own addresses


class DedicatedIPInline(admin.TabularInline[DedicatedIP, IPPool]):
    model = DedicatedIP
    form = DedicatedIPForm
    extra = 0


@admin.register(IPPool)
class IPPoolAdmin(ExplainedDeletion[IPPool]):
    lead = _("Own addresses that mail leaves from, in groups: for everybody, or for the senders that name the pool.")
    empty_hint = _("Only for mail that leaves from addresses of your own. With a service or an ordinary mail server you need none.")
    list_display = ("name", "kind", "addresses")
    fieldsets = ((None, {"fields": ("name", "kind"), "description": _("Shared: any sender. Dedicated: only senders that name the pool.")}),)
    list_filter = ("kind",)
    search_fields = ("name",)
    inlines = (DedicatedIPInline,)
    instead = _("Take them out of the pool first.")

    def get_queryset(self, request: HttpRequest) -> QuerySet[IPPool]:
        return super().get_queryset(request).prefetch_related("ips")

    @admin.display(description=_("addresses"))
    def addresses(self, pool: IPPool) -> str:
        return ", ".join(ip.address for ip in pool.ips.all()) or gettext("none yet")


@admin.register(DedicatedIP)
class DedicatedIPAdmin(admin.ModelAdmin[DedicatedIP]):
    empty_hint = _("Only for mail that leaves from addresses of your own. With a service or an ordinary mail server you need none.")
    form = DedicatedIPForm
    list_display = ("address", "ehlo_name", "pool", "node")
    list_filter = (("pool", admin.RelatedOnlyFieldListFilter),)
    search_fields = ("address", "ehlo_name")
    list_select_related = ("pool",)


# --------------------------------------------------------------------------------------------------------------------- inbox


@admin.register(InboxMail)
class InboxMailAdmin(BigTableAdmin[InboxMail]):
    lead = _("Mail that an inbox relay kept to be looked at. It has left for nobody.")
    empty_hint = _("Put an inbox relay into a route: what would leave by it shows here instead.")
    list_display = ("title", "received_at", "relay")
    list_filter = (("relay", admin.RelatedOnlyFieldListFilter),)
    # A sandbox: thousands, not millions.
    search_fields = ("rcpt_to", "subject")
    list_select_related = ("relay",)

    class Media:
        css = {"all": ["relays/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        def page(name: str, view: View) -> URLPattern:
            return path(f"<int:pk>/{name}/", self.admin_site.admin_view(view), name=f"relays_inboxmail_{name}")

        return [
            page("frame", pages.inbox_frame),
            page("source", pages.inbox_source),
            page("download", pages.inbox_download),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[InboxMail]:
        return super().get_queryset(request).defer("data", "relay__secrets")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        mail = self.get_object(request, object_id)
        context = pages.kept(mail, request) if mail else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description=_("subject"))
    def title(self, mail: InboxMail) -> SafeString:
        return pages.two_lines(mail.subject or gettext("no subject"), mail.rcpt_to)
