"""Pages for staff that are no change forms: credentials, previews, and what became of a submission."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from cryptography.fernet import InvalidToken
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import Count, Min, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.html import escape, format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST, require_safe

from mailhub.delivery import formats, preview
from mailhub.delivery.models import Message
from mailhub.delivery.rendering import Rendered
from mailhub.delivery.search import Span
from mailhub.lib import fields
from mailhub.lib.charts import percent
from mailhub.relays.base import Refused
from mailhub.relays.models import Stream
from mailhub.relays.pages import demand, page
from mailhub.senders.models import Sender
from mailhub.webhooks.models import Endpoint
from mailhub.webhooks.pages import endpoint_badge
from transactional import samples, sending, subjects, travel, variables
from transactional.connect import Access
from transactional.filters import OfProject
from transactional.forms import CredentialForm, DaysForm, IssuedCredentialForm, PublishForm, TestForm
from transactional.models import Credential, Project, Submission, Template, TemplateVersion
from transactional.requests import NotAccepted

# Where a new secret waits, encrypted, for the one page that shows it.
ISSUED = "transactional.issued"
# Recipients of one submission that its page lists.
LISTED = 100
# Of a project's mails so many are counted on its page.
LATEST = 1_000

# ------------------------------------------------------------------------------------------------------------------ projects


def overview(project: Project) -> dict[str, Any]:
    """What a project's own page shows beside its fields."""
    # Those that are told of all mail are told of this project's, too.
    told = Endpoint.objects.filter(Q(project_ref=project.pk) | Q(project_ref=None)).defer("secret", "old_secret").order_by("name")
    endpoints = [(endpoint, endpoint_badge(endpoint)) for endpoint in told]
    credentials = list(project.credentials.order_by("name"))
    return {"project": project, "credentials": credentials, "endpoints": endpoints, "fates": fates(project), "latest": LATEST}


def fates(project: Project) -> list[tuple[Message.Status, int]]:
    """What became of the project's latest mails, in the order of a mail's life: how many recipients of each state there are.

    Indexes transactional_submission_of and delivery_message_content: so many probes, however many mails there are."""
    handed_in = Submission.objects.filter(project=project).order_by("-pk").values("content")[:LATEST]
    rows = Message.objects.filter(stream=Stream.TRANSACTIONAL, content__in=handed_in).order_by()
    counts = dict(rows.values_list("status").annotate(number=Count("pk")))
    return [(status, counts[status]) for status in Message.Status if status in counts]


@require_safe
def by_subject(request: HttpRequest) -> HttpResponse:
    """What became of the mails of some days, by project and by template or subject."""
    demand(request, "transactional.view_submission", "delivery.view_message")
    asked = {**DaysForm.usual(), **request.GET.dict()}
    form = DaysForm(asked)
    found = subjects.Found([], 0, None)
    if form.is_valid():
        project = form.cleaned_data["project"]
        found = subjects.look(Span.of_days(asked["since"], asked["until"]), project.pk if project else None)
    rows = [_kind_of_mail(group, asked["since"], asked["until"]) for group in found.groups]
    title = _("Mail by subject and template")
    context = {"form": form, "rows": rows, "more": found.more, "back_to": found.back_to, "looked": subjects.LOOKED_AT}
    return page(request, "admin/transactional/subjects.html", title, Submission, **context)


def _kind_of_mail(group: subjects.Group, since: str, until: str) -> dict[str, Any]:
    what = {"template": group.template} if group.template else {"subject": group.subject}
    asked = {"project": str(group.project or OfProject.OWN), **what, "since": since, "until": until}
    return {
        "group": group,
        "name": group.template or group.subject or _("no subject"),
        "project": group.project_name or _("MailHub itself"),
        "url": f"{reverse('admin:delivery_message_changelist')}?{urlencode({name: value for name, value in asked.items() if value})}",
        "sent": percent(group.sent, group.mails),
        "lost": percent(group.lost, group.mails),
        "opened": percent(group.opened, group.sent),
        "clicked": percent(group.clicked, group.sent),
    }


