"""Pages for staff that are no change forms: deeds on messages and batches, what a mail says, addresses to suppress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, Literal

from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext
from django.views.decorators.http import require_POST, require_safe

from mailhub.delivery import archive, batches, export, hits, preview, progress, queue, reading, suppressions, timeline, workers
from mailhub.delivery.forms import ExportForm, ResendForm, SuppressForm
from mailhub.delivery.models import OPEN, WAITING, Batch, Lease, Message, Suppression, Worker
from mailhub.delivery.progress import Progress, Sample
from mailhub.lib import addresses, clock
from mailhub.lib.charts import grouped
from mailhub.lib.sheets import sheet
from mailhub.lib.states import WrongState
from mailhub.relays.base import Refused
from mailhub.relays.models import Stream

View = Callable[..., HttpResponse]

# Sent again in one go.
MOST_AGAIN = 10_000
# Mails in one archive, and deeds of staff that a message's page lists.
MOST_FILES = 1_000
DEEDS = 20
# Runs nothing, follows no link and loads nothing: who reads a recipient's mail must not be taken for the recipient.
READING = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'"


def demand(request: HttpRequest, *permissions: str) -> None:
    if not request.user.has_perms([f"delivery.{permission}" for permission in permissions]):
        raise PermissionDenied


def of_message(*permissions: str) -> Callable[[View], View]:
    """A view of the message that the URL names, for whoever has the permissions."""

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(request: HttpRequest, pk: int) -> HttpResponse:
            demand(request, *permissions)
            return view(request, get_object_or_404(Message.objects.select_related("content", "sender", "batch"), pk=pk))

        return wrapped

    return decorate


def of_batch(permission: str) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(request: HttpRequest, pk: int, **kwargs: Any) -> HttpResponse:
            demand(request, permission)
            return view(request, get_object_or_404(Batch.objects.select_related("content", "sender", "route"), pk=pk), **kwargs)

        return wrapped

    return decorate


def page(request: HttpRequest, template: str, title: str, model: type[Model], **context: Any) -> TemplateResponse:
    """One of ours, about rows of `model`."""
    return TemplateResponse(request, template, {**admin.site.each_context(request), "title": title, "opts": model._meta, **context})


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101  admin_view() lets nobody else in
    return request.user


def to(row: Model) -> HttpResponse:
    """To the row's own page."""
    return redirect(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", row.pk)


def done(request: HttpRequest, row: Model, words: str) -> HttpResponse:
    admin.site.get_model_admin(type(row)).log_change(request, row, words)
    messages.success(request, words)
    return to(row)


# ------------------------------------------------------------------------------------------------------------------ messages


def about(request: HttpRequest, message: Message) -> dict[str, Any]:
    """What a message's own page shows."""
    may_read = request.user.has_perm("delivery.view_body")
    is_forgotten = reading.forgotten(message.content)
    return {
        "message": message,
        "subject": preview.subject(message),
        "words": timeline.words(message),
        "steps": timeline.of(message),
        "origin": linked(request, timeline.origin(message)),
        "route": (message.batch and message.batch.route) or message.sender.route(message.stream),
        "suppression": Suppression.in_force()
        .filter(address=addresses.key(message.address), project__in=[0, message.source_ref])
        .order_by("project")
        .first(),
        "may_change": request.user.has_perm("delivery.change_message"),
        "waits": message.status in WAITING,
        "resendable": sendable_again(message),
        "may_read": may_read,
        "is_forgotten": is_forgotten,
        "reading": reading.Reading(message) if may_read and not is_forgotten and opened(request, message) else None,
        "deeds": LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(Message), object_id=str(message.pk))
        .select_related("user")
        .order_by("-pk")[:DEEDS],
    }


def sendable_again(message: Message) -> bool:
    """As it is, or as a copy."""
    if message.stream == Stream.TRANSACTIONAL and message.status not in OPEN:
        return not reading.forgotten(message.content)
    return queue.resendable(Message.objects.filter(pk=message.pk)).exists()


