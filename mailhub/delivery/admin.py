from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.db.models.functions import Lower
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from mailhub.admin import BigTableAdmin, ReadOnlyAdmin, badge, two_lines
from mailhub.delivery import pages, preview, route_admin, search, suppressions  # noqa: F401  registers its own
from mailhub.delivery.filters import Beyond, Linked, Written
from mailhub.delivery.models import COUNTER_OF, COUNTERS, Batch, Content, Event, Message, Suppression, Worker
from mailhub.delivery.templatetags.figures import meter
from mailhub.lib import addresses, clock
from mailhub.lib.charts import grouped
from mailhub.relays.models import Relay, Stream

# A filter that no index serves looks through so many rows, the newest.
WINDOW = 100_000
# The same among the messages that are in one state, each of which has to be fetched from another place.
STATE_WINDOW = 10_000
# States that index delivery_message_trouble finds among any number of messages.
TROUBLE = frozenset(COUNTERS) - {"waiting", "sent", "delivered"}
# A Message-ID of ours begins with the message's public id.
PUBLIC_ID = re.compile(r"<?([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:@.*)?", re.IGNORECASE | re.DOTALL)
# What the list does not show and may be long.
LONG = ("content__html", "content__text", "content__raw", "content__headers", "relay__secrets")
# Messages, or people, that are found by the beginning of an address; and rows of them, such as events.
MOST_FOUND = 1_000

View = Callable[..., HttpResponseBase]


def addressed(messages: QuerySet[Message], term: str) -> list[int]:
    """Keys of those to the address, or to addresses that begin so; MOST_FOUND at most. Index delivery_message_address.

    As a list, since to look for a few among all in the order of their keys, as pages show them, PostgreSQL may read all."""
    found = messages.order_by().alias(key=Lower("address")).filter(key__startswith=key(term))
    return list(found.values_list("pk", flat=True)[:MOST_FOUND])


def rows_of(rows: QuerySet[Any], column: str, keys: list[int]) -> list[int]:
    """Keys of the rows that belong to these; MOST_FOUND at most. By an index on `column`, and as a list, for the same reason."""
    return list(rows.order_by().filter(**{f"{column}__in": keys}).values_list("pk", flat=True)[:MOST_FOUND])


def key(term: str) -> str:
    """The form in which suppressions keep an address, and messages are indexed."""
    try:
        return addresses.key(addresses.normalise(term))
    except ValidationError:
        return term.strip().lower()


class Newest(ChangeList):
    """A list of which only the newest rows are looked through where a filter has no index to go by."""

    #: that is the case here, and there are more rows
    bounded = False
    window = WINDOW

    @property
    def truncated(self) -> bool:
        """A search found more than it shows."""
        return bool(self.query) and self.result_count >= MOST_FOUND

    def within_window(self, found: QuerySet[Any], rows: QuerySet[Any], column: str = "pk") -> QuerySet[Any]:
        """`found` without those of `rows` that are older, by a column that grows with time and has an index: a look at either end of it."""
        newest, oldest = (rows.order_by(order).values_list(column, flat=True).first() or 0 for order in (f"-{column}", column))
        self.bounded = newest - oldest >= WINDOW
        return found.filter(**{f"{column}__gt": newest - WINDOW}) if self.bounded else found

    def within_places(self, found: QuerySet[Any], rows: QuerySet[Any], column: str, window: int | None = None) -> QuerySet[Any]:
        """The same for rows that have gaps in that column: so many entries of its index are passed."""
        self.window = window or WINDOW
        oldest = next(iter(rows.order_by(f"-{column}").values_list(column, flat=True)[self.window : self.window + 1]), None)
        self.bounded = oldest is not None
        return found.filter(**{f"{column}__gt": oldest}) if self.bounded else found


# ------------------------------------------------------------------------------------------------------------------ messages