@require_safe
def connect(request: HttpRequest, pk: int) -> HttpResponse:
    """What to paste where, and how far the site has come."""
    demand(request, "transactional.view_project")
    project = get_object_or_404(Project, pk=pk)
    kinds = dict(project.credentials.order_by("pk").values_list("kind", "prefix"))
    sender = first_sender(project)
    access = Access(user=kinds.get(Credential.Kind.SMTP, ""), password="", sender=sender.email if sender else "")
    title = _("Connect “%(project)s”") % {"project": project}
    # Index transactional_submission_of.
    last = Submission.objects.filter(project=project).order_by("-pk").first()
    context = {"project": project, "campaigns": project.stream == Stream.CAMPAIGN, "access": access, "own": own_process(sender)}
    context |= {"sender": sender, "kinds": kinds, "last": last}
    return page(request, "admin/transactional/connect_page.html", title, Project, **context)


@require_safe
def about_delivery(request: HttpRequest) -> HttpResponse:
    """How a mail travels, and which part of the way MailHub is."""
    return page(request, "admin/transactional/help.html", _("How a mail travels"), Project, steps=travel.steps())


def first_sender(project: Project) -> Sender | None:
    """The one that settings to paste name."""
    return project.senders.filter(status=Sender.Status.CONFIRMED).order_by("email").first()


def own_process(sender: Sender | None) -> str:
    """Settings for a Django site that runs in MailHub's own process, to be pasted."""
    return "\n".join([
        'EMAIL_BACKEND = "transactional.backend.EmailBackend"',
        f'DEFAULT_FROM_EMAIL = "{sender.email if sender else "…"}"',
    ])  # fmt: skip


def issue(request: HttpRequest, pk: int) -> HttpResponse:
    """A new credential. Its secret is kept nowhere but, encrypted, for the next page."""
    demand(request, "transactional.add_credential")
    project = get_object_or_404(Project, pk=pk)
    # Who comes from the settings for SMTP wants a password.
    by_smtp = project.stream == Stream.TRANSACTIONAL and request.GET.get("kind") == Credential.Kind.SMTP
    kind = Credential.Kind.SMTP if by_smtp else Credential.Kind.API_KEY
    form = CredentialForm(request.POST or None, instance=Credential(project=project, kind=kind))
    if not form.is_valid():
        title = _("New credential for “%(project)s”") % {"project": project}
        return page(request, "admin/transactional/credential.html", title, Project, project=project, form=form)
    credential = form.instance
    secret = credential.issue()
    credential.save()
    request.session[ISSUED] = [credential.pk, fields.cipher().encrypt(secret.encode()).decode()]
    _log(request, project, _("Credential “%(credential)s” issued.") % {"credential": credential})
    return redirect("admin:transactional_project_issued", project.pk, credential.pk)


@require_safe
def issued(request: HttpRequest, pk: int, credential_pk: int) -> HttpResponse:
    """Shows the secret, once."""
    demand(request, "transactional.add_credential")
    credential = get_object_or_404(Credential.objects.select_related("project"), pk=credential_pk, project=pk)
    waiting, token = request.session.pop(ISSUED, (None, ""))
    if waiting != credential.pk:
        messages.warning(request, _("A secret is shown once. If it is lost, revoke the credential and issue another."))
        return redirect("admin:transactional_project_change", pk)
    try:
        secret = fields.cipher().decrypt(token.encode()).decode()
    except InvalidToken:
        secret = ""
    title = _("The secret of “%(name)s”") % {"name": credential.name}
    sender = first_sender(credential.project)
    is_smtp = credential.kind == Credential.Kind.SMTP
    access = Access(
        user=credential.prefix if is_smtp else "",
        password=secret if is_smtp else "",
        key="" if is_smtp else secret,
        sender=sender.email if sender else "",
    )
    context = {"project": credential.project, "credential": credential, "secret": secret, "access": access}
    return page(request, "admin/transactional/issued.html", title, Project, **context)


def change_credential(request: HttpRequest, pk: int, credential_pk: int) -> HttpResponse:
    """What one that is in use may, and from where and until when; its secret stays."""
    demand(request, "transactional.change_credential")
    credential = get_object_or_404(Credential.objects.select_related("project"), pk=credential_pk, project=pk)
    form = IssuedCredentialForm(request.POST or None, instance=credential)
    project = credential.project
    if not form.is_valid():
        title = _("Change “%(credential)s”") % {"credential": credential}
        context = {"project": project, "form": form, "credential": credential}
        return page(request, "admin/transactional/credential.html", title, Project, **context)
    # Doors note meanwhile that it is used.
    credential.save(update_fields=["name", "scopes", "networks", "expires_at"])
    words = _("Credential “%(credential)s” changed.") % {"credential": credential}
    _log(request, project, words)
    messages.success(request, words)
    return redirect("admin:transactional_project_change", pk)


