from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from mailhub.lib import addresses
from mailhub.relays.models import Relay, Stream
from mailhub.senders.models import Sender


class SimulationForm(forms.Form):
    sender = forms.ModelChoiceField(label=_("From"), queryset=Sender.objects.order_by("email"))
    stream = forms.ChoiceField(label=_("Kind of mail"), choices=Stream.choices)
    to = forms.CharField(label=_("To"), max_length=320, widget=forms.EmailInput)

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
