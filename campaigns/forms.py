from __future__ import annotations

import json
import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from campaigns.imports import MOST_BYTES
from campaigns.models import Consent, Contact, MailingList
from mailhub.lib import addresses
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


class AddressesForm(forms.Form):
    """To whom a test goes, besides or instead of whoever asks."""

    MOST = 10

    to = forms.CharField(
        label=_("Addresses"),
        max_length=2_000,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "placeholder": "hana@example.com, taro@example.com"}),
    )

    def clean_to(self) -> list[str]:
        given = [addresses.normalise(each) for each in re.split(r"[\s,;、，]+", self.cleaned_data["to"]) if each]
        if len(given) > self.MOST:
            raise ValidationError(_("A test goes to %(most)s addresses at most. Send a campaign to a list."), params={"most": self.MOST})
        return list(dict.fromkeys(given))


# ------------------------------------------------------------------------------------------------------------------- contacts


COLON = re.compile("[:：]")


class AttributesField(forms.CharField):
    """Names and values as people write them down: one a line, the name before the colon. What a value goes on with is moved in.

    Values are text. What another program stored as a number, or as something that has parts, is written as JSON."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return "\n".join(f"{name}: {in_words(one)}".rstrip() for name, one in value.items())

    def to_python(self, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        found: dict[str, str] = {}
        name = ""
        for number, line in enumerate((value or "").splitlines(), 1):
            if name and line[:1].isspace() and line.strip():
                found[name] += "\n" + line.strip()
            elif line.strip():
                name, *said = (part.strip() for part in COLON.split(line, maxsplit=1))
                if not name or not said:
                    words = _("Line %(line)s has no name before a colon: write it as “city: Kyoto”.")
                    raise ValidationError(words, params={"line": number})
                if name in found:
                    raise ValidationError(_("“%(name)s” stands there twice. Leave one of them."), params={"name": name})
                found[name] = said[0]
        return found

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.prepare_value(initial or {}).splitlines() != (data or "").splitlines())


def in_words(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "\n  ".join(line.strip() for line in text.splitlines())


class ContactForm(forms.ModelForm[Contact]):
    attributes = AttributesField(
        label=_("Attributes"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 5, "class": "vLargeTextField"}),
        help_text=_("What mails may say of the person: a name and a value a line. “city: Kyoto” fills in {{ city }}."),
    )

    class Meta:
        model = Contact
        fields = ("email", "name", "language", "attributes")

    def clean_attributes(self) -> dict[str, Any]:
        """What reads as before stays what it is, a number for one; and what was a number stays one."""
        given: dict[str, Any] = self.cleaned_data["attributes"]
        return {name: as_before(words, self.instance.attributes.get(name)) for name, words in given.items()}


def as_before(words: str, former: Any) -> Any:
    if former is None or " ".join(in_words(former).split()) == " ".join(words.split()):
        return words if former is None else former
    if isinstance(former, str):
        return words
    try:
        return json.loads(words)
    except ValueError:
        return words