def revoke(request: HttpRequest, pk: int, credential_pk: int) -> HttpResponse:
    """Asks first."""
    demand(request, "transactional.delete_credential")
    credential = get_object_or_404(Credential.objects.select_related("project"), pk=credential_pk, project=pk)
    if request.method == "POST":
        words = _("Credential “%(credential)s” revoked.") % {"credential": credential}
        credential.delete()
        _log(request, credential.project, words)
        messages.success(request, words)
        return redirect("admin:transactional_project_change", pk)
    title = _("Revoke “%(credential)s”?") % {"credential": credential}
    return page(
        request,
        "admin/transactional/revoke.html",
        title,
        Project,
        project=credential.project,
        credential=credential,
        button=_("Revoke"),
        danger=True,
        back=reverse("admin:transactional_project_change", args=[pk]),
    )


def _log(request: HttpRequest, project: Project, words: str) -> None:
    admin.site.get_model_admin(Project).log_change(request, project, words)


# ----------------------------------------------------------------------------------------------------------------- templates


# How a template is looked at: what the switch calls it, and the query that its frame has.
VIEWS = (("desktop", gettext_lazy("Desktop"), ""), ("phone", gettext_lazy("Phone"), ""), ("dark", gettext_lazy("Dark"), "?dark=1"))


def desk(template: Template) -> dict[str, Any]:
    """What a template's own page shows beside its fields."""
    written = {other.language: other.pk for other in Template.objects.filter(key=template.key).only("language")}
    sample = template.sample if isinstance(template.sample, dict) else {}
    said = None
    with suppress(Refused, formats.NotWellFormed):
        said = preview.render(template.subject, template.html, template.text, sample)
    lacking = [words for found in template.mistakes(sample.keys()).values() for words in found]
    version = template.published
    return {
        "said": said,
        "lacking": sorted(set(map(str, lacking))),
        "languages": [(code, name, written.get(code)) for code, name in settings.LANGUAGES],
        "views": VIEWS,
        "version": version,
        "changed": template.changed,
        "variables": list(variables.names(sample)),
        "spared": [name.strip() for name in template.optional.split(",") if name.strip()],
    }


def of_template(permission: str) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponse]]:
    """A view of the template that the URL names, and of one of its versions where it names one."""

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def wrapped(request: HttpRequest, pk: int, number: int | None = None) -> HttpResponse:
            demand(request, f"transactional.{permission}_template")
            template = get_object_or_404(Template.objects.select_related("published"), pk=pk)
            if number is None:
                return view(request, template)
            return view(request, template, get_object_or_404(template.versions, number=number))

        return wrapped

    return decorate


@require_safe
@of_template("view")
def show_template(request: HttpRequest, template: Template, version: TemplateVersion | None = None) -> HttpResponse:
    """For a frame: what is written, or a version."""
    dark = "dark" in request.GET
    words = version or template
    try:
        return preview.frame(words.subject, words.html, words.text, words.sample, dark=dark)
    except formats.NotWellFormed as error:
        return preview.framed(str(escape(error)), preview.POLICY)


@of_template("change")
def publish(request: HttpRequest, template: Template) -> HttpResponse:
    """Asks first, and says what changes."""
    form = PublishForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            version = template.publish(_user(request), form.cleaned_data["note"])
        except ValidationError as error:
            form.add_error(None, error)
        else:
            return _told(request, template, _("Published as version %(number)s.") % {"number": version.number})
    title = _("Publish “%(template)s”?") % {"template": template}
    context = {"original": template, "version": template.published, "form": form}
    return page(request, "admin/transactional/template/publish.html", title, Template, **context)


@require_safe
@of_template("view")
def versions(request: HttpRequest, template: Template) -> HttpResponse:
    """All that were published, the newest first."""
    found = template.versions.select_related("published_by").defer("html", "text", "sample")
    title = _("Versions of “%(template)s”") % {"template": template}
    return page(request, "admin/transactional/template/versions.html", title, Template, original=template, versions=found)


@require_safe
@of_template("view")
def version(request: HttpRequest, template: Template, version: TemplateVersion) -> HttpResponse:
    """One of them, and how it differs from what is sent."""
    with suppress(Refused):
        said = preview.render(version.subject, version.html, version.text, version.sample)
        return _version(request, template, version, said)
    return _version(request, template, version, None)


