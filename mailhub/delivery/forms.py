from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from django_stubs_ext import StrOrPromise

from mailhub.delivery import export, suppressions
from mailhub.delivery.models import Message, Suppression
from mailhub.delivery.search import midnight
from mailhub.lib import addresses
from mailhub.relays.models import Stream


class ResendForm(forms.Form):
    """To whom a message goes once more."""

    SAME, OWN, OTHER = "same", "own", "other"

    to = forms.ChoiceField(label=_("To whom"), widget=forms.RadioSelect)
    address = forms.CharField(label=_("Another address"), max_length=320, required=False, widget=forms.EmailInput)

    def __init__(self, *args: Any, message: Message, own: str, may_read: bool, **kwargs: Any) -> None:
        """`own`: the address of who asks, "" where it is not known. `may_read`: who asks may read mails, and so send them elsewhere."""
        super().__init__(*args, **kwargs)
        self.own, self.same = own, message.address
        choices: list[tuple[str, StrOrPromise]] = [(self.SAME, _("%(address)s, as before") % {"address": message.address})]
        if may_read and message.stream == Stream.TRANSACTIONAL:
            if own:
                choices.append((self.OWN, _("me: %(address)s") % {"address": own}))
            choices.append((self.OTHER, _("another address")))
        else:
            del self.fields["address"]
        field = self.fields["to"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101
        field.choices, field.initial = choices, self.SAME

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("to") == self.OTHER:
            try:
                data["address"] = addresses.normalise(data.get("address") or "")
            except forms.ValidationError as error:
                self.add_error("address", error)
        else:
            data["address"] = self.own if data.get("to") == self.OWN else self.same
        return data


class ExportForm(forms.Form):
    """How the message log is written."""

    format = forms.ChoiceField(label=_("Format"), choices=export.Format.choices, widget=forms.RadioSelect, initial=export.Format.CSV)
    columns = forms.MultipleChoiceField(
        label=_("Columns"),
        choices=[(name, capfirst(column.name)) for name, column in export.COLUMNS.items()],
        widget=forms.CheckboxSelectMultiple,
        initial=export.USUAL,
        error_messages={"required": _("Choose at least one column.")},
    )


LARGEST_FILE = 30_000_000


class SuppressForm(forms.Form):
    addresses = forms.CharField(
        label=_("Addresses"),
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false", "autofocus": True}),
        required=False,
        help_text=_("One, or as many as you like: one a line, or with commas between them."),
    )
    file = forms.FileField(
        label=_("Or a file"),
        required=False,
        help_text=_("CSV, as other services and MailHub export it: the column of addresses is found by itself."),
    )
    scope = forms.ChoiceField(
        label=_("Keep back"), choices=Suppression.Scope.choices, widget=forms.RadioSelect, initial=Suppression.Scope.ALL
    )
    detail = forms.CharField(
        label=_("Note"), max_length=500, required=False, help_text=_("Why, for those who find it later. Such as “asked by telephone”.")
    )

    until = forms.DateField(
        label=_("Until"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text=_("The last day on which it holds. Empty: for good."),
    )

    def clean_addresses(self) -> list[str]:
        return suppressions.read(self.cleaned_data["addresses"])

    def clean_file(self) -> list[str]:
        file = self.cleaned_data["file"]
        if file and file.size > LARGEST_FILE:
            raise ValidationError(
                _("The file is larger than %(limit)s MB. Import it in parts."), params={"limit": LARGEST_FILE // 1_000_000}
            )
        return suppressions.read_file(file.read()) if file else []

    def clean_until(self) -> datetime | None:
        day = self.cleaned_data["until"]
        if not day:
            return None
        if day < timezone.localdate():
            raise ValidationError(_("This day has passed. Choose one that is to come."))
        return midnight(day + timedelta(days=1))

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.errors and not data.get("addresses") and not data.get("file"):
            raise ValidationError(_("Enter addresses, or choose a file."))
        return data
