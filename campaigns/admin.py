from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Exists, Model, OuterRef, Prefetch, Q, QuerySet
from django.db.models.functions import Lower
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from campaigns import exports, growth, pages, subscriptions
from campaigns.forms import ContactForm
from campaigns.models import Campaign, Consent, Contact, Import, LeftOut, MailingList, Subscription, Template
from mailhub.admin import BigTableAdmin, EstimatingPaginator, ReadOnlyAdmin, badge, two_lines
from mailhub.delivery import history
from mailhub.delivery.admin import MOST_FOUND, Newest, rows_of
from mailhub.delivery.filters import Linked
from mailhub.delivery.models import Batch, Suppression
from mailhub.delivery.templatetags.figures import meter
from mailhub.lib.charts import grouped
from mailhub.relays.deletion import ExplainedDeletion
from mailhub.senders.models import Sender
from mailhub.webhooks import outbox

M = TypeVar("M", bound=Model)

LATELY = timedelta(days=30)
View = Callable[..., HttpResponseBase]
# Of a campaign or a template.
WORDS: Any = (
    _("What it says"),
    {
        "fields": ("subject", "html", "text"),
        "description": _(
            "{{ name }} and {{ email }} become each reader's own, and so does every attribute of your contacts, such as {{ city }}."
        ),
    },
)


def rows(count: int, **attrs: str) -> forms.Textarea:
    return forms.Textarea(attrs={"rows": count, "class": "vLargeTextField", **attrs})


def code(name: str) -> forms.Widget | None:
    """Where a template is written; the HTML is longer than the text."""
    if name == "subject":
        return forms.TextInput(attrs={"class": "vLargeTextField"})
    count = {"html": 18, "text": 8}.get(name)
    return rows(count, spellcheck="false", **{"class": "vLargeTextField code"}) if count else None


def people(term: str) -> list[int]:
    """Keys of contacts whose address begins so; MOST_FOUND at most. By its unique index, and as a list, since to look for a few among all
    in the order of their keys, as pages show them, PostgreSQL may read all."""
    found = Contact.objects.filter(email__startswith=term.strip().lower()).order_by()
    return list(found.values_list("pk", flat=True)[:MOST_FOUND])


class RowList(Newest):
    """Rows of contacts. Each way to ask for them ends with an index that bounds what is read; which, the subclasses know."""

    #: what the index leads to rows by, and what it has them in the order of, the newest last
    parent: str
    order: str
    #: the filter that asks for one parent
    asks: str

    @property
    def truncated(self) -> bool:
        """A search found more than it shows: of rows, or already of people."""
        return super().truncated or (bool(self.query) and len(people(self.query)) >= MOST_FOUND)

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        found = super().get_queryset(request, exclude_parameters)
        asked = self.get_filters_params()
        if self.query or not asked:
            return found
        if self.asks not in asked:
            return self.within_window(found, self.model._default_manager.all())
        rows = found.order_by(f"-{self.parent}", f"-{self.order}")
        return rows if len(asked) == 1 else self.within_places(rows, self.asked_for(asked[self.asks][-1]), self.order)

    def asked_for(self, key: str) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.model._default_manager.all()
        return rows.filter(**{self.parent: key}) if key.isdecimal() else rows.none()


