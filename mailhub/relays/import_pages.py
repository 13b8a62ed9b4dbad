"""Relays from what people have already: paste a setting, look at what was found, and take it over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from mailhub.relays import accounts, imports
from mailhub.relays.accounts import Candidate, Choice
from mailhub.relays.forms import WriteOnlyText
from mailhub.relays.imports import Reading, Unreadable
from mailhub.relays.models import Relay
from mailhub.relays.pages import demand, page


class SettingsForm(forms.Form):
    """A text or a file. What was pasted never goes back to the browser: there are passwords in it."""

    text = forms.CharField(
        label=gettext_lazy("Settings"),
        required=False,
        strip=False,
        widget=WriteOnlyText(attrs={"rows": 12, "class": "vLargeTextField", "autocomplete": "off", "spellcheck": "false"}),
    )
    file = forms.FileField(label=gettext_lazy("Or a file"), required=False)

    @sensitive_variables()
    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        text, file = given.pop("text", ""), given.pop("file", None)
        if self.errors:
            return given
        if bool(text.strip()) == bool(file):
            raise ValidationError(_("Paste the settings, or choose a file: one of the two."))
        try:
            given["reading"] = imports.read(imports.decode(file.read(imports.MOST_BYTES + 1)) if file else text)
        except Unreadable as error:
            self.add_error("file" if file else "text", str(error))
        return given


@sensitive_post_parameters()
def import_relays(request: HttpRequest) -> HttpResponse:
    """First the text, then what was found in it, sealed."""
    demand(request, "relays.add_relay")
    if "sealed" in request.POST:
        return _take_over(request)
    form = SettingsForm(request.POST, request.FILES) if request.method == "POST" else SettingsForm()
    reading = form.cleaned_data["reading"] if form.is_valid() else None
    if reading and reading.accounts:
        return _preview(request, accounts.candidates(reading.accounts), reading)
    formats = [imports.FORMATS[key] for key in imports.SHOWN]
    return page(request, "admin/relays/relay/import.html", _("Import relays"), Relay, form=form, reading=reading, formats=formats)


@sensitive_variables()
def _preview(request: HttpRequest, candidates: Sequence[Candidate], reading: Reading | None = None) -> HttpResponse:
    assert isinstance(request.user, User)  # noqa: S101  the page is for staff
    # With the secrets that were entered beside them.
    found = [each.account for each in candidates]
    context = {
        "candidates": candidates,
        "taken_for": imports.LABELS[reading.format] if reading else "",
        "problems": reading.problems if reading else (),
        "senders": accounts.senders(found),
        "sealed": accounts.seal(found, request.user),
    }
    return page(request, "admin/relays/relay/import_preview.html", _("Import relays"), Relay, **context)


@sensitive_variables()
def _take_over(request: HttpRequest) -> HttpResponse:
    assert isinstance(request.user, User)  # noqa: S101  the page is for staff
    found = accounts.unseal(request.POST["sealed"], request.user)
    if found is None:
        messages.error(request, _("That was too long ago: what was found is kept for an hour. Paste the settings again."))
        return redirect("admin:relays_relay_import")
    candidates = accounts.candidates(found, [_choice(request, number) for number in range(len(found))])
    chosen = [each for each in candidates if each.ticked]
    if not chosen:
        messages.warning(request, _("Nothing was imported: no account is chosen."))
    elif all(each.form.is_valid() for each in chosen):
        return _done(request, accounts.take_over(chosen, request.user))
    else:
        messages.error(request, _("Nothing was imported yet. Correct what stands beside the accounts, or leave them out."))
    return _preview(request, candidates)


@sensitive_variables()
def _choice(request: HttpRequest, number: int) -> Choice:
    given = request.POST
    before = f"secret-{number}-"
    return Choice(
        name=given.get(f"name-{number}", "").strip(),
        ticked=f"take-{number}" in given,
        service=given.get(f"service-{number}", ""),
        security=given.get(f"security-{number}", ""),
        secrets={key.removeprefix(before): given[key] for key in given if key.startswith(before) and given[key]},
    )


def _done(request: HttpRequest, made: Sequence[Relay]) -> HttpResponse:
    words = ngettext(
        "%(count)s relay was imported. It is in no route yet: test it first.",
        "%(count)s relays were imported. They are in no route yet: open each of them and test it first.",
        len(made),
    ) % {"count": len(made)}
    if not request.user.has_perms(["relays.view_relay"]) and not request.user.has_perms(["relays.change_relay"]):
        messages.success(request, words)
        return redirect("admin:index")
    if len(made) > 1:
        messages.success(request, words)
        return redirect("admin:relays_relay_changelist")
    (relay,) = made
    if relay.kind == "smtp" and request.user.has_perms(["relays.change_relay"]):
        url = reverse("admin:senders_sender_connection", args=[relay.pk])
        words = format_html('{} <a href="{}">{}</a>', words, url, _("Test the connection…"))
    messages.success(request, words)
    return redirect("admin:relays_relay_change", relay.pk)
