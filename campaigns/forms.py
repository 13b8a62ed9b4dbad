from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from campaigns.imports import MOST_BYTES
from campaigns.models import Consent, MailingList
from mailhub.lib.headers import one_line

# A withdrawal is no ground to write to anybody.
BASES = [(value, label) for value, label in Consent.Basis.choices if value != Consent.Basis.WITHDRAWN]


class GroundsForm(forms.Form):
    """Why the people may be written to: what the law wants on record."""

    basis = forms.ChoiceField(label=_("Why may you write to them?"), choices=BASES, widget=forms.RadioSelect, initial=Consent.Basis.OPT_IN)
    source = forms.CharField(
        label=_("How and from where did they agree?"),
        max_length=200,
        validators=[one_line],
        help_text=_("Such as “sign-up form on shop.example” or “business cards, trade fair Tokyo, May 2026”. It is kept as the proof."),
    )
    text = forms.CharField(
        label=_("Text that they agreed to"),
        required=False,
        max_length=5_000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("What stood beside the check box, if there was one."),
    )


class SubscribeForm(GroundsForm):
    lists = forms.ModelMultipleChoiceField(label=_("Lists"), queryset=MailingList.objects.all(), widget=forms.CheckboxSelectMultiple)
    field_order = ["lists"]


class ImportForm(GroundsForm):
    file = forms.FileField(
        label=_("CSV file"),
        widget=forms.FileInput(attrs={"accept": ".csv,.txt,.tsv,text/csv"}),
        help_text=_(
            "The first line has the headings: email (or メールアドレス), and if you like name (氏名), language (言語) and others, which"
            " become attributes. UTF-8 and Shift_JIS are understood."
        ),
    )
    list = forms.ModelChoiceField(label=_("List"), queryset=MailingList.objects.all(), required=False, empty_label=_("A new list:"))
    new_list = forms.CharField(
        label=_("Name of the new list"),
        max_length=100,
        required=False,
        validators=[one_line],
        help_text=_("Recipients see it when they unsubscribe."),
    )
    field_order = ["file", "list", "new_list"]

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > MOST_BYTES:
            raise ValidationError(_("The file is larger than %(limit)s MB. Divide it."), params={"limit": MOST_BYTES // 1024 // 1024})
        return file

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        name = data.get("new_list")
        if data.get("list") is None and "new_list" in data:
            if not name:
                raise ValidationError({"list": _("Choose a list, or name a new one.")})
            if MailingList.objects.filter(name=name).exists():
                raise ValidationError({"new_list": _("There is a list of this name: choose it above.")})
        return data


# The browser's own pickers, which send ISO 8601.
DATE: dict[str, Any] = {"type": "date", "required": True, "aria-label": _("Date")}
TIME: dict[str, Any] = {"type": "time", "required": True, "aria-label": _("Time")}


class ScheduleForm(forms.Form):
    at = forms.SplitDateTimeField(
        label=_("Date and time"),
        input_date_formats=["%Y-%m-%d"],
        input_time_formats=["%H:%M", "%H:%M:%S"],
        widget=forms.SplitDateTimeWidget(
            date_attrs=DATE,
            time_attrs=TIME,
            date_format="%Y-%m-%d",
            time_format="%H:%M",
        ),
    )
