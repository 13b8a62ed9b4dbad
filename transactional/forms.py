from __future__ import annotations

import json
import re
from datetime import timedelta
from ipaddress import ip_network
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from mailhub.lib import addresses
from mailhub.lib.api import USUAL, USUAL_OF_CAMPAIGNS, Scope
from mailhub.lib.headers import one_line
from mailhub.relays.models import Stream
from mailhub.senders.models import Sender
from transactional.models import Credential, Project, Template

CODE = {"rows": 18, "spellcheck": "false", "class": "vLargeTextField code"}


class DaysForm(forms.Form):
    """Of which days, and of whom. Empty: the last DAYS days, and everybody."""

    DAYS = 7

    since = forms.DateField(label=_("First day"), required=False, widget=forms.DateInput({"type": "date"}, "%Y-%m-%d"))
    until = forms.DateField(label=_("Last day"), required=False, widget=forms.DateInput({"type": "date"}, "%Y-%m-%d"))
    project = forms.ModelChoiceField(label=_("Project"), queryset=Project.objects.order_by("name"), required=False, empty_label=_("all"))

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        since, until = data.get("since"), data.get("until")
        if since and until and since > until:
            self.add_error("until", _("The last day is before the first. Exchange them."))
        return data

    @classmethod
    def usual(cls) -> dict[str, str]:
        today = timezone.localdate()
        return {"since": (today - timedelta(days=cls.DAYS - 1)).isoformat(), "until": today.isoformat()}


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


class ProjectForm(forms.ModelForm[Project]):
    stream = forms.ChoiceField(
        label=_("Stream"),
        choices=[
            (Stream.TRANSACTIONAL, _("transactional: mails for one person each, such as orders and password resets")),
            (Stream.CAMPAIGN, _("campaign: newsletters to lists")),
        ],
        initial=Stream.TRANSACTIONAL,
        widget=forms.RadioSelect,
        help_text=Project._meta.get_field("stream").help_text,
    )

    class Meta:
        model = Project
        fields = (
            "name", "stream", "senders", "from_policy", "default_sender", "limit_minute", "limit_day", "suppression_scope",
            "keep_bodies_days", "muted", "tracks_opens", "tracks_clicks",
        )  # fmt: skip
        widgets: ClassVar = {
            "from_policy": forms.RadioSelect,
            "suppression_scope": forms.RadioSelect,
            "muted": forms.Textarea(attrs={"rows": 3}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(field := self.fields.get("default_sender"), forms.ModelChoiceField):
            field.queryset = Sender.objects.filter(status=Sender.Status.CONFIRMED).order_by("email")
            field.empty_label = _("none")


class NetworksField(forms.CharField):
    """Addresses and networks, one a line or with commas between them."""

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> Any:
        found = []
        for word in re.split(r"[,\s]+", super().clean(value)):
            if word:
                try:
                    found.append(str(ip_network(word, strict=False)))
                except ValueError:
                    problem = _("“%(word)s” is no IP address or network, such as 192.0.2.0/24.")
                    raise ValidationError(problem, code="network", params={"word": word}) from None
        if len(found) > 50:
            raise ValidationError(_("Give 50 networks at most."), code="too_many")
        return found


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

    scopes = forms.MultipleChoiceField(
        label=_("An API key may"),
        choices=Scope.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("An SMTP password may send mail alone. Suppressions, contacts and campaigns are those of the whole MailHub."),
    )
    networks = NetworksField(
        label=_("Only from"),
        required=False,
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "placeholder": "192.0.2.0/24"}),
        help_text=_("IP addresses and networks, one a line. Empty: from anywhere."),
    )

    class Meta:
        model = Credential
        fields = ("name", "kind", "scopes", "networks", "expires_at")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        campaigns = self.instance.project.stream == Stream.CAMPAIGN
        self.initial["scopes"] = self.instance.scopes or [scope.value for scope in (USUAL_OF_CAMPAIGNS if campaigns else USUAL)]
        if campaigns:
            # Campaigns come by the HTTP API alone.
            del self.fields["kind"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "scopes" in cleaned and cleaned.get("kind", self.instance.kind) == Credential.Kind.SMTP:
            cleaned["scopes"] = []
        elif "scopes" in cleaned and not cleaned["scopes"]:
            self.add_error("scopes", _("Choose what the key may do."))
        return cleaned

    def clean_expires_at(self) -> Any:
        moment = self.cleaned_data["expires_at"]
        if moment and moment <= timezone.now():
            raise ValidationError(_("This time has passed."))
        return moment


class IssuedCredentialForm(CredentialForm):
    """One that is in use already: its secret, and what it is for, stay."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields.pop("kind", None)
        if self.instance.kind == Credential.Kind.SMTP:
            del self.fields["scopes"]