def _version(request: HttpRequest, template: Template, version: TemplateVersion, said: Rendered | None) -> HttpResponse:
    title = _("Version %(number)s") % {"number": version.number}
    current = template.published
    lines = differing(version, current) if current and current != version else []
    context = {"original": template, "version": version, "said": said, "views": VIEWS, "lines": lines, "current": current}
    return page(request, "admin/transactional/template/version.html", title, Template, **context)


def differing(old: TemplateVersion, new: TemplateVersion) -> list[tuple[str, str]]:
    """Lines of `old` that `new` has otherwise, and those of `new`, each with "-", "+" or " "."""
    found = []
    for part in ("subject", "source", "text"):
        for line in difflib.unified_diff(getattr(old, part).splitlines(), getattr(new, part).splitlines(), lineterm="", n=2):
            if not line.startswith(("---", "+++")):
                found.append((line[0], line[1:] if line[0] != "@" else line))
    return found


@of_template("change")
def roll_back(request: HttpRequest, template: Template, version: TemplateVersion) -> HttpResponse:
    """Asks first."""
    if request.method == "POST":
        template.use(version)
        return _told(request, template, _("Version %(number)s is what is sent now.") % {"number": version.number})
    title = _("Send version %(number)s again?") % {"number": version.number}
    back = reverse("admin:transactional_template_versions", args=[template.pk])
    context = {"original": template, "version": version, "button": _("Send this version"), "back": back}
    return page(request, "admin/transactional/template/roll_back.html", title, Template, **context)


@require_POST
@of_template("change")
def take_back(request: HttpRequest, template: Template, version: TemplateVersion) -> HttpResponse:
    template.take_back(version)
    return _told(request, template, _("What is written here is version %(number)s again.") % {"number": version.number})


@of_template("change")
def test_template(request: HttpRequest, template: Template) -> HttpResponse:
    """Sends what is written, with the samples, to one address."""
    form = TestForm(request.POST or None, initial={"address": _user(request).email})
    if form.is_valid():
        try:
            submission = sending.send_draft(template, form.cleaned_data["sender"], form.cleaned_data["address"])
        except NotAccepted as refused:
            form.add_error(None, refused.words)
        else:
            mail = submission.content.messages.get()
            link = format_html('<a href="{}">{}</a>', reverse("admin:delivery_message_change", args=[mail.pk]), _("See what becomes of it"))
            words = _("A test is on its way to %(address)s.") % {"address": mail.address}
            messages.success(request, format_html("{} {}", words, link))
            return redirect("admin:transactional_template_change", template.pk)
    title = _("Send a test of “%(template)s”") % {"template": template}
    return page(request, "admin/transactional/template/test.html", title, Template, original=template, form=form)


def _told(request: HttpRequest, template: Template, words: str) -> HttpResponse:
    admin.site.get_model_admin(Template).log_change(request, template, words)
    messages.success(request, words)
    return redirect("admin:transactional_template_change", template.pk)


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101  admin_view() lets nobody else in
    return request.user


@require_POST
def add_samples(request: HttpRequest) -> HttpResponse:
    demand(request, "transactional.add_template")
    count = samples.load()
    messages.success(request, ngettext("%(n)s sample was added.", "%(n)s samples were added.", count) % {"n": count})
    return redirect("admin:transactional_template_changelist")


# --------------------------------------------------------------------------------------------------------------- submissions


def recipients(contents: Collection[int]) -> dict[int, tuple[str, int]]:
    """The first recipient of each content, and how many there are. Index delivery_message_content."""
    rows = Message.objects.filter(content__in=contents, stream=Stream.TRANSACTIONAL).values_list("content")
    return {content: (first, count) for content, first, count in rows.annotate(Min("address"), Count("pk"))}


def fate(submission: Submission, *, may_read: bool) -> dict[str, Any]:
    """What a submission's own page shows: its mails, and with `may_read` the subject as the first of them had it."""
    mails = Message.objects.filter(content=submission.content_id, stream=Stream.TRANSACTIONAL).order_by("pk")
    subject = submission.content.subject
    if may_read and (first := mails.first()):
        # Where it fails, the words with their placeholders will do.
        with suppress(Refused):
            subject = preview.render(subject, "", " ", {**first.data, "email": first.address}).subject
    listed = mails.select_related("relay").defer("data", "relay__secrets")[:LISTED]
    return {"submission": submission, "subject": subject, "mails": listed, "count": mails.count()}
