from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.utils.translation import gettext_lazy as _

from mailhub.delivery.models import Event
from mailhub.lib import dialer
from mailhub.webhooks import outbox
from mailhub.webhooks.models import Endpoint


class EndpointForm(forms.ModelForm[Endpoint]):
    # URLValidator demands a dot in every name; machines of one network have names without.
    url = forms.CharField(
        label=_("URL"),
        max_length=500,
        widget=forms.URLInput(attrs={"class": "vURLField", "placeholder": "https://"}),
        help_text=_("Events are posted to it as JSON. https; plain http only to a server in your own network."),
    )
    project_ref = forms.TypedChoiceField(
        label=_("Mail of"),
        required=False,
        coerce=int,
        empty_value=None,
        help_text=_("All mail: that of every project, MailHub's own, and campaigns."),
    )
    types = forms.MultipleChoiceField(
        label=_("events"),
        required=False,
        choices=Event.Type.choices,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("None chosen: all of them."),
    )

    class Meta:
        model = Endpoint
        fields = ("name", "url", "project_ref", "types")
        widgets: ClassVar = {"name": forms.TextInput(attrs={"class": "vTextField"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        projects: Any = self.fields["project_ref"]
        projects.choices = [("", _("All mail")), *outbox.projects()]

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"].strip()
        try:
            parts = urlsplit(url)
            host, _port = parts.hostname or "", parts.port
        except ValueError:
            raise ValidationError(_("Enter a valid URL.")) from None
        if parts.scheme not in ("http", "https") or not host or any(ord(sign) < 33 or ord(sign) > 126 for sign in url):
            raise ValidationError(_("Give a URL that begins with https:// and is written in ASCII."))
        if parts.username or parts.password:
            raise ValidationError(_("Leave out the user name and password: what is posted proves by its signature who sent it."))
        if "." in host and ":" not in host:
            URLValidator(schemes=["http", "https"])(url)
        try:
            dialer.check(host)
        except dialer.Forbidden as error:
            raise ValidationError(
                _("%(problem)s An administrator can allow its network (MAILHUB_ALLOW_PRIVATE_ADDRESSES)."), params={"problem": error}
            ) from None
        except ValueError:
            pass  # a name; where it leads is looked at with each post
        return url
