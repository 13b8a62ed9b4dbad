from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from mailhub.lib import addresses, signing
from mailhub.watching.models import Channel

WIDE = forms.TextInput({"class": "vLargeTextField", "autocomplete": "off"})


class ChannelForm(forms.ModelForm):  # type: ignore[type-arg]
    """What is secret is written and not shown: a field that stays empty keeps what is stored."""

    url = forms.CharField(
        label=_("URL"),
        required=False,
        max_length=1000,
        widget=WIDE,
        help_text=_("Stored encrypted and not shown again. Empty: as it is stored."),
    )
    secret = forms.CharField(
        label=_("secret"),
        required=False,
        max_length=200,
        widget=WIDE,
        help_text=_(
            "Signs the calls by Standard Webhooks; the receiver needs it too. Copy it now: it is stored encrypted and not shown again."
            " Empty: as it is stored."
        ),
    )

    class Meta:
        model = Channel
        fields = ("name", "kind", "active", "to", "sender", "url", "secret", "language", "wants_alerts", "wants_weekly", "most")
        widgets: ClassVar = {"to": forms.Textarea({"rows": 3})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("url", "secret"):
            if name in self.fields:
                self.initial[name] = "" if self.instance.pk else {"url": "", "secret": signing.new_secret()}[name]

    def clean_to(self) -> str:
        found = []
        for line in str(self.cleaned_data["to"]).split():
            try:
                found.append(addresses.normalise(line))
            except ValidationError as error:
                raise ValidationError(_("%(line)s: %(problem)s"), params={"line": line, "problem": error.messages[0]}) from None
        return "\n".join(dict.fromkeys(found))

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"]).strip()
        if url and (urlsplit(url).scheme not in ("https", "http") or not urlsplit(url).hostname or not url.isascii()):
            raise ValidationError(_("Enter a whole URL, such as https://hooks.example.com/alerts."))
        return url or self.instance.url

    def clean_secret(self) -> str:
        secret = str(self.cleaned_data["secret"]).strip()
        if secret:
            try:
                signing.key(secret)
            except signing.BadSecret:
                raise ValidationError(_("A secret is “whsec_” and the base64 of 24 to 64 bytes.")) from None
        return secret or self.instance.secret

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if data.get("kind") == Channel.Kind.MAIL:
            if not data.get("to") and "to" not in self.errors:
                self.add_error("to", _("Enter at least one address."))
            if not data.get("sender"):
                self.add_error("sender", _("Choose the sender of the mails."))
        elif not data.get("url") and "url" not in self.errors:
            self.add_error("url", _("Enter the URL that is called."))
        if data.get("kind") == Channel.Kind.CALL and not data.get("secret") and "secret" not in self.errors:
            self.add_error("secret", _("Enter a secret: without it the receiver cannot know who calls."))
        if not data.get("wants_alerts") and not data.get("wants_weekly"):
            self.add_error("wants_alerts", _("Choose alerts, the weekly summary or both. Or take the channel out of use."))
        return data
