"""Accounts that were found in other programs' settings become relays: checked by the form of their kind, as if typed there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cryptography.fernet import InvalidToken
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import User
from django.db import transaction
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import pgettext
from django.views.decorators.debug import sensitive_variables

from mailhub.lib.fields import cipher
from mailhub.relays import providers, services
from mailhub.relays.forms import RelayForm
from mailhub.relays.imports import LONGEST_NAME, MOST_ACCOUNTS, Account
from mailhub.relays.models import Quota, Relay, Service

# Seconds between looking at what was found and taking it over.
KEPT_FOR = 3600
PURPOSE = "relays to be imported"

# Servers of a service besides the one that it is set up with: those of other regions, or one for each customer.
SERVERS = {
    "ses": re.compile(r"email-smtp\.[a-z0-9-]+\.amazonaws\.com"),
    "mailgun": re.compile(r"smtp\.eu\.mailgun\.org"),
    "sendgrid": re.compile(r"smtp\.eu\.sendgrid\.net"),
    "brevo": re.compile(r"smtp-relay\.sendinblue\.com"),
    "postmark": re.compile(r"smtp-broadcasts\.postmarkapp\.com"),
    "xserver": re.compile(r"\w+\.xserver\.jp"),
    "sakura": re.compile(r"[\w-]+\.sakura\.ne\.jp"),
}


# -------------------------------------------------------------------------------------------------------- from page to page


@sensitive_variables()
def seal(accounts: Sequence[Account], user: User) -> str:
    """The accounts for a hidden field, secrets among them: only these keys open it, for this user, and for an hour.

    Nothing is left in the session or the database where staff look and leave; and the text itself, which would have to be in the page
    in the clear to be sent again, is needed no more."""
    data = json.dumps([PURPOSE, user.pk, [asdict(account) for account in accounts]])
    return cipher().encrypt(data.encode()).decode()


@sensitive_variables()
def unseal(sealed: str, user: User) -> list[Account] | None:
    """None where it is too old, another's, or no such thing."""
    try:
        purpose, owner, found = json.loads(cipher().decrypt(sealed.encode(), ttl=KEPT_FOR))
    except (InvalidToken, ValueError, TypeError):
        return None
    if purpose != PURPOSE or owner != user.pk:
        return None
    return [
        Account(
            each["kind"], each["fields"], each["name"], tuple(each["senders"]), tuple((limit, period) for limit, period in each["limits"])
        )
        for each in found
    ]


# ----------------------------------------------------------------------------------------------------------------- looking at them


@dataclass(slots=True)
class Candidate:
    """An account as a relay that might be."""

    number: int
    account: Account
    form: RelayForm
    #: those that have this server; the account may be at any of them
    services: Sequence[Service]
    #: the one whose limits it gets
    service: Service | None
    #: why it may be there already, in words
    same: str
    #: staff have seen it, and sent it back
    answered: bool = False
    ticked: bool = True

    @property
    def kind(self) -> str:
        return str(providers.load(self.account.kind).label)

    @property
    def server(self) -> str:
        return self.account.fields.get("host") or self.account.fields.get("api_url", "")

    @property
    def securities(self) -> list[tuple[str, str]]:
        """What the encryption may be, in fewer words than in the form."""
        return [("starttls", "STARTTLS"), ("tls", "TLS"), ("none", _("none"))]

    @property
    def user(self) -> str:
        """Postmark's user name is its password, too."""
        name = self.account.fields.get("username", "")
        return "••••••" if name and name == self.account.fields.get("password") else name

    @property
    def missing(self) -> list[tuple[str, str]]:
        """Name and label of the secrets that are asked for and not there."""
        fields = self.form.options.fields
        asked = providers.load(self.account.kind).secret_options
        needed = [name for name in fields if name in asked and not self.account.fields.get(name)]
        if self.account.kind == "smtp" and not self.account.fields.get("username"):
            return []
        return [(name, str(fields[name].label)) for name in needed]

    @property
    def has_secret(self) -> bool:
        return any(self.account.fields.get(name) for name in providers.load(self.account.kind).secret_options)

    @property
    def problems(self) -> list[tuple[str, list[str]]]:
        """What the form says, by the labels of its fields. A secret that is missing is asked for first."""
        missing = () if self.answered and self.ticked else dict(self.missing)
        found = []
        for name, errors in self.form.errors.items():
            if name not in missing:
                found.append(("" if name == "__all__" else capfirst(str(self.form[name].label)), [str(error) for error in errors]))
        return found

    @property
    def possible(self) -> bool:
        """It is valid, or would be with what can be entered beside it."""
        return self.form.errors.keys() <= {"name", "security", *dict(self.missing)}


@dataclass(frozen=True, slots=True)
class Choice:
    """What staff entered beside an account."""

    name: str
    ticked: bool
    service: str
    security: str
    #: the secrets that were missing
    secrets: Mapping[str, str]


