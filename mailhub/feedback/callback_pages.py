"""Pages for staff about one relay: where its service calls back, and what the relay does with return paths."""

from __future__ import annotations

import secrets
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_POST

from mailhub.feedback import callbacks, callers, probes, signatures, topics
from mailhub.feedback.models import Callback, CallbackURL, ParkedReport, new_token
from mailhub.feedback.signatures import Why
from mailhub.lib import addresses, signing
from mailhub.relays.models import Relay
from mailhub.relays.pages import demand, page
from mailhub.senders.models import Domain, Sender

WHYS: dict[str, Any] = {
    Why.NO_SECRET: gettext_lazy("Nothing is stored here to verify it with. Enter the key below."),
    Why.UNSIGNED: gettext_lazy("It was not signed. Switch signing on at the service, if it is the service that posts there."),
    Why.SIGNATURE: gettext_lazy("Its signature does not fit: it was not the service, or the key below is not the one that it signs with."),
    Why.OLD: gettext_lazy("It was signed long ago. Check the clock of this machine."),
    Why.REPLAYED: gettext_lazy("Somebody used the signature of an earlier callback for another body."),
    Why.PASSWORD: gettext_lazy("The password was missing or wrong. Paste the address once more, whole."),
    Why.TOPIC: gettext_lazy("It is of another topic than the one that is entered below."),
    Why.CERTIFICATE: gettext_lazy("Its certificate is not one of Amazon's, or has run out."),
    Why.UNREADABLE: gettext_lazy("It was no JSON. Choose that format at the service."),
    Why.TOO_LARGE: gettext_lazy("It was larger than 20 MB. Have the service send fewer events at once."),
}


class ServiceForm(forms.Form):
    """Which service stands behind a relay that speaks SMTP."""

    service = forms.ChoiceField(label=gettext_lazy("service"), choices=callers.choices)


