from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django import forms
from django.core.exceptions import ValidationError
from django.forms.boundfield import BoundField
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from mailhub.relays import providers
from mailhub.relays.models import Blocklist, DedicatedIP, Destination, Quota, Relay, ResponseRule, Route, RouteMember, Service, WarmupPlan

# RFC 1123 section 2.1, with two labels at least: what a receiver looks up.
HOST_NAME = re.compile(r"(?=.{4,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")

# Seconds that greylisting keeps a mail it has not seen, mostly: a new relay for direct delivery tries again no sooner.
GREYLISTED_FOR = 300

# A row of a fieldset: one field, or two beside each other.
Line = str | tuple[str, str]

# ------------------------------------------------------------------------------------------------------------------- secrets


class WriteOnlyText(forms.Textarea):
    """For secrets of several lines: like a password's, the text is never sent back to the browser."""

    def format_value(self, value: Any) -> None:
        return None


class Secrets:
    """Stands before a provider's own form: what is stored stays where a field is left empty, unless it is to be removed."""

    secrets: frozenset[str]
    fields: dict[str, forms.Field]
    cleaned_data: dict[str, Any]

    def __init__(self, data: Any, *, stored: Mapping[str, Any], initial: Mapping[str, Any]) -> None:
        super().__init__(data, initial=initial)  # type: ignore[call-arg]
        self.stored = {name: stored[name] for name in self.secrets if stored.get(name)}
        for name, field in list(self.fields.items()):
            field.label = capfirst(field.label)
            if isinstance(field.widget, forms.TextInput | forms.Textarea):
                field.widget.attrs.setdefault("class", "vIntegerField" if isinstance(field, forms.IntegerField) else "vTextField")
            if name in self.secrets:
                self._write_only(name, field)

    def _write_only(self, name: str, field: forms.Field) -> None:
        kind = WriteOnlyText if isinstance(field.widget, forms.Textarea) else forms.PasswordInput
        field.widget = kind({**field.widget.attrs, "autocomplete": "new-password"})
        if name not in self.stored:
            return
        if not field.required:
            self.fields[f"remove_{name}"] = forms.BooleanField(label=_("Remove what is stored"), required=False)
        field.required = False
        field.widget.attrs["placeholder"] = _("stored; empty keeps it")

    @sensitive_variables()
    def clean(self) -> dict[str, Any] | None:
        for name, value in self.stored.items():
            remove = self.cleaned_data.pop(f"remove_{name}", False)
            if not self.cleaned_data.get(name) and not remove:
                self.cleaned_data[name] = value
        return super().clean()  # type: ignore[misc,no-any-return]


# -------------------------------------------------------------------------------------------------------------------- relays


class RelayForm(forms.ModelForm[Relay]):
    """The fields of every relay, and those that its provider asks for, as one form."""

    #: set by of()
    kind: ClassVar[str]

    class Meta:
        model = Relay
        fields = ("name", "pool", "max_connections", "first_retry", "spf", "dkim_selectors", "keeps_return_path", "do_not_send")

    @classmethod
    def of(cls, kind: str) -> type[RelayForm]:
        return type(cls.__name__, (cls,), {"kind": kind})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.kind = self.kind
        provider = providers.load(self.kind)
        if provider.uses_pool:
            self.fields["pool"].required = True
            if not self.instance.pk:
                self.initial.setdefault("first_retry", GREYLISTED_FOR)
        asked: Any = type("Options", (Secrets, provider.options_form), {"secrets": provider.secret_options})
        self.options = asked(
            self.data if self.is_bound else None, stored=self.instance.secrets, initial={**self.initial, **self.instance.options}
        )

    def lines(self) -> tuple[list[Line], list[Line]]:
        """The provider's fields for two fieldsets, what removes a secret beside it: those that everybody fills in, and those that its
        form names as `rarely` needed."""
        rarely = getattr(self.options, "rarely", ())
        removers = {f"remove_{name}" for name in self.options.stored}
        often: list[Line] = []
        seldom: list[Line] = []
        for name in self.options.fields:
            if name not in removers:
                remover = f"remove_{name}"
                (seldom if name in rarely else often).append((name, remover) if remover in self.options.fields else name)
        return often, seldom

    def __getitem__(self, name: str) -> BoundField:
        if name in self.options.fields:
            field: BoundField = self.options[name]
            return field
        return super().__getitem__(name)

    def full_clean(self) -> None:
        super().full_clean()
        if self.is_bound:
            for name, problems in self.options.errors.items():
                self.errors.setdefault(name, self.error_class()).extend(problems.as_data())

    @property
    def changed_data(self) -> list[str]:
        """By their names: no value of theirs gets into the history."""
        return [*super().changed_data, *self.options.changed_data]

    @sensitive_variables()
    def save(self, commit: bool = True) -> Relay:
        given = self.options.cleaned_data
        secret = providers.load(self.kind).secret_options
        self.instance.options = {name: value for name, value in given.items() if name not in secret}
        self.instance.secrets = {name: value for name, value in given.items() if name in secret and value}
        relay: Relay = super().save(commit)
        return relay


