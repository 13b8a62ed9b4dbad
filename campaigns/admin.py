from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from campaigns import exports, growth, pages, subscriptions
from campaigns.models import Campaign, Consent, Contact, Import, LeftOut, MailingList, Subscription, Template
from mailhub.admin import BigTableAdmin, ReadOnlyAdmin, badge
from mailhub.delivery.models import Suppression
from mailhub.delivery.templatetags.figures import grouped, meter

LATELY = timedelta(days=30)
CODE: dict[type[models.Field[Any, Any]], dict[str, Any]] = {
    models.TextField: {"widget": forms.Textarea(attrs={"rows": 18, "spellcheck": "false", "class": "vLargeTextField code"})}
}

View = Callable[..., HttpResponseBase]


# ---------------------------------------------------------------------------------------------------------------------- send


@admin.register(Campaign)
class CampaignAdmin(admin.ModelAdmin[Campaign]):
    list_display = ("name", "state", "through", "recipients", "sender", "moment")
    list_filter = ("status", "sender", "lists")
    search_fields = ("name", "subject")
    list_select_related = ("batch", "sender")
    formfield_overrides = CODE
    fieldsets = (
        (None, {"fields": ("name", "sender", "lists", ("route", "language"))}),
        (_("What it says"), {"fields": ("subject", "html", "text")}),
    )

    class Media:
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

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial: dict[str, Any] = super().get_changeform_initial_data(request)
        template = Template.objects.filter(pk=initial.pop("template", None)).first()
        if template:
            initial |= {"subject": template.subject, "html": template.html, "text": template.text, "language": template.language}
        return initial

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().add_view(request, form_url, {"templates": Template.objects.all(), **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        campaign = self.get_object(request, object_id)
        return super().change_view(request, object_id, form_url, {**pages.overview(campaign), **(extra_context or {})})

    @admin.display(description=_("state"))
    def state(self, campaign: Campaign) -> SafeString:
        return badge(campaign.state, campaign.get_state_display())

    @admin.display(description=_("handed over"))
    def through(self, campaign: Campaign) -> str:
        return meter(campaign.batch) if campaign.batch else ""

    @admin.display(description=_("recipients"))
    def recipients(self, campaign: Campaign) -> str:
        return grouped(campaign.batch.total) if campaign.batch else ""

    @admin.display(description=_("when"), ordering="-id")
    def moment(self, campaign: Campaign) -> Any:
        return campaign.batch.created_at if campaign.batch else campaign.scheduled_at or campaign.created_at


@admin.register(Template)
class TemplateAdmin(admin.ModelAdmin[Template]):
    list_display = ("name", "subject", "language", "created_at")
    list_filter = ("language",)
    search_fields = ("name", "subject")
    formfield_overrides = CODE
    fieldsets = ((None, {"fields": (("name", "language"),)}), (_("What it says"), {"fields": ("subject", "html", "text")}))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(pages.show_template)
        return [path("<int:pk>/preview/", view, name="campaigns_template_preview"), *super().get_urls()]


@admin.register(LeftOut)
class LeftOutAdmin(BigTableAdmin[LeftOut]):
    list_display = ("contact", "reason", "campaign")
    list_filter = ("reason", ("campaign", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("contact", "campaign")
    show_full_result_count = False


# -------------------------------------------------------------------------------------------------------------------- people


@admin.register(Contact)
class ContactAdmin(admin.ModelAdmin[Contact]):
    list_display = ("email", "name", "on_lists", "language", "created_at")
    list_filter = ("language", "lists")
    search_fields = ("email__startswith", "name")
    show_full_result_count = False
    fields = ("email", "name", "language", "attributes")

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
                "suppression": Suppression.objects.filter(address=contact.email).first(),
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
class MailingListAdmin(admin.ModelAdmin[MailingList]):
    list_display = ("name", "subscribers", "lately", "created_at")
    search_fields = ("name",)
    fields = ("name", "description")

    def get_queryset(self, request: HttpRequest) -> QuerySet[MailingList]:
        return MailingList.objects.with_growth(timezone.now() - LATELY).order_by("name")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        found = self.get_object(request, object_id)
        context = {"weeks": growth.weeks(found)} if found else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description=_("subscribers"), ordering="subscribed")
    def subscribers(self, mailing_list: Any) -> SafeString:
        url = reverse("admin:campaigns_contact_changelist")
        return format_html('<a href="{}?lists__id__exact={}">{}</a>', url, mailing_list.pk, grouped(mailing_list.subscribed))

    @admin.display(description=_("last 30 days"))
    def lately(self, mailing_list: Any) -> SafeString:
        return format_html(
            '<span class="joined">+{}</span> <span class="left">−{}</span>', grouped(mailing_list.joined), grouped(mailing_list.left)
        )


@admin.register(Subscription)
class SubscriptionAdmin(BigTableAdmin[Subscription]):
    list_display = ("contact", "list", "state", "consent", "changed_at")
    list_filter = ("status", "list")
    search_fields = ("contact__email__startswith",)
    list_select_related = ("contact", "list", "consent")
    show_full_result_count = False

    @admin.display(description=_("status"))
    def state(self, subscription: Subscription) -> SafeString:
        return badge(subscription.status, subscription.get_status_display())


@admin.register(Consent)
class ConsentAdmin(BigTableAdmin[Consent]):
    list_display = ("contact", "list", "basis", "source", "recorded_by", "at")
    list_filter = ("basis", "list")
    search_fields = ("contact__email__startswith",)
    list_select_related = ("contact", "list", "recorded_by")
    show_full_result_count = False
    fields = ("contact", "list", "basis", "source", "text", "ip_address", "recorded_by", "at")
    actions = ("export",)

    @admin.action(description=_("Export as CSV"), permissions=["view"])
    def export(self, request: HttpRequest, queryset: QuerySet[Consent]) -> StreamingHttpResponse:
        """The proof, as a court or an authority may ask for it."""
        return exports.consents(queryset)


@admin.register(Import)
class ImportAdmin(ReadOnlyAdmin[Import]):
    list_display = ("name", "list", "rows", "created", "updated", "rejected", "by", "at")
    list_filter = ("list",)
    list_select_related = ("list", "by")
    fields = ("name", "list", "basis", "source", "encoding", "by", "at")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(pages.rejected)
        return [path("<int:pk>/rejected/", view, name="campaigns_import_rejected"), *super().get_urls()]
