"""The admin site and the two kinds of ModelAdmin that most of ours are. Registers no model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from django.conf import settings
from django.contrib import admin
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.functional import Promise, cached_property
from django.utils.html import format_html
from django.utils.module_loading import import_string
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Group:
    """What people come to do, and the models with which they do it: label -> icon (static/mailhub/icons.svg)."""

    key: str
    name: Promise
    icons: dict[str, str]


# The side bar. What is not registered, or not permitted, is left out.
GROUPS = (
    Group("send", _("Send"), {"campaigns.Campaign": "campaign", "campaigns.Template": "template"}),
    Group(
        "people",
        _("People"),
        {
            "campaigns.Contact": "contact",
            "campaigns.MailingList": "list",
            "delivery.Suppression": "suppression",
            "campaigns.Import": "import",
            "campaigns.Consent": "consent",
        },
    ),
    Group(
        "deliver",
        _("Deliver"),
        {
            "relays.Relay": "relay",
            "relays.Route": "route",
            "relays.Service": "service",
            "relays.Parking": "pause",
            "relays.DedicatedIP": "ip",
            "relays.Destination": "destination",
            "senders.Sender": "sender",
            "senders.Domain": "domain",
            "feedback.Mailbox": "mailbox",
        },
    ),
    Group(
        "look",
        _("Look"),
        {
            "watching.Deliverability": "chart",
            "returns.Count": "bounce",
            "receivers.Report": "check",
            "delivery.Message": "message",
            "delivery.Batch": "batch",
            "feedback.IncomingMail": "incoming",
            "relays.InboxMail": "inbox",
        },
    ),
    Group(
        "connect",
        _("Connect"),
        {
            "transactional.Project": "project",
            "transactional.Template": "words",
            "transactional.Submission": "submission",
            "webhooks.Endpoint": "webhook",
        },
    ),
    Group(
        "operate",
        _("Operate"),
        {
            "watching.Trouble": "alert",
            "delivery.Worker": "worker",
            "auth.User": "user",
            "auth.Group": "group",
        },
    ),
)
# Models that are reached from another's page: in the side bar they are part of it.
PART_OF = {
    "campaigns.LeftOut": "campaigns.Campaign",
    "campaigns.Subscription": "campaigns.Contact",
    "delivery.Attempt": "delivery.Message",
    "delivery.Content": "delivery.Message",
    "delivery.Lease": "delivery.Worker",
    "delivery.Move": "relays.Route",
    "delivery.Event": "delivery.Message",
    "feedback.Callback": "feedback.IncomingMail",
    "feedback.ParkedReport": "feedback.IncomingMail",
    "relays.Quota": "relays.Relay",
    "relays.QuotaUse": "relays.Relay",
    "relays.Plan": "relays.Service",
    "relays.ResponseRule": "relays.Destination",
    "relays.Slowdown": "relays.Parking",
    "relays.IPPool": "relays.DedicatedIP",
    "relays.Blocklist": "relays.DedicatedIP",
    "relays.WarmupPlan": "relays.DedicatedIP",
    "relays.WarmupUse": "relays.DedicatedIP",
    "senders.DKIMKey": "senders.Domain",
    "transactional.Credential": "transactional.Project",
    "watching.Channel": "watching.Trouble",
    "watching.Rule": "watching.Trouble",
    "webhooks.Delivery": "webhooks.Endpoint",
}
# Pages that stand at another model's address, by their names: whose page each is.
PAGES_OF = {
    "delivery_move_advisor": "relays.Service",
    "delivery_move_report": "relays.Relay",
    "environment": "delivery.Worker",
    "tracked": "campaigns.Campaign",
    "reach": "delivery.Suppression",
    "reach_erase": "delivery.Suppression",
}


class MailHubAdminSite(admin.AdminSite):
    site_header = site_title = "MailHub"
    index_title = _("Overview")
    # There is no other site to view.
    site_url = None
    # By name, since they know the models: request -> what the first page shows; request -> model label -> what waits there.
    overview = "mailhub.dashboard.overview"
    # Pages that are no model's: route -> view and name.
    further = (
        ("settings/", "mailhub.environment.show", "environment"),
        ("tracked/", "mailhub.tracked.show", "tracked"),
        ("reach/", "mailhub.reach.show", "reach"),
        ("reach/erase/", "mailhub.reach.erase", "reach_erase"),
    )
    counts = "mailhub.dashboard.counts"

    def get_urls(self) -> list[Any]:
        further = [path(route, self.admin_view(import_string(view)), name=name) for route, view, name in self.further]
        return [*further, *super().get_urls()]

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        """Who pressed a button, and had to log in, comes back by a link: what the button asks for then says so, instead of nothing."""
        shown = super().admin_view(view, cacheable)

        @wraps(shown)
        def told(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            response: HttpResponseBase = shown(request, *args, **kwargs)
            if isinstance(response, HttpResponseNotAllowed) and request.method == "GET":
                response.content = render_to_string("405.html", request=request)
            return response

        return told

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """The groups of the side bar, in the shape in which Django lists apps."""
        if app_label:
            return super().get_app_list(request, app_label)
        permitted = {
            model["model"]._meta.label: model
            for app in self._build_app_dict(request).values()
            for model in app["models"]
            if model["admin_url"] or model["add_url"]
        }
        here = next((label for label, model in permitted.items() if model["admin_url"] and request.path.startswith(model["admin_url"])), "")
        here = PAGES_OF.get(request.resolver_match.url_name or "" if request.resolver_match else "", PART_OF.get(here, here))
        listed = [label for group in GROUPS for label in group.icons]
        strangers = [label for label in permitted if label not in listed and label not in PART_OF]
        groups = [*GROUPS, Group("other", _("Other"), dict.fromkeys(strangers, "other"))]
        return [
            {
                "name": group.name,
                "app_label": group.key,
                "app_url": "",
                "has_module_perms": True,
                "models": [
                    {**permitted[label], "label": label, "icon": icon, "current": label == here}
                    for label, icon in group.icons.items()
                    if label in permitted
                ],
            }
            for group in groups
            if any(label in permitted for label in group.icons)
        ]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        context = super().each_context(request)
        context["do_not_send"] = settings.MAILHUB_DO_NOT_SEND
        if context["has_permission"]:
            counts = import_string(self.counts)(request)
            for group in context["available_apps"]:
                for model in group["models"]:
                    model["count"] = counts.get(model["label"])
        return context

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        return super().index(request, {**import_string(self.overview)(request), **(extra_context or {})})


def badge(state: str, words: object) -> SafeString:
    """A coloured label: `state` chooses the colour (static/mailhub/admin.css), `words` are what it says."""
    return format_html('<span class="badge {}">{}</span>', state, words)


def meter(percent: float, words: object | None = None, state: str = "done") -> SafeString:
    """A small bar that is so full, and `words` beside it (the percentage when there are none); `state` chooses the colour."""
    percent = round(min(max(percent, 0), 100))
    return format_html(
        '<span class="measure"><svg class="meter" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        '<rect width="100" height="4"/><rect class="{}" width="{}" height="4"/></svg> {}</span>',
        state,
        percent,
        gettext("%(percent)s %%") % {"percent": percent} if words is None else words,
    )


def two_lines(first: object, second: object) -> SafeString:
    """A cell of a list that says two things, the second in softer words; either is whole where the pointer rests, as a badge always is."""
    title = "" if isinstance(first, SafeString) else first
    return format_html('<span class="two" title="{}">{}<small title="{}">{}</small></span>', title, first, second, second)


class ReadOnlyAdmin(admin.ModelAdmin[M]):
    """Rows that MailHub writes: to be read."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False


