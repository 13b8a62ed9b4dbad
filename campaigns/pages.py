"""Pages for staff that are no change forms: to send, to watch, to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import jinja2
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext
from django.views.decorators.http import require_POST, require_safe

from campaigns import audience, contents, duration, imports, launch, progress, subscriptions
from campaigns.forms import AddressesForm, ImportForm, ScheduleForm, SubscribeForm
from campaigns.imports import Terms, Unreadable
from campaigns.launch import NotReady
from campaigns.models import Campaign, Contact, Import, LeftOut, MailingList, Template
from campaigns.subscriptions import Circumstances
from mailhub.delivery import hits, preview
from mailhub.delivery import progress as batch_progress
from mailhub.delivery.models import Content
from mailhub.delivery.pages import page, sample, told
from mailhub.delivery.rendering import Rendered
from mailhub.lib import sentences
from mailhub.lib.sheets import sheet
from mailhub.lib.states import WrongState
from mailhub.relays.base import Refused
from mailhub.webhooks import outbox

View = Callable[..., HttpResponse]


def of_campaign(permission: str) -> Callable[[View], View]:
    """A view of the campaign that the URL names, for whoever has the permission."""

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(request: HttpRequest, pk: int, **kwargs: Any) -> HttpResponse:
            _demand(request, permission)
            return view(request, get_object_or_404(Campaign.objects.select_related("sender", "route", "batch__content"), pk=pk), **kwargs)

        return wrapped

    return decorate


def _demand(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(f"campaigns.{permission}"):
        raise PermissionDenied


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101  admin_view() lets nobody else in
    return request.user


def _log(request: HttpRequest, campaign: Campaign, deed: str) -> None:
    admin.site.get_model_admin(Campaign).log_change(request, campaign, deed)


def _to(campaign: Campaign) -> HttpResponse:
    return redirect("admin:campaigns_campaign_change", campaign.pk)


# ------------------------------------------------------------------------------------------------------------------- sending


@of_campaign("send_campaign")
def send(request: HttpRequest, campaign: Campaign) -> HttpResponse:
    """Asks before sending: what, from whom, through what, to how many, and what speaks against it."""
    schedule = ScheduleForm(request.POST if "schedule" in request.POST else None)
    try:
        if "now" in request.POST:
            launch.launch(campaign, _user(request))
            return _done(request, campaign, _("“%(name)s” is being sent.") % {"name": campaign})
        if schedule.is_bound and schedule.is_valid():
            launch.schedule(campaign, schedule.cleaned_data["at"], _user(request))
            when = date_format(timezone.localtime(campaign.scheduled_at), "DATETIME_FORMAT")
            return _done(request, campaign, _("“%(name)s” will be sent on %(when)s.") % {"name": campaign, "when": when})
    except NotReady as error:
        for problem in error.problems:
            messages.error(request, sentences.joined(problem.message, problem.remedy))
    except WrongState:
        return _too_late(request, campaign)
    if campaign.status != Campaign.Status.DRAFT:
        return _to(campaign)
    problems = launch.check(campaign)
    count = audience.count(campaign)
    return page(
        request,
        "admin/campaigns/send.html",
        _("Send “%(name)s”?") % {"name": campaign},
        Campaign,
        campaign=campaign,
        lists=campaign.lists.all(),
        route=campaign.route_in_force,
        recipients=count.recipients,
        left_out=_in_words(count.left_out),
        problems=problems,
        ready=not any(problem.level == "error" for problem in problems),
        said=_said(campaign),
        schedule=schedule,
        forecast=duration.of(campaign, count.recipients),
    )


def _in_words(left_out: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(str(LeftOut.Reason(reason).label), count) for reason, count in sorted(left_out.items())]


def _done(request: HttpRequest, campaign: Campaign, words: str) -> HttpResponse:
    _log(request, campaign, words)
    messages.success(request, words)
    return _to(campaign)


def _too_late(request: HttpRequest, campaign: Campaign) -> HttpResponse:
    campaign = Campaign.objects.select_related("batch").get(pk=campaign.pk)
    messages.warning(
        request, _("Nothing was done: “%(name)s” is %(state)s by now.") % {"name": campaign, "state": campaign.get_state_display()}
    )
    return _to(campaign)


@require_POST
@of_campaign("send_campaign")
def act(request: HttpRequest, campaign: Campaign, deed: str) -> HttpResponse:
    """Pause, resume or unschedule."""
    words = {"pause": _("Paused."), "resume": _("Sending goes on."), "unschedule": _("It is a draft again.")}
    try:
        getattr(campaign, deed)()
    except WrongState:
        return _too_late(request, campaign)
    return _done(request, campaign, words[deed])


@of_campaign("send_campaign")
def cancel(request: HttpRequest, campaign: Campaign) -> HttpResponse:
    if campaign.batch is None or campaign.state not in audience.FILLING:
        return _too_late(request, campaign)
    if request.method == "POST":
        try:
            campaign.cancel()
        except WrongState:
            return _too_late(request, campaign)
        return _done(request, campaign, _("Withdrawn: nothing more of it is sent."))
    waiting = campaign.batch.waiting + campaign.batch.deferred
    return page(
        request,
        "admin/delivery/cancel.html",
        _("Withdraw “%(name)s”?") % {"name": campaign},
        Campaign,
        row=campaign,
        waiting=waiting,
        gone=campaign.batch.total - waiting,
    )


@require_POST
@of_campaign("add_campaign")
def copy(request: HttpRequest, campaign: Campaign) -> HttpResponse:
    made = campaign.copy()
    admin.site.get_model_admin(Campaign).log_addition(request, made, _("Copied from “%(name)s”.") % {"name": campaign})
    messages.success(request, _("This is the copy: a draft, of which nothing has been sent."))
    return _to(made)


@require_POST
@of_campaign("change_campaign")
def test(request: HttpRequest, campaign: Campaign) -> HttpResponse:
    """Send it to who asks, or to whom they say."""
    form = AddressesForm(request.POST if "to" in request.POST else {"to": _user(request).email})
    if form.is_valid():
        try:
            launch.send_tests(campaign, form.cleaned_data["to"])
            whom = pgettext("between things", ", ").join(form.cleaned_data["to"])
            messages.success(request, _("A test is on its way to %(address)s.") % {"address": whom})
        except NotReady as error:
            for problem in error.problems:
                messages.error(request, sentences.joined(problem.message, problem.remedy))
    elif "to" in request.POST:
        for words in form.errors["to"]:
            messages.error(request, str(words))
    else:
        messages.error(request, _("Your account has no mail address. Enter one on your user page."))
    return _to(campaign)


# ------------------------------------------------------------------------------------------------------------------ watching


def overview(campaign: Campaign | None) -> dict[str, Any]:
    """What a campaign's own page shows beside its fields."""
    if campaign is None:
        return {}
    return {
        "campaign": campaign,
        "words": progress.words(campaign),
        "progress": campaign.batch and batch_progress.of(campaign.batch),
        "told": hits.told(campaign.batch),
        "tracks_opens": _content(campaign).tracks_opens,
        "tracks_clicks": _content(campaign).links is not None,
        "left_out": progress.left_out(campaign) if campaign.batch else [],
        "problems": launch.check(campaign) if campaign.status != Campaign.Status.LAUNCHED else [],
        "lists": campaign.lists.all(),
        "route": campaign.route_in_force,
        "said": _said(campaign),
        "made_by": dict(outbox.projects()).get(campaign.source_ref) if campaign.source_ref else None,
    }