class MessageList(Newest):
    """Every way to ask for messages ends with an index that bounds what is read, however many there are.

    docs/performance.md has what each takes of ten million."""

    #: `window` is of those in one state
    of_state = False
    #: found by what an upper package knows, or by their subject: the newest MOST_FOUND
    of_contents = False

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Message]:
        found: QuerySet[Message] = super().get_queryset(request, exclude_parameters)
        found = found.select_related(None).select_related("content", "sender", "relay").defer(*LONG)
        asked = self.get_filters_params()
        span = search.Span.of_days(*(asked.pop(name, [""])[-1] for name in (Since.parameter_name, Until.parameter_name)))
        subject = asked.pop(Subject.parameter_name, [""])[-1].strip()
        beyond = [spec for spec in self.filter_specs if isinstance(spec, Beyond) and spec.value()]
        for spec in beyond:
            asked.pop(spec.parameter_name or "", None)
        state = asked.get("state", [""])[-1]
        if self.query:
            # By address or public id: as many rows as match.
            if span:
                found = span.within(found, "created_at")
            return self._of(beyond, found, span).filter(**({"content__subject__icontains": subject} if subject else {}))
        if beyond:
            return self._of(beyond, found, span, subject)
        if subject:
            # Of the contents' own table, which holds a campaign's once.
            self.of_contents = True
            contents = self.within_window(
                span.within(Content.objects.all(), "created_at"), span.within(Content.objects.all(), "created_at")
            )
            return found.filter(pk__in=search.saying(contents, subject, MOST_FOUND))
        if span:
            # The primary key bounds them. Beside another filter the newest of the span are looked through.
            found = span.within(found, "created_at")
            if state in TROUBLE and len(asked) == 1:
                # Index delivery_message_trouble, between two keys.
                return found
            return self.within_window(found, span.within(Message.objects.all(), "created_at")) if asked else found
        batch = asked.get("batch", [""])[-1]
        if state in COUNTERS and batch.isdecimal() and Batch.objects.filter(pk=batch, **{state: 0}).exists():
            # By the batch's own count there is none, and none is looked for.
            return found.none()
        if state in TROUBLE and (batch or len(asked) == 1):
            # Indexes delivery_message_trouble and delivery_message_batch_trouble: the newest first, until the page is full.
            return found
        if state in TROUBLE:
            self.of_state = True
            return self.within_places(found, Message.objects.filter(status=state), "pk", STATE_WINDOW)
        if batch:
            # Index delivery_message_once has a batch's messages in the order of their addresses.
            return found.order_by("batch_id", "address", "-pk")
        if asked.pop("stream__exact", [""])[-1] == Stream.TRANSACTIONAL:
            # Index delivery_message_content: all transactional mail there is, however much campaign mail came since.
            found = found.order_by("-content_id", "-pk")
            rows = Message.objects.filter(stream=Stream.TRANSACTIONAL)
            return self.within_window(found, rows, "content_id") if asked else found
        return self.within_window(found, Message.objects.all()) if self.get_filters_params() else found

    def _of(self, beyond: Sequence[Beyond], found: QuerySet[Message], span: search.Span, subject: str = "") -> QuerySet[Message]:
        """Those of `found` of which upper packages know what is asked for: the newest contents of each, MOST_FOUND at most. `subject` is
        looked for among the newest of these."""
        if not beyond:
            return found
        rows, moment = beyond[0].everything()
        rows = span.within(rows.order_by("-pk"), moment)
        if len(beyond) > 1 or not beyond[0].indexed:
            rows = self.within_window(rows, rows.model._base_manager.all() if not span else rows)
        for spec in beyond:
            rows = spec.narrowed(rows)
        if subject:
            rows = self.within_places(rows, rows, "pk", STATE_WINDOW).filter(content__subject__icontains=subject)
        contents = list(rows.values_list("content", flat=True)[:MOST_FOUND])
        self.of_contents = len(contents) == MOST_FOUND
        # Index delivery_message_content: a probe a content.
        return found.filter(stream=Stream.TRANSACTIONAL, content__in=contents).order_by("-content_id", "-pk")


