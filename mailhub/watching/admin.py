from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext, ngettext, pgettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters

from mailhub.admin import ReadOnlyAdmin, badge, two_lines
from mailhub.lib import clock
from mailhub.relays.deletion import ExplainedDeletion
from mailhub.senders.admin import chosen_only
from mailhub.senders.models import Sender
from mailhub.watching import pages, words
from mailhub.watching.forms import ChannelForm
from mailhub.watching.models import Channel, Deliverability, Rule, Trouble


class WithStyles(admin.ModelAdmin[Any]):
    class Media:
        css = {"all": ["relays/admin.css", "watching/admin.css"]}


@admin.register(Deliverability)
class DeliverabilityAdmin(ReadOnlyAdmin[Deliverability]):
    """A page of pictures in place of the list."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return pages.deliverability(request)


class Openness(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", gettext("in trouble now")), ("over", gettext("good again"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Trouble]) -> QuerySet[Trouble]:
        return queryset.filter(closed_at__isnull=self.value() == "open") if self.value() else queryset


@admin.register(Trouble)
class TroubleAdmin(WithStyles, ReadOnlyAdmin[Trouble]):
    lead = _("What is not as it should be, found every minute: the cause, what to do, and how long it lasted.")
    empty_hint = _("Nothing has been in trouble so far. Add an alert channel, so that somebody is told when something is.")
    list_display = ("title", "state", "opened_at", "lasted")
    list_display_links = ("title",)
    list_filter = (Openness, "kind")
    list_select_related = ("rule",)
    list_per_page = 50
    # What is open stands above the list; here the newest come first.
    ordering = ("-pk",)
    sortable_by = ()

    def get_urls(self) -> list[URLPattern]:
        return [
            path("<int:pk>/resume/", self.admin_site.admin_view(pages.resume), name="watching_trouble_resume"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        health = {"health": pages.health(clock.now()), "lines": [] if request.GET else pages.open_now()}
        return super().changelist_view(request, {**health, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        trouble = self.get_object(request, object_id)
        context = pages.overview(request, trouble) if trouble else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description=_("what"))
    def title(self, trouble: Trouble) -> SafeString:
        return two_lines(words.title(trouble), words.cause(trouble))

    @admin.display(description=_("state"))
    def state(self, trouble: Trouble) -> SafeString:
        if trouble.closed_at:
            return badge("good", gettext("good again"))
        if trouble.holds:
            return badge("bad", pgettext("mail", "paused"))
        return badge(trouble.tone, trouble.get_tone_display())

    @admin.display(description=_("for"))
    def lasted(self, trouble: Trouble) -> str:
        return timesince(trouble.opened_at, trouble.closed_at or clock.now())


@admin.register(Rule)
class RuleAdmin(WithStyles, ExplainedDeletion[Rule]):
    lead = _("Thresholds, and what happens past them. They are looked at every minute, by what is counted hour by hour.")
    list_display = ("title", "limit", "deed", "active")
    list_filter = ("measure", "action", "active")
    search_fields = ("name",)
    list_select_related = ("relay", "destination")
    radio_fields = {"action": admin.VERTICAL}
    instead = _("Take it out of use instead: then nothing follows from it, and what it found before stays.")
    fieldsets = (
        (None, {"fields": ["name", "active"]}),
        (_("When"), {"fields": ["measure", "threshold", "hours", "least"]}),
        (_("Where"), {"fields": ["scope", "relay", "destination"]}),
        (_("Then"), {"fields": ["action"]}),
        (_("Where the figures are from"), {"fields": ["source", "as_of", "confidence"], "classes": ["collapse"]}),
    )

    @admin.display(description=_("name"), ordering="name")
    def title(self, rule: Rule) -> SafeString:
        return two_lines(rule, self.where(rule))

    @admin.display(description=_("threshold"), ordering="threshold")
    def limit(self, rule: Rule) -> SafeString | str:
        threshold = number_format(rule.threshold.normalize(), use_l10n=True) if rule.threshold % 1 else number_format(int(rule.threshold))
        if rule.measure == Rule.Measure.WAITING:
            return ngettext("over %(minutes)s minute", "over %(minutes)s minutes", int(rule.threshold)) % {"minutes": threshold}
        hours = ngettext("%(hours)s hour", "%(hours)s hours", rule.hours) % {"hours": rule.hours}
        below = gettext("in %(hours)s, from %(least)s mails on") % {"hours": hours, "least": number_format(rule.least, force_grouping=True)}
        return two_lines(gettext("over %(percent)s %%") % {"percent": threshold}, below)

    def where(self, rule: Rule) -> str:
        """What is measured, and where."""
        places = [] if rule.measure == Rule.Measure.WAITING else [rule.get_scope_display(), rule.relay, rule.destination]
        return pgettext("between things", ", ").join(str(place) for place in [rule.get_measure_display(), *places] if place)

    @admin.display(description=_("then"), ordering="action")
    def deed(self, rule: Rule) -> SafeString:
        return badge("paused" if rule.action == Rule.Action.PAUSE else "queued", rule.get_action_display())


@admin.register(Channel)
class ChannelAdmin(WithStyles, ExplainedDeletion[Channel]):
    lead = _("Whom MailHub tells when something is newly in trouble and when it is good again, and how the week was.")
    empty_hint = _("Without one nobody is told. Add the mail address of whoever looks after MailHub, or a chat's URL.")
    form = ChannelForm
    deleted_too = ("alerts",)
    list_display = ("title", "kind", "state", "told_at")
    list_display_links = ("title",)
    fieldsets = (
        (None, {"fields": ["name", "kind", "active"]}),
        (_("What"), {"fields": ["wants_alerts", "wants_weekly"]}),
        (_("By mail"), {"fields": ["to", "sender"]}),
        (_("By HTTP"), {"fields": ["url", "secret"]}),
        (_("How"), {"fields": ["language", "most"]}),
    )

    def get_urls(self) -> list[URLPattern]:
        return [
            path("<int:pk>/test/", self.admin_site.admin_view(pages.test_channel), name="watching_channel_test"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        # Secrets are opened where they are needed: one that no key opens must not take the list away.
        return super().get_queryset(request).defer("url", "secret")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "sender":
            kwargs["queryset"] = Sender.objects.filter(status=Sender.Status.CONFIRMED)
        return chosen_only(super().formfield_for_foreignkey(db_field, request, **kwargs))

    @method_decorator(sensitive_post_parameters())
    def changeform_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().changeform_view(*args, **kwargs)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        channel = self.get_object(request, object_id)
        context = (
            {
                "channel": channel,
                "problem": words.sentence(channel.problem) if channel else "",
                "told": list(pages.told(channel)),
                "state_badge": self.badge(channel),
            }
            if channel
            else {}
        )
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description=_("name"), ordering="name")
    def title(self, channel: Channel) -> SafeString:
        below = pgettext("between things", ", ").join(channel.to.split()) if channel.kind == Channel.Kind.MAIL else ""
        return two_lines(channel.name, below)

    @admin.display(description=_("state"))
    def state(self, channel: Channel) -> SafeString:
        return two_lines(self.badge(channel), channel.problem) if channel.active and channel.problem else self.badge(channel)

    def badge(self, channel: Channel) -> SafeString:
        if not channel.active:
            return badge("paused", gettext("not in use"))
        if channel.problem:
            return badge("failed", gettext("does not work"))
        return badge("good", gettext("works")) if channel.told_at else badge("new", gettext("not tried yet"))
