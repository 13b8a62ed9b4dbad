"""Pages for staff that are no change forms: senders, domains with their records and keys, and to try a relay with a sender."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import admin, messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext
from django.views.decorators.http import require_POST

from mailhub.admin import badge
from mailhub.lib import addresses, clock
from mailhub.lib.states import WrongState
from mailhub.relays import probing
from mailhub.relays.models import Relay, Route, Stream
from mailhub.relays.pages import demand, page, ways
from mailhub.senders import confirmation, readiness, records, trial, verdicts
from mailhub.senders.forms import ProbeForm, TrialForm
from mailhub.senders.models import DKIMKey, Domain, Finding, Kind, Sender, TextRecord, Verdict

# What a campaign must show of its sender (campaigns/launch.py refuses without).
LEGAL = ("organisation", "postal_address", "contact_point")

# Domains of a route's senders that its page looks into.
LOOKED_INTO = 20


def overview(sender: Sender) -> dict[str, Any]:
    """What a sender's own page shows beside its fields."""
    return {
        "sender": sender,
        "state_words": state_words(sender),
        "routes": [(stream, Stream(stream).label, sender.route(stream)) for stream in Stream.values],
        "lacking": [
            field.verbose_name for field in sender._meta.fields if field.name in LEGAL and not field.value_from_object(sender).strip()
        ],
        "lacks": readiness.of_sender(sender),
    }


def state_words(sender: Sender) -> str:
    match sender.status:
        case Sender.Status.UNCONFIRMED:
            return _(
                "It may not send yet: nobody has shown that the address is yours. Have a link mailed to it, publish its domain's record, or"
                " vouch for it yourself."
            )
        case Sender.Status.DISABLED:
            return _("Staff took it out of use: nothing is accepted from it.")
        case _other:
            return _("It may send.")


# ------------------------------------------------------------------------------------------------------- confirm and disable


@require_POST
def confirm(request: HttpRequest, pk: int) -> HttpResponse:
    demand(request, "senders.change_sender")
    sender = get_object_or_404(Sender, pk=pk)
    confirm_all(request, [sender])
    return redirect("admin:senders_sender_change", pk)


@require_POST
def mail_link(request: HttpRequest, pk: int) -> HttpResponse:
    """A mail to the sender's own address, with a link that confirms it."""
    demand(request, "senders.change_sender")
    sender = get_object_or_404(Sender, pk=pk)
    try:
        result = confirmation.ask(sender)
    except confirmation.NoWay:
        messages.error(request, _("No relay takes its mail at the moment. Give it a route, or make one the default."))
    else:
        if result.accepted:
            _log(request, sender, _("A mail to confirm the address was sent."))
            messages.success(request, _("A mail is on its way to %(address)s. Open the link in it.") % {"address": sender.email})
        else:
            messages.error(request, f"{result.words} {result.remedy} {result.reply}".strip())
    return redirect("admin:senders_sender_change", pk)


def confirm_all(request: HttpRequest, senders: Iterable[Sender]) -> None:
    """The history tells who vouched for each."""
    done = 0
    for sender in senders:
        try:
            sender.confirm()
        except WrongState:
            _too_late(request, sender)
        else:
            _log(request, sender, _("Confirmed by %(user)s: the address is ours.") % {"user": request.user})
            done += 1
    if done:
        messages.success(request, ngettext("%(n)s sender may send now.", "%(n)s senders may send now.", done) % {"n": done})


def disable(request: HttpRequest, pk: int) -> HttpResponse:
    """Asks first."""
    demand(request, "senders.change_sender")
    sender = get_object_or_404(Sender, pk=pk)
    if request.method == "POST":
        disable_all(request, [sender])
        return redirect("admin:senders_sender_change", pk)
    return _ask_to_disable(request, [sender], title=_("Disable %(sender)s?") % {"sender": sender.email}, back=_to(sender))


