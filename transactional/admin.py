from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, Max, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from mailhub.admin import BigTableAdmin, badge, two_lines
from mailhub.delivery.admin import MessageAdmin
from mailhub.relays.deletion import ExplainedDeletion
from transactional import pages
from transactional.filters import OfProject, OfTemplate, Tagged
from transactional.forms import ProjectForm, TemplateForm
from transactional.models import Project, Submission, Template

View = Callable[..., HttpResponseBase]

# ------------------------------------------------------------------------------------------------------------------ projects


@admin.register(Project)
class ProjectAdmin(ExplainedDeletion[Project]):
    lead = _("Sites that hand mail in, the senders they may use, and what lets them in.")
    empty_hint = _("A project is a site that sends mail through MailHub: orders, registrations, password resets.")
    list_display = ("name", "stream", "sender_count", "credential_count", "used_at")
    search_fields = ("name",)
    form = ProjectForm
    fieldsets = (
        (None, {"fields": ("name", "stream", "senders")}),
        (_("From"), {"fields": ("from_policy", "default_sender")}),
        (_("Limits"), {"fields": (("limit_minute", "limit_day"), "keep_bodies_days")}),
        (_("Switched off"), {"fields": ("muted",)}),
        (_("Complaints"), {"fields": ("suppression_scope",)}),
        (_("Opens and clicks"), {"fields": ("tracks_opens", "tracks_clicks")}),
    )
    autocomplete_fields = ("senders",)
    deleted_too = ("credentials",)
    instead = _("Revoke its credentials: then it hands in nothing more, and what it has sent still names it.")

    class Media:
        css = {"all": ["relays/admin.css", "transactional/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: View, name: str) -> URLPattern:
            return path(f"<int:pk>/credentials/{route}", self.admin_site.admin_view(view), name=f"transactional_project_{name}")

        return [
            page("new/", pages.issue, "issue"),
            page("<int:credential_pk>/", pages.issued, "issued"),
            page("<int:credential_pk>/change/", pages.change_credential, "change_credential"),
            page("<int:credential_pk>/revoke/", pages.revoke, "revoke"),
            path("<int:pk>/connect/", self.admin_site.admin_view(pages.connect), name="transactional_project_connect"),
            path("help/", self.admin_site.admin_view(pages.about_delivery), name="transactional_project_help"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Project]:
        counted = {"sender_number": Count("senders", distinct=True), "credential_number": Count("credentials", distinct=True)}
        return super().get_queryset(request).annotate(**counted, last_used_at=Max("credentials__last_used_at"))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        project = self.get_object(request, object_id)
        context = pages.overview(project) if project else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description=_("senders"), ordering="sender_number")
    def sender_count(self, project: Any) -> int:
        return project.sender_number  # type: ignore[no-any-return]

    @admin.display(description=_("credentials"), ordering="credential_number")
    def credential_count(self, project: Any) -> int:
        return project.credential_number  # type: ignore[no-any-return]

    @admin.display(description=_("last used"), ordering="last_used_at")
    def used_at(self, project: Any) -> datetime | None:
        return project.last_used_at  # type: ignore[no-any-return]


# ----------------------------------------------------------------------------------------------------------------- templates


@admin.register(Template)
class TemplateAdmin(admin.ModelAdmin[Template]):
    lead = _("Words of transactional mails, by key and language. Sites send the data for their placeholders.")
    empty_hint = _("Sites can send finished mails, or name a template and send the data alone. The samples show how one is written.")
    form = TemplateForm
    list_display = ("title", "language", "state", "changed_at")
    list_filter = ("language", "format")
    list_select_related = ("published",)
    search_fields = ("key", "subject")
    fieldsets = (
        (None, {"fields": (("key", "language"),)}),
        (_("What it says"), {"fields": ("format", "subject", "source", "text")}),
        (_("What sites give"), {"fields": ("sample", "optional")}),
    )

    class Media:
        css = {"all": ["relays/admin.css", "transactional/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: View, name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"transactional_template_{name}")

        return [
            page("<int:pk>/preview/", pages.show_template, "preview"),
            page("<int:pk>/publish/", pages.publish, "publish"),
            page("<int:pk>/test/", pages.test_template, "test"),
            page("<int:pk>/versions/", pages.versions, "versions"),
            page("<int:pk>/versions/<int:number>/", pages.version, "version"),
            page("<int:pk>/versions/<int:number>/preview/", pages.show_template, "version_preview"),
            page("<int:pk>/versions/<int:number>/use/", pages.roll_back, "use"),
            page("<int:pk>/versions/<int:number>/edit/", pages.take_back, "take_back"),
            page("samples/", pages.add_samples, "samples"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        template = self.get_object(request, object_id)
        context = pages.desk(template) if template else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def response_change(self, request: HttpRequest, obj: Template) -> HttpResponse:
        if "_publish" in request.POST:
            return redirect("admin:transactional_template_publish", obj.pk)
        return super().response_change(request, obj)

    @admin.display(description=_("key"), ordering="key")
    def title(self, template: Template) -> SafeString:
        return two_lines(template.key, template.subject)

    @admin.display(description=_("state"))
    def state(self, template: Template) -> SafeString:
        if template.published is None:
            return badge("draft", gettext("not published"))
        if template.changed:
            return badge("paused", gettext("changed since version %(number)s") % {"number": template.published.number})
        return badge("active", gettext("version %(number)s") % {"number": template.published.number})


# --------------------------------------------------------------------------------------------------------------- submissions


class SubmissionList(ChangeList):
    def get_results(self, request: HttpRequest) -> None:
        """The recipients of the page's rows in one query more."""
        super().get_results(request)
        found = pages.recipients([row.content_id for row in self.result_list])
        for row in self.result_list:
            row.recipients = found.get(row.content_id, ("", 0))


@admin.register(Submission)
class SubmissionAdmin(BigTableAdmin[Submission]):
    lead = _("What sites handed in, the newest first.")
    empty_hint = _("What sites hand in shows here. Add a project, and paste its settings into the site.")
    list_display = ("subject", "to", "accepted_at")
    # Index transactional_submission_of.
    list_filter = ("project",)
    list_select_related = ("project", "content")
    search_fields = ("content__public_id",)
    search_help_text = _("The number that the site was told: “queued as …”")

    class Media:
        css = {"all": ["relays/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(pages.by_subject)
        return [path("subjects/", view, name="transactional_submission_subjects"), *super().get_urls()]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return SubmissionList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Submission], search_term: str
    ) -> tuple[QuerySet[Submission], bool]:
        if not search_term:
            return queryset, False
        try:
            return queryset.filter(content__public_id=UUID(search_term.strip())), False
        except ValueError:
            return queryset.none(), False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Submission]:
        # The mails themselves can be megabytes.
        said = ("content__html", "content__text", "content__raw", "content__headers")
        return super().get_queryset(request).select_related("project", "content").defer(*said)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        submission = self.get_object(request, object_id)
        context = pages.fate(submission, may_read=request.user.has_perm("delivery.view_body")) if submission else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description=_("subject"))
    def subject(self, submission: Submission) -> SafeString:
        origin = gettext("%(project)s, %(way)s") % {
            "project": submission.project or gettext("MailHub itself"),
            "way": submission.get_via_display(),
        }
        return two_lines(submission.content.subject or gettext("no subject"), origin)

    @admin.display(description=_("to"))
    def to(self, submission: Any) -> str:
        first, count = submission.recipients
        return gettext("%(first)s and %(n)s more") % {"first": first, "n": count - 1} if count > 1 else first


# ------------------------------------------------------------------------------------------------------------------ messages

# The log of messages is found by what only this package knows of them, too.
MessageAdmin.list_filter = (*MessageAdmin.list_filter, OfProject, OfTemplate, Tagged)
