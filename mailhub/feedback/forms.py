from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from mailhub.feedback.models import Mailbox


class MailboxForm(forms.ModelForm[Mailbox]):
    """Secrets are written and never shown: an empty field keeps what is stored."""

    token_url: Any = Mailbox._meta.get_field("token_url").formfield(assume_scheme="https")
    password = forms.CharField(label=_("Password"), max_length=500, required=False, strip=False, widget=forms.PasswordInput)
    client_secret = forms.CharField(label=_("Client secret"), max_length=1000, required=False, widget=forms.PasswordInput)
    refresh_token = forms.CharField(label=_("Refresh token"), max_length=8192, required=False, widget=forms.PasswordInput)

    SECRETS: ClassVar = ("password", "client_secret", "refresh_token")

    class Meta:
        model = Mailbox
        fields = (
            "name", "protocol", "host", "port", "security", "username", "login", "token_url", "client_id", "folders", "done_folder",
        )  # fmt: skip
        widgets: ClassVar = {"folders": forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self.SECRETS:
            attributes = {"class": "vTextField", "autocomplete": "new-password"}
            if self.instance.secrets.get(name):
                attributes["placeholder"] = str(_("stored; empty keeps it"))
            self.fields[name].widget = forms.PasswordInput(attrs=attributes)

    @sensitive_variables()
    def clean(self) -> dict[str, Any] | None:
        given = super().clean() or self.cleaned_data
        needed = "refresh_token" if given.get("login") == Mailbox.Login.OAUTH else "password"
        if not given.get(needed) and not self.instance.secrets.get(needed):
            self.add_error(needed, _("Nobody gets into the mailbox without it."))
        return given

    @sensitive_variables()
    def save(self, commit: bool = True) -> Mailbox:
        new = {name: self.cleaned_data[name] for name in self.SECRETS if self.cleaned_data[name]}
        self.instance.secrets = {**self.instance.secrets, **new}
        mailbox: Mailbox = super().save(commit)
        return mailbox
