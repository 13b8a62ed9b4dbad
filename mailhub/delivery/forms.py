from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from mailhub.delivery import suppressions
from mailhub.delivery.models import Suppression


class SuppressForm(forms.Form):
    addresses = forms.CharField(
        label=_("Addresses"),
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false", "autofocus": True}),
        help_text=_("One, or as many as you like: one a line, or with commas between them."),
    )
    scope = forms.ChoiceField(
        label=_("Keep back"), choices=Suppression.Scope.choices, widget=forms.RadioSelect, initial=Suppression.Scope.ALL
    )
    detail = forms.CharField(
        label=_("Note"), max_length=500, required=False, help_text=_("Why, for those who find it later. Such as “asked by telephone”.")
    )

    def clean_addresses(self) -> list[str]:
        return suppressions.read(self.cleaned_data["addresses"])