@require_safe
@of_campaign("view_campaign")
def watch(request: HttpRequest, campaign: Campaign) -> JsonResponse:
    """The progress as it is now, for static/delivery/progress.js."""
    if campaign.batch is None:
        return JsonResponse({"running": False})
    now = batch_progress.of(campaign.batch, sample(request))
    context = {"progress": now, "campaign": campaign, "left_out": progress.left_out(campaign)}
    return told(now, render_to_string("admin/campaigns/progress.html", context, request))


@require_safe
@of_campaign("view_campaign")
def show(request: HttpRequest, campaign: Campaign) -> HttpResponse:
    """The mail as a recipient sees it, for a frame."""
    content = _content(campaign)
    return preview.frame(content.subject, content.html, content.text, launch.sample(campaign).data)


@require_safe
def show_template(request: HttpRequest, pk: int) -> HttpResponse:
    _demand(request, "view_template")
    template = get_object_or_404(Template, pk=pk)
    return preview.frame(template.subject, template.html, template.text, {"name": _("Taro Yamada")})


def _content(campaign: Campaign) -> Content:
    """As it was frozen, or would be now."""
    if campaign.batch:
        return campaign.batch.content
    try:
        return contents.freeze(campaign)
    except jinja2.TemplateSyntaxError:
        # The frame tells the mistake.
        return Content(subject=campaign.subject, html=campaign.html, text=campaign.text)