class QuotaForm(forms.ModelForm[Quota]):
    class Meta:
        model = Quota
        fields = ("limit", "period", "kind", "time_zone", "counts")

    def clean_time_zone(self) -> str:
        name: str = self.cleaned_data["time_zone"]
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValidationError(_("“%(name)s” is no time zone. Write it as Asia/Tokyo or UTC."), params={"name": name}) from None
        return name


# ------------------------------------------------------------------------------------------------------------------ services


class LimitsWidget(forms.MultiWidget):
    """A row for each limit: how many, in what, and how that is counted."""

    ROWS = 4

    def __init__(self) -> None:
        periods, kinds = [*Quota.Period.choices], [*Quota.Kind.choices]
        widgets: list[forms.Widget] = []
        for _row in range(self.ROWS):
            widgets += [
                forms.NumberInput(attrs={"min": 1, "class": "vIntegerField", "aria-label": _("Most recipients")}),
                forms.Select(choices=periods, attrs={"aria-label": _("In each")}),
                forms.Select(choices=kinds, attrs={"aria-label": _("How it is counted")}),
            ]
        super().__init__(widgets)

    def decompress(self, value: Any) -> list[Any]:
        flat = [part for row in value or [] for part in row]
        return flat + [None, Quota.Period.DAY, Quota.Kind.ROLLING] * (self.ROWS - len(flat) // 3)

    def render(self, *args: Any, **kwargs: Any) -> SafeString:
        return format_html('<div class="limits">{}</div>', super().render(*args, **kwargs))


class LimitsField(forms.MultiValueField):
    """Service.limits: [[number, period, kind], ...]. A row without a number is none."""

    def __init__(self, **kwargs: Any) -> None:
        row = (
            lambda: forms.IntegerField(min_value=1, required=False),
            lambda: forms.ChoiceField(choices=Quota.Period.choices),
            lambda: forms.ChoiceField(choices=Quota.Kind.choices),
        )
        fields = [make() for _row in range(LimitsWidget.ROWS) for make in row]
        super().__init__(fields, widget=LimitsWidget(), require_all_fields=False, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        """Rows as the widget's inputs, one after another; what was sent is so already."""
        return value if value and not isinstance(value[0], list) else self.widget.decompress(value)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(super().has_changed(self.prepare_value(initial), data))

    def compress(self, data_list: list[Any]) -> list[list[Any]]:
        rows = [data_list[at : at + 3] for at in range(0, len(data_list), 3)]
        found = [row for row in rows if row[0]]
        if len({(period, kind) for _limit, period, kind in found}) < len(found):
            raise ValidationError(_("Two limits are for the same time, counted alike. Leave the smaller one."))
        return found


class ServiceForm(forms.ModelForm[Service]):
    limits = LimitsField(
        label=_("Limits"),
        required=False,
        help_text=_("Of recipients. A relay added for the service gets them as its quotas. Rows without a number count for nothing."),
    )

    class Meta:
        model = Service
        fields = ("limits",)


# -------------------------------------------------------------------------------------------------------------------- routes


class RouteForm(forms.ModelForm[Route]):
    class Meta:
        model = Route
        fields = ("name", "default_for")

    def clean_default_for(self) -> str | None:
        stream: str | None = self.cleaned_data["default_for"] or None
        other = Route.objects.filter(default_for=stream).exclude(pk=self.instance.pk).first() if stream else None
        if other:
            raise ValidationError(_("That is “%(route)s” already. Take it away there first."), params={"route": other})
        return stream


class MemberForm(forms.ModelForm[RouteMember]):
    class Meta:
        model = RouteMember
        fields = ("relay", "position", "weight", "stream", "senders", "destinations")
        widgets: ClassVar = {
            "senders": forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField"}),
            "destinations": forms.CheckboxSelectMultiple,
        }

    def clean_senders(self) -> str:
        """An address or a domain a line, in lower case."""
        names = [line.removeprefix("@").strip(".").lower() for line in self.cleaned_data["senders"].replace(",", " ").split()]
        for name in names:
            local, at, host = name.rpartition("@")
            if not HOST_NAME.match(host) or (at and not local):
                raise ValidationError(
                    _("“%(name)s” is neither an address nor a domain. Write one a line, such as news@example.com or example.com."),
                    params={"name": name},
                )
        return "\n".join(dict.fromkeys(names))


# -------------------------------------------------------------------------------------------------------------- destinations


class DestinationForm(forms.ModelForm[Destination]):
    listed_domains = forms.CharField(
        label=_("Domains"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 6, "class": "vLargeTextField"}),
        help_text=_("One a line. What direct delivery finds by the mail exchangers is known besides."),
    )

    class Meta:
        model = Destination
        fields = (
            "key", "name", "mx_suffixes", "connections", "messages_per_connection", "rate", "per", "tls_required",
            "source", "as_of", "confidence",
        )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            listed = self.instance.domains.filter(learnt_at__isnull=True)
            self.initial["listed_domains"] = "\n".join(listed.values_list("domain", flat=True))

    def clean_listed_domains(self) -> list[str]:
        return self._names("listed_domains")

    def clean_mx_suffixes(self) -> str:
        return "\n".join(f".{name}" for name in self._names("mx_suffixes"))

    def _names(self, field: str) -> list[str]:
        """A host name a line, as the DNS has it."""
        found = []
        for line in self.cleaned_data[field].split():
            name = line.strip(".").lower()
            if not HOST_NAME.match(name):
                raise ValidationError(_("“%(name)s” is not a domain. Write one a line, such as example.com."), params={"name": line})
            found.append(name)
        return list(dict.fromkeys(found))


class ResponseRuleForm(forms.ModelForm[ResponseRule]):
    class Meta:
        model = ResponseRule
        fields = (
            "name", "active", "destination", "pattern", "sample", "position", "trigger", "within", "action", "scope", "lasts",
            "rate", "per", "connections", "keeps_mail", "source", "as_of", "confidence",
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------- warm-up


class WarmupPlanForm(forms.ModelForm[WarmupPlan]):
    class Meta:
        model = WarmupPlan
        fields = ("key", "name", "counts", "caps", "source", "as_of", "confidence")
        widgets: ClassVar = {"caps": forms.Textarea(attrs={"rows": 12, "class": "vLargeTextField"})}

    def clean_caps(self) -> str:
        """As it was shipped, so that a row that nobody changed is not taken for edited."""
        return "\n".join(self.cleaned_data["caps"].replace(",", "").split())


# ---------------------------------------------------------------------------------------------------------------- blocklists


class BlocklistForm(forms.ModelForm[Blocklist]):
    class Meta:
        model = Blocklist
        fields = ("key", "name", "zone", "active", "alerts", "covers_ipv6", "meanings", "url", "source", "as_of", "confidence")
        widgets: ClassVar = {"url": forms.TextInput(attrs={"class": "vLargeTextField"})}

    def clean_meanings(self) -> str:
        """As it was shipped, so that a row that nobody changed is not taken for edited."""
        return "\n".join(self.cleaned_data["meanings"].split("\r\n")).strip()


# ----------------------------------------------------------------------------------------------------------------- addresses


class DedicatedIPForm(forms.ModelForm[DedicatedIP]):
    class Meta:
        model = DedicatedIP
        fields = ("pool", "address", "ehlo_name", "node", "plan", "first_day")

    def clean_address(self) -> str:
        address: str = self.cleaned_data["address"]
        parsed = ip_address(address)
        if parsed.is_unspecified or parsed.is_multicast or parsed.is_link_local or address == "255.255.255.255":
            raise ValidationError(
                _("No mail can leave from %(address)s: it is not the address of one machine."), params={"address": address}
            )
        return address

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        plan, day = given.get("plan"), given.get("first_day")
        if plan and day and day > plan.length:
            problem = _("The plan has %(days)s days. Choose one of them, or no plan: then the address is warm.")
            raise ValidationError({"first_day": ValidationError(problem, params={"days": plan.length})})
        return given

    def clean_ehlo_name(self) -> str:
        name = self.cleaned_data["ehlo_name"].strip().rstrip(".").lower()
        if not HOST_NAME.match(name):
            raise ValidationError(
                _("“%(name)s” is not a full host name. Write it as mail1.example.com: letters, digits and hyphens, with dots between."),
                params={"name": name},
            )
        return str(name)
