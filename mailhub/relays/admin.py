from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from django.contrib import admin, messages
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Count, Prefetch, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters

from mailhub.admin import BigTableAdmin, Labelled, ReadOnlyAdmin, badge, meter, two_lines
from mailhub.lib import clock
from mailhub.lib.charts import grouped
from mailhub.lib.states import WrongState
from mailhub.relays import destinations, import_pages, ip_pages, limits, pages, parking, providers, services
from mailhub.relays.deletion import ExplainedDeletion
from mailhub.relays.forms import (
    BlocklistForm,
    DedicatedIPForm,
    DestinationForm,
    QuotaForm,
    RelayForm,
    ResponseRuleForm,
    ServiceForm,
    WarmupPlanForm,
)
from mailhub.relays.limits import Standing
from mailhub.relays.models import (
    Blocklist,
    DedicatedIP,
    Destination,
    Figures,
    InboxMail,
    IPPool,
    Parking,
    Plan,
    Quota,
    Relay,
    RelayPlan,
    ResponseRule,
    RouteMember,
    Service,
    Slowdown,
    WarmupPlan,
    WarmupUse,
)

View = Callable[..., HttpResponseBase]

# -------------------------------------------------------------------------------------------------------------------- relays


class QuotaInline(Labelled, admin.TabularInline[Quota, Relay]):
    model = Quota
    form = QuotaForm
    extra = 0


class RelayPlanInline(Labelled, admin.TabularInline[RelayPlan, Relay]):
    model = RelayPlan
    extra = 0
    verbose_name = _("plan")
    verbose_name_plural = _("what is paid for it")

    def get_queryset(self, request: HttpRequest) -> QuerySet[RelayPlan]:
        return super().get_queryset(request).select_related("plan__service")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "plan":
            kwargs["queryset"] = Plan.objects.select_related("service").order_by("service__name", "price")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