def disable_several(request: HttpRequest, senders: Sequence[Sender]) -> HttpResponse | None:
    """The action of the list: asks first, and says how many."""
    if "sure" in request.POST:
        disable_all(request, senders)
        return None
    title = ngettext("Disable %(n)s sender?", "Disable %(n)s senders?", len(senders)) % {"n": len(senders)}
    return _ask_to_disable(request, senders, title=title, back=reverse("admin:senders_sender_changelist"), several=True)


def _ask_to_disable(request: HttpRequest, senders: Sequence[Sender], **context: Any) -> HttpResponse:
    return page(request, "admin/senders/disable.html", model=Sender, senders=senders, button=_("Disable"), danger=True, **context)


def _to(sender: Sender) -> str:
    return reverse("admin:senders_sender_change", args=[sender.pk])


def disable_all(request: HttpRequest, senders: Iterable[Sender]) -> None:
    done = 0
    for sender in senders:
        try:
            sender.disable()
        except WrongState:
            _too_late(request, sender)
        else:
            _log(request, sender, _("Disabled."))
            done += 1
    if done:
        messages.success(request, ngettext("%(n)s sender is disabled.", "%(n)s senders are disabled.", done) % {"n": done})


def _log(request: HttpRequest, sender: Sender, words: str) -> None:
    admin.site.get_model_admin(Sender).log_change(request, sender, words)


def _too_late(request: HttpRequest, sender: Sender) -> None:
    sender.refresh_from_db(fields=["status"])
    messages.warning(
        request, _("Nothing was done: %(sender)s is %(state)s already.") % {"sender": sender.email, "state": sender.get_status_display()}
    )


# -------------------------------------------------------------------------------------------------------- trying a relay out


def try_relay(request: HttpRequest, relay_pk: int) -> HttpResponse:
    demand(request, "relays.change_relay")
    relay = get_object_or_404(Relay, pk=relay_pk)
    initial = {"to": getattr(request.user, "email", ""), "sender": TrialForm.usable().first()}
    form = TrialForm(request.POST or None, initial=initial)
    result = None
    if form.is_valid():
        result = trial.send(relay, form.cleaned_data["sender"], form.cleaned_data["to"])
        words = _("Test mail to %(address)s: %(words)s") % {"address": form.cleaned_data["to"], "words": result.words}
        admin.site.get_model_admin(Relay).log_change(request, relay, words)
    title = _("Send a test mail by way of “%(relay)s”") % {"relay": relay}
    return page(request, "admin/senders/trial.html", title, Relay, relay=relay, form=form, result=result)


def test_connection(request: HttpRequest, relay_pk: int) -> HttpResponse:
    """Step by step, without sending anything."""
    demand(request, "relays.change_relay")
    relay = get_object_or_404(Relay, pk=relay_pk)
    form = ProbeForm(request.POST or None, initial={"sender": Sender.objects.order_by("email").first()})
    steps = None
    if form.is_valid():
        steps = async_to_sync(probing.probe)(relay, addresses.on_the_wire(form.cleaned_data["sender"].email))
    title = _("Test the connection of “%(relay)s”") % {"relay": relay}
    good = steps is not None and steps[-1].failure is None
    return page(request, "admin/senders/connection.html", title, Relay, relay=relay, form=form, steps=steps, good=good)


# -------------------------------------------------------------------------------------------------------------------- routes


def default_badge(route: Route) -> SafeString | str:
    match route.default_for:
        case Stream.CAMPAIGN:
            return badge("move", _("default for campaigns"))
        case Stream.TRANSACTIONAL:
            return badge("move", _("default for transactional mail"))
        case _other:
            return ""


def users_of(routes: Iterable[Route]) -> dict[int, list[Sender]]:
    """The senders that name each route, in one query."""
    found: dict[int, list[Sender]] = {route.pk: [] for route in routes}
    either = Q(transactional_route__in=found) | Q(campaign_route__in=found)
    for sender in Sender.objects.filter(either).order_by("email"):
        for pk, named in found.items():
            if pk in (sender.transactional_route_id, sender.campaign_route_id):
                named.append(sender)
    return found


