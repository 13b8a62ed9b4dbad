from __future__ import annotations

import json
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from mailhub.lib import addresses
from mailhub.lib.headers import one_line
from mailhub.senders.models import Sender
from transactional.models import Credential, Template

CODE = {"rows": 18, "spellcheck": "false", "class": "vLargeTextField code"}


class SampleField(forms.JSONField):
    """JSON that people write: indented, and a mistake is named with its line."""

    def prepare_value(self, value: Any) -> Any:
        return value if isinstance(value, InvalidJSONInput) else json.dumps(value, indent=2, ensure_ascii=False)

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except ValidationError as error:
            cause = error.__context__
            if not isinstance(cause, json.JSONDecodeError):
                raise
            problem = _("Line %(line)s: %(problem)s")
            raise ValidationError(problem, code="invalid", params={"line": cause.lineno, "problem": cause.msg}) from None


class TemplateForm(forms.ModelForm[Template]):
    sample = SampleField(
        label=_("Variables, with samples"),
        help_text=Template._meta.get_field("sample").help_text,
        required=False,
        initial=dict,
        widget=forms.Textarea(attrs={**CODE, "rows": 10}),
    )

    class Meta:
        model = Template
        fields = ("key", "language", "format", "subject", "source", "text", "sample", "optional")
        widgets: ClassVar = {
            "format": forms.RadioSelect,
            "subject": forms.TextInput(attrs={"class": "vLargeTextField"}),
            "optional": forms.TextInput(attrs={"class": "vLargeTextField", "spellcheck": "false"}),
            "source": forms.Textarea(attrs=CODE),
            "text": forms.Textarea(attrs={**CODE, "rows": 8}),
        }

    def clean_sample(self) -> Any:
        return {} if self.cleaned_data["sample"] is None else self.cleaned_data["sample"]


class PublishForm(forms.Form):
    note = forms.CharField(
        label=_("Note"),
        max_length=200,
        required=False,
        validators=[one_line],
        help_text=_("What has changed, for those who look later."),
        widget=forms.TextInput(attrs={"autofocus": True}),
    )


class TestForm(forms.Form):
    """A template as it is written now, with its samples, to somebody of ours."""

    sender = forms.ModelChoiceField(Sender.objects.none(), label=_("From"))
    address = forms.CharField(label=_("To"), max_length=320, widget=forms.EmailInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        usable = Sender.objects.filter(status=Sender.Status.CONFIRMED).order_by("email")
        field = self.fields["sender"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101
        field.queryset = usable
        field.initial = usable.first()

    def clean_address(self) -> str:
        return addresses.normalise(self.cleaned_data["address"])


class CredentialForm(forms.ModelForm[Credential]):
    name = forms.CharField(
        label=_("Name"),
        max_length=100,
        validators=[one_line],
        help_text=_("By which you will know it again, such as “shop.example, production”."),
    )
    kind = forms.ChoiceField(label=_("For"), choices=Credential.Kind.choices, widget=forms.RadioSelect)
    # The browser's own picker, which sends ISO 8601.
    expires_at = forms.DateTimeField(
        label=_("Valid until"),
        required=False,
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        help_text=_("Empty: until it is revoked."),
    )

    class Meta:
        model = Credential
        fields = ("name", "kind", "expires_at")

    def clean_expires_at(self) -> Any:
        moment = self.cleaned_data["expires_at"]
        if moment and moment <= timezone.now():
            raise ValidationError(_("This time has passed."))
        return moment