@admin.register(Relay)
class RelayAdmin(ExplainedDeletion[Relay]):
    lead = _("Accounts through which mail leaves: a mail server, a service, or an inbox to try things out.")
    empty_hint = _("A relay is an account at a mail server or a service. Add one, put it into a route, and mail can leave.")
    list_display = ("title", "state", "quota", "in_routes", "connections")
    list_filter = ("status",)
    search_fields = ("name",)
    inlines = (QuotaInline, RelayPlanInline)
    actions = ("pause", "resume")
    deleted_too = ("quotas", "plans", "inbox")
    instead = _("Take it out of its routes and pause it: then nothing leaves through it any more, and what has left still names it.")

    class Media:
        css = {"all": ["relays/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        def deed(name: str) -> URLPattern:
            view = self.admin_site.admin_view(pages.act)
            return path(f"<int:pk>/{name}/", view, {"deed": name}, name=f"relays_relay_{name}")

        imported = path("import/", self.admin_site.admin_view(import_pages.import_relays), name="relays_relay_import")
        return [imported, deed("pause"), deed("resume"), deed("wake"), *super().get_urls()]

    def response_post_save_add(self, request: HttpRequest, obj: Relay) -> HttpResponseRedirect:
        """Its own page has the next steps: to test it, and to put it into a route."""
        return redirect("admin:relays_relay_change", obj.pk)

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
            "used": grouped(standing.used),
            "limit": grouped(standing.quota.limit),
            "period": standing.quota.get_period_display(),
        }
        return pages.quota_meter(standing, words)

    @admin.display(description=_("name"), ordering="name")
    def title(self, relay: Relay) -> SafeString:
        return two_lines(relay.name, relay.get_kind_display())

    @admin.display(description=_("state"))
    def state(self, relay: Any) -> SafeString:
        if relay.do_not_send:
            return two_lines(pages.state_badge(relay, relay.seen_at), gettext("sends nothing: its mail is kept here"))
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
            service = self._service(request)
            context = {"kind": kind, "service": service, "advice": services.advice(service) if service else []}
            return super().add_view(request, form_url, {**context, **(extra_context or {})})
        return pages.kinds(request)

    def _service(self, request: HttpRequest) -> Service | None:
        """The one that a new relay is to be an account at."""
        return Service.objects.filter(pk=request.GET.get("service", "")).first()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        service = self._service(request)
        return services.initial(service) if service else {}

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        service = None if change else self._service(request)
        if service and service.limits and not form.instance.quotas.exists():
            services.add_quotas(form.instance, service)
            words = gettext("The limits that %(service)s names were entered as quotas. Change them if your account has others.")
            self.message_user(request, words % {"service": service})

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
            (_("For trying things out"), {"fields": ["do_not_send"]}),
            (_("What comes back"), {"fields": [] if providers.load(kind).uses_pool else ["keeps_return_path"]}),
            (_("In the DNS of your senders' domains"), {"fields": ["spf", "dkim_selectors"]}),
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
        if obj.leases.exists():
            yield gettext("It is sending at this moment. Pause it, and try again in a minute.")
        # No index serves this: it reads until the first that it finds, which for a relay that was never used is the whole table, once.
        if obj.messages.exists():
            yield gettext("Mail has left through it, and says so in its history.")


# ------------------------------------------------------------------------------------------------------ figures of others

FIGURES: Any = (_("Where the figures are from"), {"fields": ["source", "as_of", "confidence"]})


def figures(row: Figures) -> SafeString:
    return two_lines(row.get_confidence_display(), row.source or "—")


# --------------------------------------------------------------------------------------------------------- own addresses


class DedicatedIPInline(Labelled, admin.TabularInline[DedicatedIP, IPPool]):
    model = DedicatedIP
    form = DedicatedIPForm
    # Its warm-up is chosen on its own page.
    fields = ("address", "ehlo_name", "node")
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
    list_display = ("address", "ehlo_name", "pool", "node", "seen", "warming")
    list_filter = (("pool", admin.RelatedOnlyFieldListFilter), ("plan", admin.RelatedOnlyFieldListFilter))
    search_fields = ("address", "ehlo_name")
    list_select_related = ("pool", "plan")
    fieldsets = (
        (None, {"fields": ["pool", "address", "ehlo_name", "node"]}),
        (_("Warm-up"), {"fields": ["plan", "first_day"]}),
    )

    class Media:
        css = {"all": ["relays/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        look = self.admin_site.admin_view(ip_pages.look)
        return [path("<int:pk>/look/", look, name="relays_dedicatedip_look"), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[DedicatedIP]:
        return super().get_queryset(request).prefetch_related("checks")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        ip = self.get_object(request, object_id)
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **(ip_pages.overview(ip) if ip else {})})

    @admin.display(description=_("seen by others"))
    def seen(self, ip: DedicatedIP) -> SafeString:
        return ip_pages.state_badge(ip)

    @admin.display(description=_("warm-up"))
    def warming(self, ip: DedicatedIP) -> SafeString | str:
        if ip.plan is None:
            return format_html('<span class="quiet">{}</span>', gettext("warm, no cap"))
        url = f"{reverse('admin:relays_warmupuse_changelist')}?ip__id__exact={ip.pk}"
        return format_html('<a href="{}">{}</a>', url, ip.plan)


@admin.register(Blocklist)
class BlocklistAdmin(admin.ModelAdmin[Blocklist]):
    lead = _("Lists by which receivers refuse mail. Each of your own addresses is looked up in them every hour.")
    form = BlocklistForm
    list_display = ("name", "zone", "active", "alerts", "figures")
    list_filter = ("active", "alerts")
    search_fields = ("name", "zone")
    fieldsets = ((None, {"fields": ["key", "name", "zone", "active", "alerts", "covers_ipv6", "meanings", "url"]}), FIGURES)

    class Media:
        css = {"all": ["relays/admin.css"]}

    @admin.display(description=_("figures"), ordering="confidence")
    def figures(self, blocklist: Blocklist) -> SafeString:
        return figures(blocklist)


@admin.register(WarmupPlan)
class WarmupPlanAdmin(ExplainedDeletion[WarmupPlan]):
    lead = _("How many mails a day an address may send that receivers do not know yet. A day follows only on one that went well.")
    form = WarmupPlanForm
    list_display = ("title", "counts", "begins", "figures")
    search_fields = ("name", "key")
    fieldsets = ((None, {"fields": ["key", "name", "counts", "caps"]}), FIGURES)
    instead = _("Give its addresses another plan, or none: then they are warm.")

    class Media:
        css = {"all": ["relays/admin.css"]}

    @admin.display(description=_("name"), ordering="name")
    def title(self, plan: WarmupPlan) -> SafeString:
        return two_lines(plan, ngettext("%(n)s day", "%(n)s days", plan.length) % {"n": plan.length})

    @admin.display(description=_("mails a day"))
    def begins(self, plan: WarmupPlan) -> str:
        days = [plan.cap(day) or 0 for day in range(1, plan.length + 1)]
        return " → ".join(map(grouped, days if len(days) < 5 else [*days[:3], days[-1]]))

    @admin.display(description=_("figures"), ordering="confidence")
    def figures(self, plan: WarmupPlan) -> SafeString:
        return figures(plan)


@admin.register(WarmupUse)
class WarmupUseAdmin(ReadOnlyAdmin[WarmupUse]):
    lead = _("What addresses that warm up sent each day, and what became of it.")
    empty_hint = _("Give a dedicated IP a warm-up plan, and its days show here.")
    list_display = ("date", "ip", "where", "stage", "used", "accepted", "deferred", "refused", "bounced")
    list_filter = (("ip", admin.RelatedOnlyFieldListFilter), ("destination", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("ip__plan", "destination")
    list_display_links = None

    class Media:
        css = {"all": ["relays/admin.css"]}

    @admin.display(description=_("destination"))
    def where(self, use: WarmupUse) -> str:
        return str(use.destination or gettext("all together"))

    @admin.display(description=_("day of the plan"))
    def stage(self, use: WarmupUse) -> str:
        if use.ip.plan is None or use.day > use.ip.plan.length:
            return gettext("warm")
        return gettext("%(day)s of %(days)s") % {"day": use.day, "days": use.ip.plan.length}

    @admin.display(description=_("used"))
    def used(self, use: WarmupUse) -> SafeString | str:
        cap = use.ip.plan.cap(use.day) if use.ip.plan else None
        if cap is None:
            return "—"
        words = gettext("%(used)s of %(limit)s") % {"used": grouped(use.taken), "limit": grouped(cap)}
        return meter(100 * use.taken / cap, words)


# -------------------------------------------------------------------------------------------------------------- destinations


@admin.register(Destination)
class DestinationAdmin(admin.ModelAdmin[Destination]):
    lead = _("Mailboxes behind the same servers, and how much these take. The limits hold for mail that leaves from own addresses.")
    form = DestinationForm
    list_display = ("title", "at_once", "per_connection", "rate_words", "domain_count", "rule_count", "figures")
    list_filter = ("confidence",)
    search_fields = ("name", "key", "domains__domain")

    class Media:
        css = {"all": ["relays/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Destination]:
        found = super().get_queryset(request)
        listed, learnt = Q(domains__learnt_at__isnull=True), Q(domains__learnt_at__isnull=False)
        return found.annotate(
            listed=Count("domains", filter=listed, distinct=True),
            learnt=Count("domains", filter=learnt, distinct=True),
            ruled=Count("rules", distinct=True),
        )

    def get_fieldsets(self, request: HttpRequest, obj: Destination | None = None) -> Any:
        return [
            (None, {"fields": ["name"] if obj else ["key", "name"]}),
            (_("Who belongs to it"), {"fields": ["listed_domains", "mx_suffixes"]}),
            (_("How much at once"), {"fields": ["connections", "messages_per_connection", ("rate", "per"), "tls_required"]}),
            FIGURES,
        ]

    def has_delete_permission(self, request: HttpRequest, obj: Destination | None = None) -> bool:
        # Mail that waits names it.
        return False

    def save_model(self, request: HttpRequest, obj: Destination, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if "listed_domains" in form.changed_data:
            destinations.enter(obj, form.cleaned_data["listed_domains"])

    @admin.display(description=_("name"), ordering="name")
    def title(self, destination: Destination) -> SafeString:
        return two_lines(destination, ", ".join(destination.suffixes) or "—")

    @admin.display(description=_("connections"), ordering="connections")
    def at_once(self, destination: Destination) -> str:
        return grouped(destination.connections) if destination.connections else "—"

    @admin.display(description=_("mails per connection"), ordering="messages_per_connection")
    def per_connection(self, destination: Destination) -> str:
        return grouped(destination.messages_per_connection) if destination.messages_per_connection else "—"

    @admin.display(description=_("rate"))
    def rate_words(self, destination: Destination) -> str:
        return pages.rate(destination.rate, destination.get_per_display()) or "—"

    @admin.display(description=_("domains"))
    def domain_count(self, destination: Any) -> str:
        words = grouped(destination.listed)
        return gettext("%(listed)s, %(found)s found") % {"listed": words, "found": destination.learnt} if destination.learnt else words

    @admin.display(description=_("reply rules"))
    def rule_count(self, destination: Any) -> SafeString | str:
        if not destination.ruled:
            return "—"
        url = reverse("admin:relays_responserule_changelist")
        return format_html('<a href="{}?destination__key__exact={}">{}</a>', url, destination.pk, destination.ruled)

    @admin.display(description=_("figures"), ordering="confidence")
    def figures(self, destination: Destination) -> SafeString:
        return figures(destination)


@admin.register(ResponseRule)
class ResponseRuleAdmin(ExplainedDeletion[ResponseRule]):
    lead = _("What to do when a server says something: leave its mailboxes alone for a while, or send them less.")
    form = ResponseRuleForm
    list_display = ("title", "where", "deed", "when", "active", "figures")
    list_filter = ("active", "action", ("destination", admin.RelatedOnlyFieldListFilter))
    search_fields = ("name", "pattern", "sample")
    instead = _("Take it out of use instead: it does nothing then.")
    list_select_related = ("destination",)
    fieldsets = (
        (None, {"fields": ["name", "active"]}),
        (_("What is said"), {"fields": ["destination", "pattern", "sample", "position", ("trigger", "within")]}),
        (_("What is done"), {"fields": ["action", "scope", "lasts", ("rate", "per"), "connections", "keeps_mail"]}),
        FIGURES,
    )

    class Media:
        css = {"all": ["relays/admin.css"]}

    def obstacles(self, obj: ResponseRule) -> Iterable[str]:
        if obj.shipped_as:
            yield gettext("It comes with MailHub, and would come back with the next version.")

    def save_model(self, request: HttpRequest, obj: ResponseRule, form: Any, change: bool) -> None:
        obj.key = obj.key or f"own-{uuid4().hex[:12]}"
        super().save_model(request, obj, form, change)
        self._try(request, obj)

    def _try(self, request: HttpRequest, rule: ResponseRule) -> None:
        """Say which rule the sample reply meets, now that this one is saved."""
        if not rule.active:
            return
        first = parking.first_met(rule.destination_id, rule.sample)
        if first == rule:
            self.message_user(request, gettext("Tried: the sample reply meets this rule."))
        else:
            words = gettext(
                "The sample reply meets “%(rule)s” first: this rule does nothing for it. Lower its position, or change a pattern."
            )
            self.message_user(request, words % {"rule": first}, messages.WARNING)

    @admin.display(description=_("name"), ordering="name")
    def title(self, rule: ResponseRule) -> SafeString:
        return two_lines(rule, rule.sample)

    @admin.display(description=_("destination"), ordering="destination")
    def where(self, rule: ResponseRule) -> str:
        return str(rule.destination or gettext("any"))

    @admin.display(description=_("what is done"))
    def deed(self, rule: ResponseRule) -> SafeString:
        lasts = pages.minutes(rule.lasts)
        if rule.action == ResponseRule.Action.PARK:
            return two_lines(gettext("left alone for %(time)s") % {"time": lasts}, rule.get_scope_display())
        return two_lines(pages.slowed_to(rule), gettext("for %(time)s") % {"time": lasts})

    @admin.display(description=_("after"))
    def when(self, rule: ResponseRule) -> str:
        if rule.trigger == 1:
            return gettext("the first")
        return gettext("%(count)s within %(time)s") % {"count": rule.trigger, "time": pages.minutes(rule.within)}

    @admin.display(description=_("figures"), ordering="confidence")
    def figures(self, rule: ResponseRule) -> SafeString:
        return figures(rule)


class HeldAdmin(ReadOnlyAdmin[Any]):
    """What is held back: to be looked at, and to be let go."""

    actions = ("let_go",)
    list_filter = (("relay", admin.RelatedOnlyFieldListFilter), ("destination", admin.RelatedOnlyFieldListFilter))
    list_display_links = None

    class Media:
        css = {"all": ["relays/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("relay", "destination").defer("relay__secrets").order_by("-since")

    def has_let_go_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"relays.change_{self.opts.model_name}")

    @admin.action(description=_("Let go on now…"), permissions=["let_go"])
    def let_go(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return pages.let_go(request, queryset)

    @admin.display(description=_("destination"), ordering="destination")
    def where(self, row: Any) -> SafeString:
        return two_lines(row.destination, gettext("through %(relay)s") % {"relay": row.relay})

    @admin.display(description=_("until"), ordering="until")
    def until_when(self, row: Any) -> SafeString:
        def shown(moment: Any) -> str:
            return date_format(timezone.localtime(moment), "SHORT_DATETIME_FORMAT")

        return two_lines(shown(row.until), gettext("since %(moment)s") % {"moment": shown(row.since)})


@admin.register(Parking)
class ParkingAdmin(HeldAdmin):
    lead = _("Destinations that are left alone for a while, because of what their servers said. Their mail waits; all other mail flows.")
    empty_hint = _("No server has asked for it, so all mail flows.")
    list_display = ("where", "state", "until_when", "why", "strikes")

    @admin.display(description=_("state"))
    def state(self, row: Parking) -> SafeString:
        whose = gettext("mail from %(domain)s") % {"domain": row.sender_domain} if row.sender_domain else gettext("all its mail")
        if row.until > clock.now() and not row.probing:
            return two_lines(badge("resting", gettext("left alone")), whose)
        few = gettext("%(count)s at once") % {"count": row.allowance}
        return two_lines(badge("deferred", gettext("tried again")), f"{whose}, {few}")

    @admin.display(description=_("why"))
    def why(self, row: Parking) -> SafeString:
        return two_lines(row.words, row.reply or "—")


@admin.register(Slowdown)
class SlowdownAdmin(HeldAdmin):
    lead = _("Destinations that get less for a while, because of what their servers said.")
    empty_hint = _("No server has asked for it, so mail flows as fast as it may.")
    list_display = ("where", "limit", "until_when", "why")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("rule").filter(until__gt=clock.now())

    @admin.display(description=_("limit"))
    def limit(self, row: Slowdown) -> str:
        return pages.slowed_to(row)

    @admin.display(description=_("why"))
    def why(self, row: Slowdown) -> SafeString:
        rule = format_html('<a href="{}">{}</a>', reverse("admin:relays_responserule_change", args=[row.rule_id]), row.rule)
        return two_lines(rule, row.reply or "—")


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
        return two_lines(mail.subject or gettext("no subject"), mail.rcpt_to)


# ------------------------------------------------------------------------------------------------------------------- services


class PlanInline(Labelled, admin.TabularInline[Plan, Service]):
    model = Plan
    fields = ("key", "name", "price", "currency", "included", "per_thousand", "per_day", "source", "as_of", "confidence")
    extra = 0


@admin.register(Service)
class ServiceAdmin(admin.ModelAdmin[Service]):
    lead = _("Services that relays are accounts at: their servers, limits and prices. Figures are of the day shown; correct them freely.")
    list_display = ("title", "server", "price", "figures")
    list_filter = ("bulk", "japanese_support", "yen_invoice")
    search_fields = ("name", "host", "key")
    form = ServiceForm
    inlines = (PlanInline,)
    fieldsets = (
        (None, {"fields": ["key", "name", "bulk"]}),
        (
            _("How to connect"),
            {"fields": ["host", ("port", "other_ports"), "security", ("login", "username"), "app_password", "oauth_only"]},
        ),
        (_("How much"), {"fields": ["limits", ("messages_per_second", "connections")]}),
        (_("What it offers"), {"fields": ["webhooks", "japanese_support", "yen_invoice", "regions", "dedicated_ip_price"]}),
        (_("In the DNS of your senders' domains"), {"fields": ["spf"]}),
        FIGURES,
    )

    class Media:
        css = {"all": ["relays/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Service]:
        return super().get_queryset(request).prefetch_related("plans")

    def get_readonly_fields(self, request: HttpRequest, obj: Service | None = None) -> tuple[str, ...]:
        return ("key",) if obj else ()

    @admin.display(description=_("name"), ordering="name")
    def title(self, service: Service) -> SafeString:
        return two_lines(service.name, gettext("for bulk mail") if service.bulk else gettext("ordinary mail server"))

    @admin.display(description=_("server"))
    def server(self, service: Service) -> SafeString:
        where = f"{service.host}:{service.port}" if service.host else gettext("own for each account")
        return two_lines(where, services.limits_in_words(service) or "—")

    @admin.display(description=_("price a month"))
    def price(self, service: Service) -> str:
        plans = [plan for plan in service.plans.all() if plan.price]
        return gettext("from %(price)s") % {"price": services.money(plans[0].price, plans[0].currency)} if plans else "—"

    @admin.display(description=_("figures"), ordering="confidence")
    def figures(self, service: Service) -> SafeString:
        return figures(service)
