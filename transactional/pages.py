"""Pages for staff that are no change forms: credentials, previews, and what became of a submission."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

from cryptography.fernet import InvalidToken
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from mailhub.delivery import prepare, preview
from mailhub.delivery.models import Message
from mailhub.lib import fields
from mailhub.relays.base import Refused
from mailhub.relays.models import Stream
from mailhub.relays.pages import demand, page
from mailhub.senders.models import Sender
from transactional import samples
from transactional.connect import Access
from transactional.forms import CredentialForm
from transactional.models import Credential, Project, Submission, Template

# Where a new secret waits, encrypted, for the one page that shows it.
ISSUED = "transactional.issued"
# Recipients of one submission that its page lists.
LISTED = 100

# ------------------------------------------------------------------------------------------------------------------ projects


def overview(project: Project) -> dict[str, Any]:
    """What a project's own page shows beside its fields."""
    credentials = list(project.credentials.order_by("name"))
    user = next((credential.prefix for credential in credentials if credential.kind == Credential.Kind.SMTP), "")
    sender = first_sender(project)
    access = Access(user=user, password="", sender=sender.email if sender else "")
    return {"project": project, "credentials": credentials, "connect": connect(sender), "access": access}


def first_sender(project: Project) -> Sender | None:
    """The one that settings to paste name."""
    return project.senders.filter(status=Sender.Status.CONFIRMED).order_by("email").first()


def connect(sender: Sender | None) -> str:
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
    kind = Credential.Kind.SMTP if request.GET.get("kind") == Credential.Kind.SMTP else Credential.Kind.API_KEY
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
    access = None
    if credential.kind == Credential.Kind.SMTP:
        sender = first_sender(credential.project)
        access = Access(user=credential.prefix, password=secret, sender=sender.email if sender else "")
    context = {"project": credential.project, "credential": credential, "secret": secret, "access": access}
    return page(request, "admin/transactional/issued.html", title, Project, **context)


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


def desk(template: Template) -> dict[str, Any]:
    """What a template's own page shows beside its fields."""
    written = {other.language: other.pk for other in Template.objects.filter(key=template.key).only("language")}
    sample = template.sample if isinstance(template.sample, dict) else {}
    try:
        said = preview.render(template.subject, template.html, template.text, sample)
    except Refused:
        said = None
    return {
        "said": said,
        "lacking": sorted({problem.message for problem in prepare.check(template.subject, template.html, template.text, sample.keys())}),
        "languages": [(code, name, written.get(code)) for code, name in settings.LANGUAGES],
    }


@require_safe
def show_template(request: HttpRequest, pk: int) -> HttpResponse:
    demand(request, "transactional.view_template")
    template = get_object_or_404(Template, pk=pk)
    return preview.frame(template.subject, template.html, template.text, template.sample)


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