class Since(Written):
    title = _("since")
    parameter_name = "since"
    kind = "date"


class Until(Written):
    title = _("until")
    parameter_name = "until"
    kind = "date"


class OfRelay(admin.RelatedFieldListFilter):
    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[Any]:
        """Without their secrets: one that no key opens must not take the list away."""
        return [(relay.pk, str(relay)) for relay in Relay.objects.defer("secrets").order_by("name")]


class Subject(Written):
    title = _("subject")
    parameter_name = "subject"


class StateFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        labels: dict[str, Any] = dict(Message.Status.choices)
        return [(name, labels.get(name) or Batch._meta.get_field(name).verbose_name) for name in COUNTERS]  # type: ignore[union-attr]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        if self.value() is None:
            return queryset
        states = [state for state, counter in COUNTER_OF.items() if counter == self.value()]
        return queryset.filter(status__in=states) if len(states) > 1 else queryset.filter(status=states[0] if states else "")


class OfBatch(Linked):
    title = _("batch")
    parameter_name = "batch"
    model = Batch


@admin.register(Message)
class MessageAdmin(BigTableAdmin[Message]):
    list_display = ("state", "mail", "origin", "last_reply", "created_at")
    list_display_links = ("mail",)
    list_filter: ClassVar[Any] = (OfBatch, StateFilter, "stream", "sender", ("relay", OfRelay), Subject, Since, Until)
    search_fields = ("address",)
    search_help_text = _("The beginning of an address, or a Message-ID")
    empty_hint = _("Every mail that MailHub accepts stands here, with what became of it.")
    actions = ("send_again", "withdraw_them", "save_as_files")

    class Media:
        css = {"all": ["delivery/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        def page(name: str, view: View) -> URLPattern:
            return path(f"<int:pk>/{name}/", self.admin_site.admin_view(view), name=f"delivery_message_{name}")

        return [
            path("export/", self.admin_site.admin_view(pages.export_messages), {"of": self}, name="delivery_message_export"),
            page("read", pages.read),
            page("resend", pages.resend),
            page("withdraw", pages.withdraw),
            page("show", pages.show),
            page("source", pages.source),
            *super().get_urls(),
        ]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return MessageList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        return super().get_queryset(request).select_related("content", "sender", "relay", "batch__route").defer("relay__secrets")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        if not search_term:
            return queryset, False
        if found := PUBLIC_ID.fullmatch(search_term.strip()):
            return queryset.filter(public_id=UUID(found[1])), False
        return queryset.filter(pk__in=addressed(queryset, search_term)), False

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("delivery.change_message")

    def has_read_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("delivery.view_body")

    @admin.action(description=_("Send again…"), permissions=["resend"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Message]) -> HttpResponse | None:
        return pages.resend_many(request, queryset)

    @admin.action(description=_("Withdraw…"), permissions=["resend"])
    def withdraw_them(self, request: HttpRequest, queryset: QuerySet[Message]) -> HttpResponse | None:
        return pages.withdraw_many(request, queryset)

    @admin.action(description=_("Save as files"), permissions=["read"])
    def save_as_files(self, request: HttpRequest, queryset: QuerySet[Message]) -> HttpResponseBase | None:
        return pages.save_many(request, queryset)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        message = self.get_object(request, object_id)
        about = {"title": message.address, "subtitle": None, **pages.about(request, message)} if message else {}
        return super().change_view(request, object_id, form_url, {**about, **(extra_context or {})})

    @admin.display(description=_("state"))
    def state(self, message: Message) -> SafeString:
        return badge(message.status, message.get_status_display())

    @admin.display(description=_("recipient and subject"))
    def mail(self, message: Message) -> SafeString:
        return two_lines(message.address, preview.subject(message))

    @admin.display(description=_("sender and stream"))
    def origin(self, message: Message) -> SafeString:
        return two_lines(message.sender.email, message.get_stream_display())

    @admin.display(description=_("relay and last reply"))
    def last_reply(self, message: Message) -> SafeString:
        return two_lines(message.relay.name if message.relay else "—", message.reply)


# ------------------------------------------------------------------------------------------------------------------- batches


@admin.register(Batch)
class BatchAdmin(BigTableAdmin[Batch]):
    list_display = ("state", "named", "bar", "recipients", "went", "came_back", "did_not", "created_at")
    list_display_links = ("named",)
    list_filter = ("status", "sender")
    search_fields = ("name",)
    lead = _("Mails that were sent together: campaigns, and tests of them.")
    empty_hint = _("Each campaign that is sent becomes a batch.")

    class Media:
        css = {"all": ["delivery/admin.css"]}
        js = ["delivery/progress.js"]

    def get_urls(self) -> list[URLPattern]:
        def page(name: str, view: View, **kwargs: Any) -> URLPattern:
            return path(f"<int:pk>/{name}/", self.admin_site.admin_view(view), kwargs, name=f"delivery_batch_{name}")

        return [
            page("pause", pages.act, deed="pause"),
            page("resume", pages.act, deed="resume"),
            page("cancel", pages.cancel),
            page("progress", pages.watch),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Batch]:
        # Not with their contents, which only a batch's page shows: to join a few of them PostgreSQL may read all.
        return super().get_queryset(request).select_related("sender", "route")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        batch = self.get_object(request, object_id)
        overview = {"title": batch.name, "subtitle": None, **pages.overview(request, batch)} if batch else {}
        return super().change_view(request, object_id, form_url, {**overview, **(extra_context or {})})

    @admin.display(description=_("state"))
    def state(self, batch: Batch) -> SafeString:
        return badge(batch.status, batch.get_status_display())

    @admin.display(description=_("name and sender"))
    def named(self, batch: Batch) -> SafeString:
        return two_lines(batch.name, batch.sender.email)

    @admin.display(description=_("progress"))
    def bar(self, batch: Batch) -> SafeString:
        return meter(batch)

    @admin.display(description=_("recipients"))
    def recipients(self, batch: Batch) -> str:
        return grouped(batch.total)

    @admin.display(description=_("sent"))
    def went(self, batch: Batch) -> str:
        return grouped(batch.sent + batch.delivered)

    @admin.display(description=_("bounced"))
    def came_back(self, batch: Batch) -> str:
        return grouped(batch.bounced + batch.complained)

    @admin.display(description=_("failed"))
    def did_not(self, batch: Batch) -> str:
        return grouped(batch.failed + batch.unknown)


# -------------------------------------------------------------------------------------------------------------------- events


class EventList(Newest):
    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Event]:
        found: QuerySet[Event] = super().get_queryset(request, exclude_parameters)
        return found if self.query or not self.get_filters_params() else self.within_window(found, Event.objects.all())


@admin.register(Event)
class EventAdmin(BigTableAdmin[Event]):
    list_display = ("what", "recipient", "said", "at")
    list_display_links = None
    list_filter = ("type",)
    list_select_related = ("message",)
    search_fields = ("message__address",)
    search_help_text = _("The beginning of an address")
    empty_hint = _("What happens to mails is noted here: sent, bounced, opened, called spam.")
    fields = ("type", "message", "at", "recorded_at", "detail")

    class Media:
        css = {"all": ["delivery/admin.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return EventList

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        """By the index on Event.message, for the messages to that address."""
        if not search_term:
            return queryset, False
        return queryset.filter(pk__in=rows_of(Event.objects.all(), "message", addressed(Message.objects.all(), search_term))), False

    @admin.display(description=_("type"))
    def what(self, event: Event) -> SafeString:
        # Not called “kind”: the list would show the field of that name.
        return format_html('{} <small class="quiet">{}</small>', badge(event.type, event.get_type_display()), event.get_kind_display())

    @admin.display(description=_("recipient"))
    def recipient(self, event: Event) -> SafeString:
        url = reverse("admin:delivery_message_change", args=[event.message_id])
        return format_html('<a href="{}">{}</a>', url, event.message.address)

    @admin.display(description=_("detail"))
    def said(self, event: Event) -> SafeString:
        """Whole where the pointer rests."""
        return format_html('<span title="{}">{}</span>', event.detail, event.detail)


# -------------------------------------------------------------------------------------------------------------- suppressions


class InForce(admin.SimpleListFilter):
    title = _("in force")
    parameter_name = "in_force"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Yes")), ("no", _("No, it has run out"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Suppression]) -> QuerySet[Suppression]:
        if self.value() == "no":
            return queryset.filter(expires_at__lte=clock.now())
        return queryset.filter(pk__in=Suppression.in_force().values("pk")) if self.value() == "yes" else queryset


@admin.register(Suppression)
class SuppressionAdmin(BigTableAdmin[Suppression]):
    """Entered and removed; what stands is not changed, since it says what happened."""

    list_display = ("who", "kept", "why", "created_at", "until")
    list_filter = ("reason", "scope", InForce)
    search_fields = ("address",)
    search_help_text = _("The beginning of an address")
    lead = _("Addresses that no mail, or no campaign, is sent to.")
    empty_hint = _("Addresses that bounce, and people who call a mail spam, come here by themselves. You can add others.")

    class Media:
        css = {"all": ["delivery/admin.css"]}

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The projects' names, asked for once."""
        changelist: Any = super().get_changelist_instance(request)
        names = suppressions.project_names(changelist.result_list)
        for suppression in changelist.result_list:
            suppression.project_name = names.get(suppression.project, suppression.project)
        return changelist

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(pages.export_suppressions)
        return [path("export/", view, {"of": self}, name="delivery_suppression_export"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        suppression = self.get_object(request, object_id)
        cause = pages.linked(request, suppression.event and suppression.event.message) if suppression else None
        project = suppressions.project_names([suppression]).get(suppression.project, suppression.project) if suppression else 0
        return super().change_view(request, object_id, form_url, {"cause": cause, "project": project, **(extra_context or {})})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("delivery.add_suppression")

    def has_delete_permission(self, request: HttpRequest, obj: Suppression | None = None) -> bool:
        return request.user.has_perm("delivery.delete_suppression")

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return pages.suppress(request)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "POST" and not self.because(request):
            return pages.ask_why(request, self.get_object(request, object_id))
        return super().delete_view(request, object_id, extra_context)

    @staticmethod
    def because(request: HttpRequest) -> str:
        """Why staff lift a suppression: it stands in the history."""
        return request.POST.get("because", "").strip()[:500]

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Suppression]) -> Any:
        assert request.user.pk  # noqa: S101  admin_view() lets nobody else in
        words = self.because(request) or gettext("no reason given")
        return LogEntry.objects.log_actions(request.user.pk, queryset, DELETION, words)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        return (queryset.filter(address__startswith=key(search_term)) if search_term else queryset), False

    @admin.display(description=_("address"), ordering="address")
    def who(self, suppression: Suppression) -> str:
        return str(suppression)

    @admin.display(description=pgettext_lazy("suppressed", "until"))
    def until(self, suppression: Suppression) -> SafeString | str:
        if suppression.expires_at is None:
            return "—"
        words = date_format(timezone.localtime(suppression.expires_at), "SHORT_DATE_FORMAT")
        return words if suppression.expires_at > clock.now() else badge("ended", words)

    @admin.display(description=_("keeps back"))
    def kept(self, suppression: Any) -> SafeString:
        if suppression.project:
            return badge(suppression.scope, gettext("Mail of the project “%(project)s”") % {"project": suppression.project_name})
        return badge(suppression.scope, suppression.get_scope_display())

    @admin.display(description=_("reason and detail"))
    def why(self, suppression: Suppression) -> SafeString:
        return two_lines(suppression.get_reason_display(), suppression.detail)


# ------------------------------------------------------------------------------------------------------------------- workers


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin[Worker]):
    """One page, since what matters is whether all queues are served."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return pages.show_workers(request)

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return pages.show_workers(request)
