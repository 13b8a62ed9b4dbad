from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from mailhub.lib import addresses
from mailhub.relays.costs import Need, Rates
from mailhub.relays.models import Relay, Route, Stream
from mailhub.senders.models import Sender


class SimulationForm(forms.Form):
    sender = forms.ModelChoiceField(label=_("From"), queryset=Sender.objects.order_by("email"))
    stream = forms.ChoiceField(label=_("Kind of mail"), choices=Stream.choices)
    route = forms.ModelChoiceField(
        label=_("Route of the campaign"),
        queryset=Route.objects.order_by("name"),
        required=False,
        empty_label=_("the sender's"),
        help_text=_("For a campaign that names a route of its own."),
    )
    to = forms.CharField(label=_("To"), max_length=320, widget=forms.EmailInput)

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("route") and given.get("stream") == Stream.TRANSACTIONAL:
            self.add_error("route", _("Only campaigns name a route of their own. Leave it to the sender, or ask about a campaign."))
        return given

    def clean_to(self) -> str:
        return addresses.normalise(self.cleaned_data["to"])


class MoveForm(forms.Form):
    sender = forms.ModelChoiceField(label=_("Sender"), queryset=Sender.objects.order_by("email"))
    stream = forms.ChoiceField(
        label=_("Kind of mail"), required=False, choices=[("", pgettext_lazy("kinds of mail", "both")), *Stream.choices]
    )
    old = forms.ModelChoiceField(label=_("From relay"), queryset=Relay.objects.none())
    new = forms.ModelChoiceField(label=_("To relay"), queryset=Relay.objects.none())
    step = forms.IntegerField(
        label=_("Percent a day"),
        initial=10,
        min_value=1,
        max_value=100,
        help_text=_("The new relay takes so much more each day. 100: all of it at once."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("old", "new"):
            self.fields[name].queryset = Relay.objects.defer("secrets").order_by("name")  # type: ignore[attr-defined]


class PaceForm(forms.Form):
    step = forms.IntegerField(label=_("Percent a day"), min_value=1, max_value=100)


class AdviceForm(forms.Form):
    stream = forms.ChoiceField(label=_("Kind of mail"), choices=Stream.choices, initial=Stream.CAMPAIGN)
    month = forms.IntegerField(label=_("Mails a month"), min_value=0, max_value=10**10)
    day = forms.IntegerField(label=_("Most on one day"), min_value=0, max_value=10**10)
    hour = forms.IntegerField(label=_("Most in one hour"), min_value=0, max_value=10**10)
    region = forms.ChoiceField(
        label=_("Data centre in"),
        required=False,
        choices=[("", _("anywhere")), ("jp", _("Japan")), ("us", _("United States")), ("eu", _("Europe"))],
    )
    webhooks = forms.BooleanField(label=_("Bounces reported by callback"), required=False)
    dedicated_ip = forms.BooleanField(label=_("Dedicated IP"), required=False)
    japanese_support = forms.BooleanField(label=_("Support in Japanese"), required=False)
    yen_invoice = forms.BooleanField(label=_("Invoice in yen"), required=False)
    usd = forms.DecimalField(
        label=_("Yen for a US dollar"), required=False, min_value=0, help_text=_("To compare currencies. Empty: each stands by itself.")
    )
    eur = forms.DecimalField(label=_("Yen for a euro"), required=False, min_value=0)

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if (given.get("hour") or 0) > (given.get("day") or 0):
            self.add_error("hour", _("That is more than on the busiest day. Correct one of them."))
        if (given.get("day") or 0) > (given.get("month") or 0):
            self.add_error("day", _("That is more than in the whole month. Correct one of them."))
        return given

    def need(self) -> Need:
        return Need(**{name: value for name, value in self.cleaned_data.items() if name not in ("usd", "eur")})

    def rates(self) -> Rates:
        return Rates(self.cleaned_data["usd"], self.cleaned_data["eur"])