class Address(BigTableAdmin[M]):
    """Rows of a contact, found by the beginning of the address."""

    search_fields = ("contact__email",)
    search_help_text = _("The beginning of an address")

    class Media:
        css = {"all": ["delivery/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[M]:
        # Once the page's rows are known: in a join PostgreSQL may walk through all contacts instead.
        return super().get_queryset(request).prefetch_related("contact")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        if not search_term:
            return queryset, False
        return queryset.filter(pk__in=rows_of(self.model._default_manager.all(), "contact", people(search_term))), False

    @admin.display(description=_("contact"))
    def person(self, row: Any) -> SafeString:
        return two_lines(row.contact.email, row.contact.name)


# ---------------------------------------------------------------------------------------------------------------------- send


class StateFilter(admin.SimpleListFilter):
    """By what staff call a campaign's state: its own, and its batch's once it has one."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        own = [choice for choice in Campaign.Status.choices if choice[0] != Campaign.Status.LAUNCHED]
        return [*own, *Batch.Status.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Campaign]) -> QuerySet[Campaign]:
        if self.value() is None:
            return queryset
        return queryset.filter(Q(status=self.value(), batch__isnull=True) | Q(batch__status=self.value()))


class MadeBy(admin.SimpleListFilter):
    """By whose key wrote it over the API: the projects that have made any."""

    title = _("made over the API by")
    parameter_name = "source_ref"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        made = set(Campaign.objects.exclude(source_ref=0).order_by().values_list("source_ref", flat=True).distinct())
        return [(str(key), name) for key, name in outbox.projects() if key in made or str(key) == self.value()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Campaign]) -> QuerySet[Campaign]:
        key = self.value()
        if key is None:
            return queryset
        return queryset.filter(source_ref=int(key)) if key in dict(self.lookup_choices) else queryset.none()


@admin.register(Campaign)
class CampaignAdmin(admin.ModelAdmin[Campaign]):
    list_display = ("state", "named", "through", "recipients", "by", "moment")
    list_display_links = ("named",)
    list_filter = (StateFilter, "sender", "lists", MadeBy)
    search_fields = ("name", "subject")
    list_select_related = ("batch", "sender")
    empty_hint = _("A campaign is one mail to everybody on your lists. Write it, send yourself a test, and send it when it is right.")
    fieldsets = (
        (None, {"fields": ("name", "sender", "lists", ("route", "language"))}),
        WORDS,
        (_("Opens and clicks"), {"fields": ("tracks_opens", "tracks_clicks")}),
    )

    class Media:
        css = {"all": ["delivery/admin.css"]}
        js = ["delivery/progress.js"]

    def get_urls(self) -> list[URLPattern]:
        def page(name: str, view: View, **kwargs: Any) -> URLPattern:
            return path(f"<int:pk>/{name}/", self.admin_site.admin_view(view), kwargs, name=f"campaigns_campaign_{name}")

        return [
            page("send", pages.send),
            page("test", pages.test),
            page("copy", pages.copy),
            page("cancel", pages.cancel),
            page("pause", pages.act, deed="pause"),
            page("resume", pages.act, deed="resume"),
            page("unschedule", pages.act, deed="unschedule"),
            page("progress", pages.watch),
            page("preview", pages.show),
            *super().get_urls(),
        ]

    def has_change_permission(self, request: HttpRequest, obj: Campaign | None = None) -> bool:
        """What has been sent, or is about to be, stays as it is."""
        return super().has_change_permission(request, obj) and (obj is None or obj.status == Campaign.Status.DRAFT)

    def has_delete_permission(self, request: HttpRequest, obj: Campaign | None = None) -> bool:
        return super().has_delete_permission(request, obj) and obj is not None and obj.status == Campaign.Status.DRAFT

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        if widget := code(db_field.name):
            kwargs["widget"] = widget
        if db_field.name == "lists":
            kwargs["widget"] = forms.CheckboxSelectMultiple
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial: dict[str, Any] = super().get_changeform_initial_data(request)
        template = Template.objects.filter(pk=initial.pop("template", None)).first()
        if template:
            initial |= {"subject": template.subject, "html": template.html, "text": template.text, "language": template.language}
        return initial

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> HttpResponse:
        lacking = {"no_sender": not Sender.objects.exists(), "no_list": not MailingList.objects.exists()}
        return super().add_view(request, form_url, {"templates": Template.objects.all(), **lacking, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        campaign = self.get_object(request, object_id)
        return super().change_view(request, object_id, form_url, {**pages.overview(campaign), **(extra_context or {})})

    @admin.display(description=_("state"))
    def state(self, campaign: Campaign) -> SafeString:
        return badge(campaign.state, campaign.get_state_display())

    @admin.display(description=_("name and subject"))
    def named(self, campaign: Campaign) -> SafeString:
        return two_lines(campaign.name, campaign.subject)

    @admin.display(description=_("handed over"))
    def through(self, campaign: Campaign) -> str:
        return meter(campaign.batch) if campaign.batch else ""

    @admin.display(description=_("recipients"))
    def recipients(self, campaign: Campaign) -> str:
        return grouped(campaign.batch.total) if campaign.batch else ""

    @admin.display(description=_("sender"), ordering="sender")
    def by(self, campaign: Campaign) -> SafeString:
        return two_lines(campaign.sender.name or campaign.sender.email, campaign.sender.email)

    @admin.display(description=_("when"), ordering="-id")
    def moment(self, campaign: Campaign) -> Any:
        return campaign.batch.created_at if campaign.batch else campaign.scheduled_at or campaign.created_at


@admin.register(Template)
class TemplateAdmin(admin.ModelAdmin[Template]):
    list_display = ("name", "subject", "language", "created_at")
    list_filter = ("language",)
    search_fields = ("name", "subject")
    lead = _("Words that campaigns begin with.")
    empty_hint = _("Keep here what you do not want to write anew for each campaign.")
    fieldsets = (
        (None, {"fields": (("name", "language"),)}),
        WORDS,
    )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(pages.show_template)
        return [path("<int:pk>/preview/", view, name="campaigns_template_preview"), *super().get_urls()]

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        if widget := code(db_field.name):
            kwargs["widget"] = widget
        return super().formfield_for_dbfield(db_field, request, **kwargs)


class OfCampaign(Linked):
    title = _("campaign")
    parameter_name = "campaign"
    model = Campaign


class LeftOutList(RowList):
    """Index campaigns_leftout_once."""

    parent, order, asks = "campaign_id", "contact_id", "campaign"


@admin.register(LeftOut)
class LeftOutAdmin(Address[LeftOut]):
    list_display = ("person", "why", "campaign")
    list_filter = (OfCampaign, "reason")
    list_select_related = ("campaign",)
    lead = _("People on the lists of a campaign who got no mail of it.")
    empty_hint = _("Who is on a campaign's lists and must not be mailed stands here, with the reason.")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LeftOutList

    @admin.display(description=_("reason"))
    def why(self, left_out: LeftOut) -> SafeString:
        return badge(left_out.reason, left_out.get_reason_display())


# -------------------------------------------------------------------------------------------------------------------- people


class SubscribedTo(admin.SimpleListFilter):
    title = _("subscribed to")
    parameter_name = "list"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(pk), name) for pk, name in MailingList.objects.order_by("name").values_list("pk", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Contact]) -> QuerySet[Contact]:
        key = self.value()
        if key is None:
            return queryset
        if not any(key == choice for choice, _name in self.lookup_choices):
            return queryset.none()
        subscribed = Subscription.objects.filter(contact=OuterRef("pk"), list=int(key), status=Subscription.Status.SUBSCRIBED)
        return queryset.filter(Exists(subscribed))


class ContactList(Newest):
    #: keys of the people of the list that is asked for, and of nothing else, the newest first
    members: QuerySet[Any, int] | None = None

    @property
    def truncated(self) -> bool:
        """A search found more than it shows."""
        return bool(self.query) and self.result_count >= MOST_FOUND

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Contact]:
        found: QuerySet[Contact] = super().get_queryset(request, exclude_parameters)
        asked = self.get_filters_params()
        if self.query or not asked or found.query.is_empty():
            return found
        if "list" not in asked:
            return self.within_window(found, Contact.objects.all())
        # Index campaigns_subscription_walk, index only. Joined with contacts PostgreSQL may walk through all of those instead.
        members = Subscription.objects.filter(list=int(asked["list"][-1]), status=Subscription.Status.SUBSCRIBED)
        keys = members.order_by("-contact_id").values_list("contact_id", flat=True)
        if len(asked) == 1:
            self.members = keys
            return found
        newest = list(keys[: MOST_FOUND + 1])
        self.bounded, self.window = len(newest) > MOST_FOUND, MOST_FOUND
        return found.filter(pk__in=newest[:MOST_FOUND])

    def get_results(self, request: HttpRequest) -> None:
        """Of a list the page's keys come first, and then its contacts."""
        if self.members is None:
            return super().get_results(request)
        contacts, self.queryset = self.queryset, self.members
        super().get_results(request)
        self.queryset = contacts
        self.result_list = self.root_queryset.filter(pk__in=list(self.result_list)).order_by("-pk")


@admin.register(Contact)
class ContactAdmin(admin.ModelAdmin[Contact]):
    list_display = ("email", "name", "on_lists", "language", "created_at")
    list_filter = (SubscribedTo, "language")
    search_fields = ("email", "name")
    search_help_text = _("The beginning of an address or a name; of newer contacts any part of the name")
    # As BigTableAdmin has it.
    paginator = EstimatingPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    ordering = ("-pk",)
    sortable_by = ()
    form = ContactForm
    fields = ("email", "name", "language", "attributes")
    empty_hint = _("People come here from a CSV file, or one by one. Campaigns reach those who agreed to them.")

    class Media:
        css = {"all": ["delivery/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: View, name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"campaigns_contact_{name}")

        return [
            page("import/", pages.take_in, "import"),
            page("<int:pk>/subscribe/", pages.subscribe, "subscribe"),
            page("<int:pk>/unsubscribe/<int:list_pk>/", pages.unsubscribe, "unsubscribe"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Contact]:
        with_lists = Prefetch("subscriptions", Subscription.objects.select_related("list").order_by("list__name"))
        return super().get_queryset(request).prefetch_related(with_lists)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        """Indexes campaigns_contact_name and that of unique addresses; a part of a name is looked for in the newest."""
        term = search_term.strip().lower()
        if not term:
            return queryset, False
        keys = people(term)
        if "@" not in term:
            named = Contact.objects.order_by().alias(key=Lower("name"))
            newest = Contact.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
            for some in (named.filter(key__startswith=term), named.filter(key__contains=term, pk__gt=newest - ContactList.window)):
                keys += some.values_list("pk", flat=True)[: MOST_FOUND - len(keys)]
        return queryset.filter(pk__in=keys), False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ContactList

    def get_readonly_fields(self, request: HttpRequest, obj: Contact | None = None) -> list[str] | tuple[str, ...]:
        # Consents are for an address: another address is another contact.
        return ("email",) if obj else ()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        contact = self.get_object(request, object_id)
        context: dict[str, Any] = {}
        if contact:
            context = {
                "subscriptions": contact.subscriptions.select_related("list", "consent"),
                "consents": contact.consents.select_related("list", "recorded_by"),
                "suppression": Suppression.in_force().filter(address=contact.email, project=0).first(),
                "history": history.of(contact.email) if request.user.has_perm("delivery.view_event") else None,
            }
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Consents, subscriptions and the like go with their contact, though nobody may delete them one by one."""
        contacts = [str(contact) for contact in objs]
        return contacts, {Contact._meta.verbose_name_plural: len(contacts)}, set(), []

    def delete_model(self, request: HttpRequest, obj: Contact) -> None:
        subscriptions.forget(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Contact]) -> None:
        for contact in queryset:
            subscriptions.forget(contact)

    @admin.display(description=_("lists"))
    def on_lists(self, contact: Contact) -> SafeString:
        return format_html_join(
            " ",
            '<span class="badge {}">{}</span>',
            ((subscription.status, subscription.list.name) for subscription in contact.subscriptions.all()),
        )


@admin.register(MailingList)
class MailingListAdmin(ExplainedDeletion[MailingList]):
    list_display = ("name", "subscribers", "lately", "created_at")
    search_fields = ("name",)
    fields = ("name", "description", "may_track")
    empty_hint = _("A campaign goes to one list or several. People join with their consent, and leave with one click.")
    instead = _("What people agreed to stays on record, and with it the list. Give it a name that says that it is no longer used.")

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        if db_field.name == "description":
            kwargs["widget"] = rows(3)
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[MailingList]:
        return MailingList.objects.with_growth(timezone.localdate() - LATELY).order_by("name")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        found = self.get_object(request, object_id)
        context = {"weeks": growth.weeks(found)} if found else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description=_("subscribers"), ordering="subscribed")
    def subscribers(self, mailing_list: Any) -> SafeString:
        url = reverse("admin:campaigns_contact_changelist")
        return format_html('<a href="{}?list={}">{}</a>', url, mailing_list.pk, grouped(mailing_list.subscribed))

    @admin.display(description=_("last 30 days"))
    def lately(self, mailing_list: Any) -> SafeString:
        return format_html(
            '<span class="joined">+{}</span> <span class="left">−{}</span>', grouped(mailing_list.joined), grouped(mailing_list.left)
        )


class SubscriptionList(RowList):
    """Index campaigns_subscription_walk."""

    parent, order, asks = "list_id", "contact_id", "list__id__exact"


@admin.register(Subscription)
class SubscriptionAdmin(Address[Subscription]):
    list_display = ("person", "list", "state", "agreed", "changed_at")
    list_filter = ("status", "list")
    list_select_related = ("list", "consent")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return SubscriptionList

    @admin.display(description=_("status"))
    def state(self, subscription: Subscription) -> SafeString:
        return badge(subscription.status, subscription.get_status_display())

    @admin.display(description=_("consent"))
    def agreed(self, subscription: Subscription) -> SafeString | str:
        consent = subscription.consent
        return two_lines(consent.get_basis_display(), consent.source) if consent else "—"


class ConsentList(RowList):
    """Index campaigns_consent_list."""

    parent, order, asks = "list_id", "id", "list__id__exact"


@admin.register(Consent)
class ConsentAdmin(Address[Consent]):
    list_display = ("person", "list", "ground", "recorded_by", "at")
    list_filter = ("basis", "list")
    list_select_related = ("list", "recorded_by")
    lead = _("Who agreed or withdrew, when, how and to which text. Nothing here is ever changed.")
    empty_hint = _("Each time that somebody joins a list or leaves it, the proof comes here.")
    fields = ("contact", "list", "basis", "source", "text", "ip_address", "recorded_by", "at")
    actions = ("export",)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ConsentList

    @admin.display(description=_("basis and source"))
    def ground(self, consent: Consent) -> SafeString:
        return two_lines(consent.get_basis_display(), consent.source)

    @admin.action(description=_("Export as CSV"), permissions=["view"])
    def export(self, request: HttpRequest, queryset: QuerySet[Consent]) -> StreamingHttpResponse:
        """The proof, as a court or an authority may ask for it."""
        return exports.consents(queryset)


@admin.register(Import)
class ImportAdmin(ReadOnlyAdmin[Import]):
    list_display = ("name", "list", "rows", "created", "updated", "rejected", "by", "at")
    list_filter = ("list",)
    list_select_related = ("list", "by")
    empty_hint = _("Files of contacts that were read in stand here, with the rows that could not be used.")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(pages.rejected)
        return [path("<int:pk>/rejected/", view, name="campaigns_import_rejected"), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Import]:
        # A thousand rows each.
        return super().get_queryset(request).defer("rejections")