# What somebody has opened to read, with the moment: for a while only, as it was recorded once.
OPENED = "delivery.opened"
OPEN_FOR = timedelta(minutes=15)


def opened(request: HttpRequest, message: Message) -> bool:
    """Whether who asks has lately said that they want to read it."""
    moment: float = request.session.get(OPENED, {}).get(str(message.pk), 0)
    return moment > (timezone.now() - OPEN_FOR).timestamp()


@require_POST
@of_message("view_message", "view_body")
def read(request: HttpRequest, message: Message) -> HttpResponse:
    """Shows what it says, and records who looked."""
    admin.site.get_model_admin(Message).log_change(request, message, _("Read what it says."))
    since = (timezone.now() - OPEN_FOR).timestamp()
    kept = {pk: moment for pk, moment in request.session.get(OPENED, {}).items() if moment > since}
    request.session[OPENED] = {**kept, str(message.pk): timezone.now().timestamp()}
    return redirect(reverse("admin:delivery_message_change", args=[message.pk]) + "#said")


def for_readers(view: View) -> View:
    """What only they get who said that they want to read it."""

    @wraps(view)
    def wrapped(request: HttpRequest, message: Message) -> HttpResponse:
        if not opened(request, message):
            raise PermissionDenied
        return view(request, message)

    return wrapped


def linked(request: HttpRequest, row: Model | None) -> dict[str, str] | None:
    """A row of any package, by the words that it has for itself, with a link for who may look at it."""
    if row is None:
        return None
    meta = row._meta
    registered = admin.site._registry.get(type(row))
    may = registered is not None and registered.has_view_permission(request, row)
    url = reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[quote(row.pk)]) if may else ""
    return {"kind": str(meta.verbose_name), "words": str(row), "url": url}


@require_safe
@of_message("view_message", "view_body")
@for_readers
def show(request: HttpRequest, message: Message) -> HttpResponse:
    """The mail's HTML, for a frame."""
    found = reading.Reading(message)
    return preview.framed(found.mail.html if found.mail else escape(found.problem), READING)


@require_safe
@of_message("view_message", "view_body")
@for_readers
def source(request: HttpRequest, message: Message) -> HttpResponse:
    """The whole mail as a file."""
    if reading.forgotten(message.content):
        raise Http404
    try:
        data = reading.source(message)
    except Refused as refusal:
        raise Http404(refusal.reply.text) from refusal
    response = HttpResponse(data, content_type="message/rfc822")
    response["Content-Disposition"] = f'attachment; filename="{message.public_id}.eml"'
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


@of_message("change_message")
def resend(request: HttpRequest, message: Message) -> HttpResponse:
    """Asks to whom. To the same recipient it is the same mail where that may be; all else is a copy with a Message-ID of its own."""
    if not sendable_again(message):
        return _too_late(request, message)
    may_read = request.user.has_perm("delivery.view_body")
    form = ResendForm(request.POST or None, message=message, own=_user(request).email, may_read=may_read)
    if form.is_valid():
        return _resent(request, message, form.cleaned_data["address"], same=form.cleaned_data["to"] == form.SAME)
    title = _("Send the mail to %(address)s again") % {"address": message.address}
    same = queue.resendable(Message.objects.filter(pk=message.pk)).exists()
    return page(request, "admin/delivery/resend.html", title, Message, message=message, form=form, same=same)


def _resent(request: HttpRequest, message: Message, address: str, *, same: bool) -> HttpResponse:
    if same and queue.resend(Message.objects.filter(pk=message.pk)):
        return done(request, message, _("It is queued once more."))
    made = queue.copy(message, address)
    if made is None:
        return _too_late(request, message)
    words = _("A copy to %(address)s is queued.") % {"address": made.address}
    admin.site.get_model_admin(Message).log_change(request, message, words)
    return done(request, made, words)