@sensitive_variables()
def candidates(accounts: Sequence[Account], choices: Sequence[Choice] = ()) -> list[Candidate]:
    """`choices` are those of all accounts, or none yet."""
    known = list(Service.objects.all())
    # Secrets are opened where they are needed: one that no key opens must not be in the way.
    relays = list(Relay.objects.defer("secrets").order_by("name"))
    existing = {relay.name for relay in relays}
    names = set(existing)
    seen = {_identity(relay.kind, relay.options): relay.name for relay in reversed(relays)}
    found: list[Candidate] = []
    for number, account in enumerate(accounts[:MOST_ACCOUNTS]):
        choice = choices[number] if choices else None
        if choice:
            asked = providers.load(account.kind).secret_options
            entered = {name: choice.secrets[name] for name in asked & choice.secrets.keys()}
            if choice.security and account.kind == "smtp":
                entered["security"] = choice.security
            account = replace(account, fields={**account.fields, **entered})
        possible = at(account.fields.get("host", ""), known) if account.kind == "smtp" else []
        chosen = next((each for each in possible if choice and each.pk == choice.service), possible[0] if possible else None)
        name = choice.name if choice else _free(account.name or _name(account, chosen), names)
        form = RelayForm.of(account.kind)(data=_data(account, name, chosen))
        if form.errors.keys().isdisjoint({"name"}) and name in names - existing:
            form.add_error("name", _("Another of these has this name."))
        if not choice or choice.ticked:
            names.add(name)
        identity = _identity(account.kind, account.fields)
        candidate = Candidate(number, account, form, possible, chosen, _same(account.kind, seen.get(identity)), answered=bool(choices))
        seen.setdefault(identity, "")
        candidate.ticked = choice.ticked if choice else candidate.possible and not candidate.same
        found.append(candidate)
    return found


def _same(kind: str, known: str | None) -> str:
    """Why an account may be there already, in words. `known`: a relay's name, "" for another of these accounts, None for nothing."""
    if known is None:
        return ""
    if not known:
        return _("It stands above already.")
    alike = _("“%(relay)s” is the same: server, port and user name.")
    return (alike if kind == "smtp" else _("“%(relay)s” is of the same kind and set up alike.")) % {"relay": known}


def at(host: str, known: Sequence[Service]) -> list[Service]:
    """The services whose server this is, the one with the smallest limits first: too few a day are soon put right, too many are not."""
    host = host.lower()
    found = [each for each in known if host and (each.host.lower() == host or (each.pk in SERVERS and SERVERS[each.pk].fullmatch(host)))]
    return sorted(found, key=lambda service: (not service.limits, [limit for limit, _period, _kind in service.limits], service.name))


def _name(account: Account, service: Service | None) -> str:
    if service:
        return service.name
    return account.fields.get("host") or str(providers.load(account.kind).label)


def _free(name: str, taken: set[str]) -> str:
    name = name[:LONGEST_NAME]
    return next(each for each in (name, *(f"{name} ({n})" for n in range(2, len(taken) + 3))) if each not in taken)


def _identity(kind: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes two relays the same account, as far as that can be known without secrets."""
    if kind == "smtp":
        return kind, *(str(fields.get(name) or "").lower() for name in ("host", "port", "username"))
    if kind not in providers.REGISTRY:
        return (kind,)
    provider = providers.load(kind)
    shown = [name for name in provider.options_form.base_fields if name not in provider.secret_options]
    return kind, *(str(fields.get(name) or "") for name in shown)


def _data(account: Account, name: str, service: Service | None) -> dict[str, Any]:
    """What the browser would send: the form as it begins, for the service where there is one, and in it what was found."""
    blank = RelayForm.of(account.kind)(initial=services.initial(service) if service else {})
    data = {}
    for field in [*blank.fields, *blank.options.fields]:
        value = blank[field].value()
        if value not in (None, "", False):
            data[field] = value
    return {**data, **account.fields, "name": name}


# ---------------------------------------------------------------------------------------------------------------------- taking over


@transaction.atomic
@sensitive_variables()
def take_over(chosen: Sequence[Candidate], user: User) -> list[Relay]:
    """All of them, or none. They are as new as if each had been added by its form: in no route, so nothing leaves through them yet."""
    made = []
    for candidate in chosen:
        relay = candidate.form.save()
        limits = candidate.account.limits
        if limits:
            Quota.objects.bulk_create([Quota(relay=relay, limit=limit, period=period) for limit, period in limits], ignore_conflicts=True)
        elif candidate.service:
            services.add_quotas(relay, candidate.service)
        LogEntry.objects.log_actions(user.pk, [relay], ADDITION, _("Imported from the settings of another program."), single_object=True)
        made.append(relay)
    return made


def senders(accounts: Sequence[Account]) -> str:
    """The From addresses that were found with them, in words."""
    found = dict.fromkeys(address for account in accounts for address in account.senders)
    return pgettext("between names", ", ").join(list(found)[:20])