def _said(campaign: Campaign) -> Rendered | None:
    """What a recipient reads, or None when the templates have mistakes."""
    content = _content(campaign)
    try:
        return preview.render(content.subject, content.html, content.text, launch.sample(campaign).data)
    except Refused:
        return None


# ----------------------------------------------------------------------------------------------------------------- importing


def take_in(request: HttpRequest) -> HttpResponse:
    _demand(request, "add_contact")
    initial = {"list": request.GET.get("list")}
    form = ImportForm(request.POST or None, request.FILES or None, initial=initial)
    if form.is_valid():
        try:
            made = _import(request, form)
        except Unreadable as error:
            form.add_error("file", str(error))
        else:
            return redirect("admin:campaigns_import_change", made.pk)
    return page(request, "admin/campaigns/import.html", _("Import contacts"), Contact, form=form)


@transaction.atomic
def _import(request: HttpRequest, form: ImportForm) -> Import:
    data = form.cleaned_data
    mailing_list = data["list"] or MailingList.objects.create(name=data["new_list"])
    terms = Terms(mailing_list, data["basis"], data["source"], data["text"], _user(request))
    return imports.read(data["file"].file, data["file"].name, terms)


def rejected(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The rows that an import could not use, as CSV to be put right."""
    _demand(request, "view_import")
    made = get_object_or_404(Import, pk=pk)
    return sheet(_("rejected rows"), [_("line"), _("column"), _("value"), _("reason")], made.rejections)


# ------------------------------------------------------------------------------------------------------------------- contacts


def subscribe(request: HttpRequest, pk: int) -> HttpResponse:
    _demand(request, "change_contact")
    contact = get_object_or_404(Contact, pk=pk)
    form = SubscribeForm(request.POST or None)
    if form.is_valid():
        data = form.cleaned_data
        how = Circumstances(source=data["source"], text=data["text"], recorded_by=_user(request))
        subscriptions.subscribe(contact, data["lists"], data["basis"], how)
        messages.success(request, _("%(contact)s is subscribed.") % {"contact": contact})
        return redirect("admin:campaigns_contact_change", contact.pk)
    title = _("Subscribe %(contact)s") % {"contact": contact}
    return page(request, "admin/campaigns/subscribe.html", title, Contact, form=form, contact=contact)


def unsubscribe(request: HttpRequest, pk: int, list_pk: int) -> HttpResponse:
    """On the person's request, by staff."""
    _demand(request, "change_contact")
    contact = get_object_or_404(Contact, pk=pk)
    mailing_list = get_object_or_404(MailingList, pk=list_pk)
    if request.method == "POST":
        how = Circumstances(source=_("by staff in the admin"), recorded_by=_user(request))
        subscriptions.unsubscribe(contact, [mailing_list], how)
        messages.success(request, _("%(contact)s gets no more mails to “%(list)s”.") % {"contact": contact, "list": mailing_list})
        return redirect("admin:campaigns_contact_change", contact.pk)
    title = _("Unsubscribe %(contact)s?") % {"contact": contact}
    return page(request, "admin/campaigns/unsubscribe.html", title, Contact, contact=contact, list=mailing_list)