@of_message("change_message")
def withdraw(request: HttpRequest, message: Message) -> HttpResponse:
    if request.method == "POST":
        if queue.cancel(Message.objects.filter(pk=message.pk)):
            return done(request, message, _("Withdrawn: it is not sent."))
        return _too_late(request, message)
    if message.status not in WAITING:
        return _too_late(request, message)
    title = _("Withdraw the mail to %(address)s?") % {"address": message.address}
    return page(request, "admin/delivery/withdraw.html", title, Message, message=message)


def _too_late(request: HttpRequest, message: Message) -> HttpResponse:
    message = Message.objects.get(pk=message.pk)
    words = _("Nothing was done: the mail to %(address)s is %(state)s by now.")
    messages.warning(request, words % {"address": message.address, "state": message.get_status_display()})
    return to(message)


def resend_many(request: HttpRequest, chosen: QuerySet[Message]) -> HttpResponse | None:
    """An action: asks first, and says how many. None when it is done."""
    fit = queue.resendable(Message.objects.filter(pk__in=chosen.order_by().values("pk")))
    if "confirmed" in request.POST:
        count = 0
        for group in _groups(fit):
            count += queue.resend(group)
            LogEntry.objects.log_actions(_user(request).pk, group, CHANGE, _("It is queued once more."))
        words = ngettext("%(count)s mail is queued once more.", "%(count)s mails are queued once more.", count)
        messages.success(request, words % {"count": count})
        return None
    by_state = dict(fit.order_by().values_list("status").annotate(n=Count("pk")))
    count = sum(by_state.values())
    title = ngettext("Send %(count)s mail again?", "Send %(count)s mails again?", count) if count else _("Send again?")
    return _ask_many(
        request,
        "admin/delivery/resend_many.html",
        title,
        count,
        by_state=[(state, Message.Status(state).label, count) for state, count in sorted(by_state.items())],
        unknown=by_state.get(Message.Status.UNKNOWN, 0),
    )


def withdraw_many(request: HttpRequest, chosen: QuerySet[Message]) -> HttpResponse | None:
    """An action: asks first, and says how many. None when it is done."""
    waiting = Message.objects.filter(pk__in=chosen.order_by().values("pk"), status__in=WAITING)
    if "confirmed" in request.POST:
        count = 0
        for group in _groups(waiting):
            count += queue.cancel(group)
            LogEntry.objects.log_actions(_user(request).pk, group.filter(status="canceled"), CHANGE, _("Withdrawn: it is not sent."))
        words = ngettext("%(count)s mail is withdrawn.", "%(count)s mails are withdrawn.", count)
        messages.success(request, words % {"count": count})
        return None
    count = waiting.count()
    title = ngettext("Withdraw %(count)s mail?", "Withdraw %(count)s mails?", count) if count else _("Withdraw?")
    return _ask_many(request, "admin/delivery/withdraw_many.html", title, count)


def _groups(fit: QuerySet[Message]) -> Iterator[QuerySet[Message]]:
    """The first MOST_AGAIN of them, so few at a time that a transaction is short."""
    found = list(fit.order_by("pk")[:MOST_AGAIN].values_list("pk", flat=True))
    for start in range(0, len(found), 1_000):
        yield Message.objects.filter(pk__in=found[start : start + 1_000])


def _ask_many(request: HttpRequest, template: str, title: str, count: int, **context: Any) -> HttpResponse:
    """Asks before a deed on `count` of the messages that were chosen; the form sends the action once more, for the same list."""
    selected = request.POST.getlist("_selected_action")
    across = request.POST.get("select_across", "0")
    return page(
        request,
        template,
        title % {"count": grouped(count)},
        Message,
        count=count,
        most=MOST_AGAIN,
        action=request.POST.get("action", ""),
        selected=selected,
        across=across,
        others=across != "0" or len(selected) > count,
        query=f"?{request.GET.urlencode()}" if request.GET else "",
        **context,
    )


# ---------------------------------------------------------------------------------------------------------- to be taken away