class SecretsForm(forms.Form):
    """What a service's scheme asks for. Secrets are written and never shown: an empty field keeps what is stored."""

    def __init__(self, url: CallbackURL, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.url = url
        for name, (label, where) in callers.CALLERS[url.service].scheme.fields.items():
            stored = url.secrets.get(name, "")
            if name == "topic":
                self.fields[name] = forms.CharField(label=label, help_text=where, max_length=300, initial=stored)
                self.fields[name].widget.attrs["class"] = "vLargeTextField"
                continue
            attributes = {"class": "vTextField", "autocomplete": "new-password"}
            if stored:
                attributes["placeholder"] = str(_("stored; empty keeps it"))
            widget = forms.PasswordInput(attrs=attributes)
            self.fields[name] = forms.CharField(label=label, help_text=where, max_length=2000, required=not stored, widget=widget)

    def clean(self) -> dict[str, Any] | None:
        given = super().clean() or self.cleaned_data
        if (key := given.get("public_key")) and not is_public_key(key):
            self.add_error("public_key", _("That is no public key. Copy it whole, as the service shows it."))
        if (topic := given.get("topic")) and not topics.ARN.match(topic):
            self.add_error("topic", _("That is no topic's ARN. It begins with arn:aws:sns:."))
        if self.url.service == "resend" and (key := given.get("signing_key")) and not is_svix_key(key):
            self.add_error("signing_key", _("That is no signing secret. It begins with whsec_."))
        return given

    @sensitive_variables()
    def save(self) -> None:
        given = {name: value.strip() for name, value in self.cleaned_data.items() if value}
        self.url.secrets = {**self.url.secrets, **given}
        self.url.save(update_fields=["secrets"])


def is_public_key(text: str) -> bool:
    try:
        signatures.public_key(text)
    except ValueError:
        return False
    return True


def is_svix_key(text: str) -> bool:
    try:
        signing.key(text.strip())
    except signing.BadSecret:
        return False
    return True


# --------------------------------------------------------------------------------------------------------------------- callbacks


@sensitive_post_parameters()
def relay_page(request: HttpRequest, relay_pk: int) -> HttpResponse:
    """What comes back through a relay. To look takes the right to change it, since the address is a secret."""
    demand(request, "relays.change_relay")
    relay = get_object_or_404(Relay, pk=relay_pk)
    url = CallbackURL.objects.filter(relay=relay).first()
    form: forms.Form | None = None
    if url is None:
        form = None if relay.kind in callers.CALLERS else ServiceForm()
    elif callers.CALLERS[url.service].scheme.fields:
        asked = form = SecretsForm(url, request.POST or None)
        if asked.is_valid():
            asked.save()
            _log(request, relay, _("The key of its callbacks was entered."))
            messages.success(request, _("Stored. Callbacks that it signs are believed from now on."))
            return redirect("admin:feedback_callback_relay", relay.pk)
    context = {"relay": relay, "url": url, "form": form, **standing(relay, url)}
    return page(request, "admin/feedback/relay.html", _("What comes back through %(relay)s") % {"relay": relay}, Relay, **context)


def standing(relay: Relay, url: CallbackURL | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "probes": relay.probes.select_related("sender")[:5],
        "can_call_back": relay.kind in callers.CALLERS or relay.kind == "smtp",
        "direct": relay.is_direct,
        "by_service": relay.kind in callers.CALLERS,
    }
    if url is None:
        return found
    caller = callers.CALLERS[url.service]
    lacking = [name for name in caller.scheme.fields if not url.secrets.get(name)]
    return {
        **found,
        "caller": caller,
        "address": callbacks.with_password(url),
        "lacking": lacking,
        "silent": relay.kind not in callers.CALLERS and not caller.knows_smtp,
        "why": WHYS.get(url.refused_why, ""),
        "parked": ParkedReport.objects.filter(url=url, status=ParkedReport.Status.KEPT).count(),
        "stuck": Callback.objects.filter(url=url, status=Callback.Status.STUCK).count(),
        "state": "refused" if url.refused_at and (url.last_at is None or url.refused_at > url.last_at) else state(url, lacking),
    }


def state(url: CallbackURL, lacking: list[str]) -> str:
    return "missing" if lacking else "active" if url.last_at else "waiting"


@require_POST
def set_up(request: HttpRequest, relay_pk: int) -> HttpResponse:
    demand(request, "relays.change_relay")
    relay = get_object_or_404(Relay, pk=relay_pk)
    service = relay.kind if relay.kind in callers.CALLERS else request.POST.get("service", "")
    if service in callers.CALLERS:
        url, made = CallbackURL.objects.get_or_create(relay=relay, defaults={"service": service, "secrets": first_secrets(relay, service)})
        if made:
            _log(request, relay, _("Its callbacks were set up."))
    return redirect("admin:feedback_callback_relay", relay.pk)


def first_secrets(relay: Relay, service: str) -> Any:
    scheme = callers.CALLERS[service].scheme
    if scheme.password:
        return {"password": secrets.token_urlsafe(24)}
    # Unisender Go signs with the key that mail is sent with.
    known = relay.secrets.get("api_key") if "api_key" in scheme.fields and relay.kind == service else None
    return {"api_key": known} if known else {}


def renew(request: HttpRequest, relay_pk: int) -> HttpResponse:
    """Another address, and another password. Asks first."""
    demand(request, "relays.change_relay")
    url = get_object_or_404(CallbackURL.objects.select_related("relay"), relay=relay_pk)
    if request.method == "POST":
        url.token = new_token()
        if "password" in url.secrets:
            url.secrets = {**url.secrets, "password": secrets.token_urlsafe(24)}
        url.save(update_fields=["token", "secrets"])
        _log(request, url.relay, _("Its callbacks got another address."))
        messages.success(request, _("There is a new address. Paste it at the service."))
        return redirect("admin:feedback_callback_relay", relay_pk)
    return _ask(
        request,
        url,
        _("Another address for %(relay)s") % {"relay": url.relay},
        _("What the service posts to the present address is turned away at once, until you have pasted the new one there."),
        _("Make a new address"),
    )


def remove(request: HttpRequest, relay_pk: int) -> HttpResponse:
    """Asks first, and says how many."""
    demand(request, "relays.change_relay")
    url = get_object_or_404(CallbackURL.objects.select_related("relay"), relay=relay_pk)
    if request.method == "POST":
        url.delete()
        _log(request, url.relay, _("Its callbacks were switched off."))
        messages.success(request, _("Callbacks are switched off. Take the address out at the service, too."))
        return redirect("admin:feedback_callback_relay", relay_pk)
    count, parked = Callback.objects.filter(url=url).count(), ParkedReport.objects.filter(url=url).count()
    words = _("%(count)s stored callbacks and %(parked)s parked reports are deleted. Events that are recorded stay.")
    return _ask(
        request,
        url,
        _("Switch off callbacks of %(relay)s") % {"relay": url.relay},
        words % {"count": count, "parked": parked},
        _("Switch off callbacks"),
    )


def _ask(request: HttpRequest, url: CallbackURL, title: str, words: str, button: str) -> HttpResponse:
    context = {"relay": url.relay, "words": words, "button": button, "danger": True, "back": "../"}
    return page(request, "admin/feedback/ask.html", title, Relay, **context)


def _log(request: HttpRequest, relay: Relay, words: str) -> None:
    admin.site.get_model_admin(Relay).log_change(request, relay, words)


# ------------------------------------------------------------------------------------------------------------- return paths


class ProbeForm(forms.Form):
    sender = forms.ModelChoiceField(
        label=gettext_lazy("From"),
        queryset=Sender.objects.none(),
        help_text=gettext_lazy("Confirmed senders whose domain has a bounce address."),
    )
    to = forms.CharField(label=gettext_lazy("To a bad address"), max_length=320, widget=forms.EmailInput)

    def __init__(self, relay: Relay, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.relay = relay
        self.fields["sender"].queryset = able()  # type: ignore[attr-defined]
        first = able().first()
        self.fields["sender"].initial = first
        self.fields["to"].initial = probes.bad_address(relay, first)
        self.fields["to"].help_text = (
            _("Amazon's own address for this: its bounce does not count against the account.")
            if relay.kind in probes.SIMULATORS
            else _(
                "One that surely nobody has, at a domain of your own whose server refuses unknown names. A domain that takes mail for"
                " whatever name sends no bounce."
            )
        )

    def clean_to(self) -> str:
        to = addresses.normalise(self.cleaned_data["to"])
        if Sender.objects.filter(email=to).exists():
            raise ValidationError(_("Somebody has this address: it is a sender's."))
        return to


def able() -> Any:
    domains = Domain.objects.exclude(bounce_address="").values("name")
    found = Sender.objects.filter(status=Sender.Status.CONFIRMED).order_by("email")
    known = set(domains.values_list("name", flat=True))
    return found.filter(pk__in=[sender.pk for sender in found if addresses.domain(sender.email) in known])


def probe(request: HttpRequest, relay_pk: int) -> HttpResponse:
    demand(request, "relays.change_relay")
    relay = get_object_or_404(Relay, pk=relay_pk)
    form = ProbeForm(relay, request.POST or None)
    if request.method == "POST" and form.is_valid():
        made = probes.send(relay, form.cleaned_data["sender"], form.cleaned_data["to"])
        _log(request, relay, _("A test of its return paths was sent."))
        if made.accepted:
            messages.success(request, _("The test is on its way. Its result appears here, mostly within minutes."))
        else:
            messages.warning(request, _("The relay refused it at once: %(reply)s") % {"reply": made.reply or pgettext("reply", "no words")})
        return redirect("admin:feedback_callback_relay", relay.pk)
    context = {"relay": relay, "form": form, "able": able().exists()}
    return page(request, "admin/feedback/probe.html", _("Test return paths of %(relay)s") % {"relay": relay}, Relay, **context)