def route_overview(route: Route) -> dict[str, Any]:
    """What a route's own page shows beside its fields."""
    return {
        "route": route,
        "default_badge": default_badge(route),
        "ways": ways(list(route.members.all()), clock.now()),
        "users": users_of([route])[route.pk],
        "lacks": lacks_of(route),
    }


def lacks_of(route: Route) -> list[readiness.Lack]:
    """What the domains of those who use the route lack for its relays."""
    uses = Q(transactional_route=route) | Q(campaign_route=route)
    if route.default_for:
        uses |= Q(**{f"{route.default_for}_route__isnull": True})
    domains = Domain.objects.filter(pk__in=Sender.objects.filter(uses).values("domain")).order_by("name")[:LOOKED_INTO]
    return [lack for domain in domains for lack in readiness.of_route(domain, route)]


# ------------------------------------------------------------------------------------------------------------------- domains

# What each part of a domain's page is about.
LEADS = {
    Kind.OWNERSHIP: gettext_lazy("Shows that the domain is yours to use. Its senders then need no mail to be confirmed."),
    Kind.SPF: gettext_lazy("Which servers may send for the domain (RFC 7208)."),
    Kind.DKIM: gettext_lazy("The keys that prove that mail is yours and unaltered (RFC 6376)."),
    Kind.DMARC: gettext_lazy("What receivers should do with mail that fails both (RFC 9989)."),
    Kind.EXISTENCE: gettext_lazy("Whether the domain can be answered."),
    Kind.BOUNCES: gettext_lazy("Where bounces come to."),
    Kind.LINKS: gettext_lazy("Where the links in your mails lead."),
    Kind.PTR: gettext_lazy("The names of your own addresses, there and back."),
    Kind.MTA_STS: gettext_lazy("Encryption of mail to the domain (RFC 8461)."),
    Kind.TLS_RPT: gettext_lazy("Reports about encryption of mail to the domain (RFC 8460)."),
}
# For so long after a key has retired mail that it signed may be on its way.
GRACE = timedelta(days=7)


def domain_overview(domain: Domain) -> dict[str, Any]:
    """What a domain's own page shows beside its fields."""
    rows = list(domain.findings.all())
    for row in rows:
        row.wrong, row.remedy = records.words(row.problem, row.about)  # type: ignore[attr-defined]
        row.strings = _strings(row.wanted) if row.type == "TXT" else ""  # type: ignore[attr-defined]
    worst, label, words = standing(domain, rows)
    keys = domain.dkim_keys.order_by("-pk")
    return {
        "domain": domain,
        "verdict": worst,
        "verdict_label": label,
        "verdict_words": words,
        "relays": records.relays_of(domain),
        "findings": [
            {"title": kind.label, "lead": LEADS[kind], "rows": found}
            for kind in Kind
            if (found := [row for row in rows if row.kind == kind])
        ],
        "keys": [_key_line(key) for key in keys],
        "algorithms": DKIMKey.Algorithm.choices,
        "senders": domain.senders.order_by("email"),
    }


def _strings(value: str) -> str:
    """As zone files hold it; "" where one string does."""
    strings = TextRecord("", value).strings
    return " ".join(f'"{string}"' for string in strings) if len(strings) > 1 else ""


def standing(domain: Domain, rows: Sequence[Finding]) -> tuple[str, str, str]:
    """(colour, label, sentence) for the domain as a whole."""
    if not rows:
        return "unknown", _("not looked up"), _("Its records in the DNS have not been looked up yet.")
    trouble = [row for row in rows if row.verdict in verdicts.TROUBLE]
    if trouble:
        kinds = list(dict.fromkeys(str(Kind(row.kind).label) for row in trouble))
        words = _("Something is to be done: %(kinds)s.") % {"kinds": pgettext("between things", ", ").join(kinds)}
        worst = Verdict.WRONG if any(row.verdict == Verdict.WRONG for row in trouble) else Verdict.MISSING
        return worst, str(worst.label), words
    return "pass", str(Verdict.PASS.label), _("Receivers find all that they ask for.")