def export_messages(request: HttpRequest, of: Any) -> HttpResponseBase:
    """Asks how, and sends the messages that the list shows, all its pages."""
    demand(request, "view_message")
    listed = of.get_changelist_instance(request)
    form = ExportForm(request.POST or None)
    if form.is_valid():
        return export.table(listed.queryset, form.cleaned_data["format"], form.cleaned_data["columns"])
    most = listed.paginator.LIMIT
    found = min(listed.result_count, most)
    query = f"?{request.GET.urlencode()}" if request.GET else ""
    return page(request, "admin/delivery/export.html", _("Export"), Message, form=form, found=found, many=found == most, query=query)


def save_many(request: HttpRequest, chosen: QuerySet[Message]) -> HttpResponseBase | None:
    """An action: the mails that were chosen as .eml files in an archive, which is made while it is read. Each look is recorded."""
    found = Message.objects.filter(pk__in=list(chosen.order_by().values_list("pk", flat=True)[: MOST_FILES + 1]))
    if found.count() > MOST_FILES:
        words = _("That is more than %(count)s mails: choose fewer, or export the list as a table.")
        messages.warning(request, words % {"count": grouped(MOST_FILES)})
        return None
    LogEntry.objects.log_actions(_user(request).pk, found, CHANGE, _("Saved as a file."))
    response = StreamingHttpResponse(archive.files(found), content_type="application/zip")
    response["Content-Disposition"] = 'attachment; filename="messages.zip"'
    return response


# ------------------------------------------------------------------------------------------------------------------- batches


def overview(request: HttpRequest, batch: Batch) -> dict[str, Any]:
    """What a batch's own page shows."""
    return {
        "batch": batch,
        "words": progress.words(batch),
        "progress": progress.of(batch),
        "told": hits.told(batch),
        "origin": linked(request, timeline.origin_of(batch)),
        "route": batch.route or batch.sender.route("campaign"),
        "may_change": request.user.has_perm("delivery.change_batch"),
    }


def sample(request: HttpRequest) -> Sample | None:
    """What static/delivery/progress.js brings to reckon the rate from."""
    try:
        return Sample(int(request.GET["through"]), datetime.fromtimestamp(float(request.GET["at"]), tz=timezone.get_current_timezone()))
    except (KeyError, ValueError, OverflowError, OSError):
        return None


def told(now: Progress, html: str) -> JsonResponse:
    """The progress as it is now, for static/delivery/progress.js."""
    return JsonResponse(
        {"running": now.running, "through": now.through, "at": now.now.timestamp(), "status": now.batch.status, "html": html}
    )


@require_safe
@of_batch("view_batch")
def watch(request: HttpRequest, batch: Batch) -> JsonResponse:
    now = progress.of(batch, sample(request))
    return told(now, render_to_string("admin/delivery/progress.html", {"progress": now}, request))


@require_POST
@of_batch("change_batch")
def act(request: HttpRequest, batch: Batch, deed: Literal["pause", "resume"]) -> HttpResponse:
    try:
        if deed == "pause":
            batch.pause()
            return done(request, batch, _("Paused."))
        batches.resume(batch)
        return done(request, batch, _("Sending goes on."))
    except WrongState:
        return _batch_moved(request, batch)


@of_batch("change_batch")
def cancel(request: HttpRequest, batch: Batch) -> HttpResponse:
    if batch.status not in (Batch.Status.RUNNING, Batch.Status.PAUSED):
        return _batch_moved(request, batch)
    if request.method == "POST":
        try:
            batches.cancel(batch)
        except WrongState:
            return _batch_moved(request, batch)
        return done(request, batch, _("Withdrawn: nothing more of it is sent."))
    waiting = batch.waiting + batch.deferred
    title = _("Withdraw “%(name)s”?") % {"name": batch}
    return page(request, "admin/delivery/cancel.html", title, Batch, row=batch, waiting=waiting, gone=batch.total - waiting)


