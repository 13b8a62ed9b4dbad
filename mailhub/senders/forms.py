from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http.request import validate_host
from django.utils.translation import gettext_lazy as _

from mailhub.lib import addresses
from mailhub.senders import return_path
from mailhub.senders.models import Domain, Sender


class DomainForm(forms.ModelForm[Domain]):
    class Meta:
        model = Domain
        fields = ("name", "bounce_address", "link_host")

    def clean_bounce_address(self) -> str:
        asked: str = self.cleaned_data["bounce_address"].strip()
        return return_path.check(asked) if asked else ""

    def clean_link_host(self) -> str:
        host: str = self.cleaned_data["link_host"].strip().rstrip(".").lower()
        if not host:
            return ""
        try:
            host = addresses.domain(addresses.normalise(f"postmaster@{host}"))
        except ValidationError:
            raise ValidationError(_("“%(name)s” is not a host. Write it as links.example.com."), params={"name": host}) from None
        if not validate_host(host, settings.ALLOWED_HOSTS):
            raise ValidationError(_("MailHub does not answer as %(name)s yet: add it to ALLOWED_HOSTS first."), params={"name": host})
        return host

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"].strip().rstrip(".")
        try:
            return addresses.domain(addresses.normalise(f"postmaster@{name}"))
        except ValidationError:
            raise ValidationError(_("“%(name)s” is not a domain. Write it as example.com."), params={"name": name}) from None


class SenderForm(forms.ModelForm[Sender]):
    class Meta:
        model = Sender
        fields = (
            "email", "name", "reply_to", "transactional_route", "campaign_route", "pool", "organisation", "postal_address", "contact_point",
        )  # fmt: skip
        widgets: ClassVar = {"postal_address": forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField"})}


class ProbeForm(forms.Form):
    """A relay's connection, tried as a sender."""

    sender = forms.ModelChoiceField(
        label=_("From"), queryset=Sender.objects.order_by("email"), help_text=_("Whether the server takes mail from it is tried last.")
    )


class TrialForm(forms.Form):
    """One mail, to see whether a relay works."""

    sender = forms.ModelChoiceField(
        label=_("From"),
        queryset=Sender.objects.none(),
        help_text=_("Confirmed senders alone can be chosen."),
    )
    to = forms.CharField(label=_("To"), max_length=320, widget=forms.EmailInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["sender"].queryset = self.usable()  # type: ignore[attr-defined]

    @staticmethod
    def usable() -> QuerySet[Sender]:
        return Sender.objects.filter(status=Sender.Status.CONFIRMED).order_by("email")

    def clean_to(self) -> str:
        return addresses.normalise(self.cleaned_data["to"])