class Labelled:
    """Before an inline that is a table: its inputs have no label but the head of their column, which each says, too."""

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]
        if field:
            field.widget.attrs.setdefault("aria-label", capfirst(field.label))
        return field


class EstimatingPaginator(Paginator[Any]):
    """Counts up to LIMIT exactly; past that, the planner's estimate of an unfiltered table will do (pg_class.reltuples)."""

    LIMIT = 10_000
    object_list: QuerySet[Any]

    @cached_property
    def num_pages(self) -> int:
        """No more than hold LIMIT rows: a database that skips millions of them reads them all. Who looks for older ones searches."""
        return max(1, -(-min(self.count, self.LIMIT) // self.per_page))

    @property
    def cut(self) -> bool:
        """Whether there are more rows than pages show."""
        return self.count > self.LIMIT

    @cached_property
    def count(self) -> int:
        # In their own order: what bounds the page then bounds the count, where another way to the rows may pass millions.
        counted = self.object_list[: self.LIMIT].count()
        if counted < self.LIMIT or connection.vendor != "postgresql" or self.object_list.query.where:
            return counted
        with connection.cursor() as cursor:
            cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [self.object_list.model._meta.db_table])
            estimate: int = cursor.fetchone()[0]
        return max(counted, estimate)


class BigTableAdmin(ReadOnlyAdmin[M]):
    """Rows that MailHub writes by the million: nothing here may count or sort them all."""

    paginator = EstimatingPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    # The newest first, by the primary key's index alone.
    ordering = ("-pk",)
    sortable_by = ()