def _batch_moved(request: HttpRequest, batch: Batch) -> HttpResponse:
    batch.refresh_from_db()
    words = _("Nothing was done: “%(name)s” is %(state)s by now.")
    messages.warning(request, words % {"name": batch, "state": batch.get_status_display()})
    return to(batch)


# -------------------------------------------------------------------------------------------------------------- suppressions


def suppress(request: HttpRequest) -> HttpResponse:
    demand(request, "add_suppression")
    form = SuppressForm(request.POST or None, request.FILES or None, initial={"addresses": request.GET.get("address", "")})
    if form.is_valid():
        data = form.cleaned_data
        keys = list(dict.fromkeys([*data["addresses"], *data["file"]]))
        added = suppressions.add(keys, data["scope"], data["detail"], until=data["until"])
        LogEntry.objects.log_actions(_user(request).pk, added.new, ADDITION, data["detail"])
        _tell(request, added)
        return redirect("admin:delivery_suppression_changelist")
    return page(request, "admin/delivery/suppress.html", _("Suppress addresses"), Suppression, form=form)


def ask_why(request: HttpRequest, suppression: Suppression | None) -> HttpResponse:
    """A suppression is lifted only with a reason."""
    if suppression is None:
        raise Http404
    demand(request, "delete_suppression")
    messages.error(request, _("Say why: it stands in the history for those who ask later."))
    return redirect("admin:delivery_suppression_delete", suppression.pk)


def _tell(request: HttpRequest, added: suppressions.Added) -> None:
    new, widened, known = len(added.new), added.widened, added.known
    if new:
        words = ngettext("%(count)s address is suppressed now.", "%(count)s addresses are suppressed now.", new)
        messages.success(request, words % {"count": new})
    if widened:
        words = ngettext(
            "%(count)s address was suppressed for less, or for a shorter time, until now.",
            "%(count)s addresses were suppressed for less, or for a shorter time, until now.",
            widened,
        )
        messages.success(request, words % {"count": widened})
    if known:
        words = ngettext("%(count)s address was suppressed already.", "%(count)s addresses were suppressed already.", known)
        messages.info(request, words % {"count": known})


@require_safe
def export_suppressions(request: HttpRequest, of: Any) -> HttpResponseBase:
    """The suppressions that the list shows, all its pages, as CSV."""
    demand(request, "view_suppression")
    rows = of.get_changelist_instance(request).queryset.select_related(None).order_by("pk").iterator(chunk_size=2_000)
    heading = [_("address"), _("keeps back"), _("reason"), _("detail"), pgettext("suppressed", "since"), pgettext("suppressed", "until")]
    return sheet(
        _("suppressions"),
        heading,
        (
            [
                str(row),
                row.get_scope_display(),
                row.get_reason_display(),
                row.detail,
                row.created_at.isoformat(),
                row.expires_at.isoformat() if row.expires_at else "",
            ]
            for row in rows
        ),
    )


# ------------------------------------------------------------------------------------------------------------------- workers


# What each of workers.QUEUES is for.
SERVES = {
    "transactional": gettext_lazy("Transactional mail"),
    "bulk": gettext_lazy("Campaigns"),
    "maintenance": gettext_lazy("Maintenance"),
}


@require_safe
def show_workers(request: HttpRequest) -> HttpResponse:
    demand(request, "view_worker")
    now = clock.now()
    served = workers.served(now)
    found = [
        {
            "row": row,
            "name": SERVES.get(row.queue, row.queue),
            "alive": row.beat_at > now - workers.FRESH,
            "beat": now - row.beat_at,
            "age": now - row.started_at,
        }
        for row in Worker.objects.all()
    ]
    return page(
        request,
        "admin/delivery/workers.html",
        _("Workers"),
        Worker,
        workers=found,
        missing=[str(SERVES[queue]) for queue in workers.QUEUES if queue not in served],
        none=not served,
        drains=Lease.objects.select_related("relay").defer("relay__secrets").annotate(held=Count("messages")).order_by("relay__name", "pk"),
        now=now,
    )