def _key_line(key: DKIMKey) -> dict[str, Any]:
    at: datetime | None
    match key.status:
        case DKIMKey.Status.NEW:
            tone, at = "queued", key.created_at
            words = _("Signs nothing yet. Publish its record, which stands above; MailHub looks for it every hour.")
        case DKIMKey.Status.SIGNING:
            tone, at, words = "active", key.signing_since, _("Signs the domain's mail, and that of the domains below it.")
        case _other:
            tone, at = "disabled", key.retired_at
            over = key.retired_at is not None and key.retired_at + GRACE < clock.now()
            words = (
                _("Signs no more. Its record may be taken out of the DNS.")
                if over
                else _("Signs no more. Leave its record in the DNS for a week: mail that it signed is still on its way.")
            )
    since = date_format(timezone.localtime(at), "DATE_FORMAT") if at else ""
    return {"row": key, "tone": tone, "words": words, "since": since}


@require_POST
def check_domain(request: HttpRequest, pk: int) -> HttpResponse:
    demand(request, "senders.change_domain")
    domain = get_object_or_404(Domain, pk=pk)
    verdicts.look(domain)
    _worst, _label, words = standing(domain, list(domain.findings.all()))
    messages.info(request, words)
    return redirect("admin:senders_domain_change", pk)


@require_POST
def make_key(request: HttpRequest, pk: int) -> HttpResponse:
    demand(request, "senders.change_domain")
    domain = get_object_or_404(Domain, pk=pk)
    algorithm = request.POST.get("algorithm", "")
    if algorithm not in DKIMKey.Algorithm.values:
        return HttpResponseBadRequest()
    key = DKIMKey.make(domain, algorithm)
    _log_domain(request, domain, _("DKIM key %(key)s made.") % {"key": key.selector})
    verdicts.look(domain)
    messages.success(request, _("Publish the record of the new key, which is shown below. It signs as soon as it is seen."))
    return redirect("admin:senders_domain_change", pk)


@require_POST
def sign(request: HttpRequest, pk: int, key_pk: int) -> HttpResponse:
    """Only with a key whose record is there: with another every signature would fail."""
    demand(request, "senders.change_domain")
    domain = get_object_or_404(Domain, pk=pk)
    key = get_object_or_404(DKIMKey, pk=key_pk, domain=domain)
    verdicts.look(domain)
    key.refresh_from_db(fields=["status"])
    if key.status == DKIMKey.Status.SIGNING:
        _log_domain(request, domain, _("DKIM key %(key)s signs.") % {"key": key.selector})
        messages.success(request, _("The domain's mail is signed with it from now on."))
    else:
        messages.warning(request, _("Nothing was done: its record is not there yet, and every signature would fail."))
    return redirect("admin:senders_domain_change", pk)


def retire(request: HttpRequest, pk: int, key_pk: int) -> HttpResponse:
    """Asks first."""
    demand(request, "senders.change_domain")
    domain = get_object_or_404(Domain, pk=pk)
    key = get_object_or_404(DKIMKey, pk=key_pk, domain=domain)
    back = reverse("admin:senders_domain_change", args=[pk])
    if request.method != "POST":
        words = (
            _("The domain's mail then leaves unsigned, unless another key signs. A retired key does not come back.")
            if key.status == DKIMKey.Status.SIGNING
            else _("A retired key does not come back.")
        )
        title = _("Retire the DKIM key %(key)s?") % {"key": key.selector}
        return page(request, "admin/mailhub/confirm.html", title, Domain, words=words, button=_("Retire"), danger=True, back=back)
    try:
        key.retire()
    except WrongState:
        messages.warning(request, _("Nothing was done: the key is retired already."))
    else:
        _log_domain(request, domain, _("DKIM key %(key)s retired.") % {"key": key.selector})
        verdicts.look(domain)
    return redirect(back)


def _log_domain(request: HttpRequest, domain: Domain, words: str) -> None:
    admin.site.get_model_admin(Domain).log_change(request, domain, words)
