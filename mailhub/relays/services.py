"""Services that people have accounts at: what a relay there is set up with. What MailHub ships of them stands in services.toml."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from mailhub.lib.charts import grouped
from mailhub.relays import shipping
from mailhub.relays.models import Plan, Quota, Relay, Service

SHIPPED = Path(__file__).with_name("services.toml")


def load() -> None:
    """Bring the shipped rows into the database; what staff have changed stays."""
    services, plans = shipped()
    with transaction.atomic():
        shipping.bring_in(Service, services)
        # A service that staff deleted takes its plans with it.
        known = set(Service.objects.values_list("pk", flat=True))
        shipping.bring_in(Plan, {key: fields for key, fields in plans.items() if fields["service_id"] in known})


def shipped() -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Services and plans as the file has them, by key: the fields of their models."""
    data = tomllib.loads(SHIPPED.read_text(), parse_float=Decimal)
    as_of = data.pop("as_of")
    services, plans = {}, {}
    for key, given in data.items():
        about = {name: given[name] for name in ("source", "confidence")}
        for plan in given.pop("plans", []):
            common = {**shipping.defaults(Plan), "as_of": as_of, **about, "service_id": key}
            plans[plan["key"]] = common | {name: value for name, value in plan.items() if name != "key"}
        services[key] = {**shipping.defaults(Service), "as_of": as_of, **given}
    return services, plans


# ---------------------------------------------------------------------------------------------------------------- in words


def limits_in_words(service: Service) -> str:
    words = [
        _("%(limit)s a %(period)s") % {"limit": grouped(limit), "period": Quota.Period(period).label}
        for limit, period, _kind in service.limits
    ]
    if service.messages_per_second:
        words.append(_("%(limit)s a second") % {"limit": service.messages_per_second})
    return pgettext("between things", ", ").join(words)


def money(amount: Decimal, currency: str) -> str:
    """Yen have no smaller part."""
    number = number_format(amount, decimal_pos=0 if currency == Plan.Currency.JPY else 2, force_grouping=True)
    return _("%(number)s %(currency)s") % {"number": number, "currency": currency}


# ----------------------------------------------------------------------------------------------------------- setting up a relay


def initial(service: Service) -> dict[str, Any]:
    """What the form of a relay at the service begins with."""
    known = {
        "name": service.name,
        "host": service.host,
        "port": service.port,
        "security": service.security,
        "username": service.username,
        "auth_method": "xoauth2" if service.oauth_only else "",
        "max_connections": service.connections,
        "spf": service.spf,
    }
    return {name: value for name, value in known.items() if value}


def advice(service: Service) -> list[str]:
    """What whoever fills in the form should know, a sentence each."""
    words = []
    if not service.host:
        words.append(_("Every account has a server of its own: its name stands in what the service sent you."))
    match service.login:
        case Service.Login.ADDRESS:
            words.append(_("The user name is the whole mail address."))
        case Service.Login.WORD:
            words.append(_("The user name is always “%(word)s”; the password is an API key.") % {"word": service.username})
        case Service.Login.MADE:
            words.append(_("User name and password are made at the service, apart from those of its website."))
    if service.app_password:
        words.append(_("The account's ordinary password does not work here: make an app password in its security settings."))
    if service.oauth_only:
        words.append(_("It takes no passwords: give an OAuth access token."))
    if service.other_ports:
        words.append(_("It listens on these ports too: %(ports)s.") % {"ports": service.other_ports})
    if not service.bulk:
        words.append(_("An ordinary mail server, not made for campaigns: over its limits mail is refused, and the account may be closed."))
    if not service.limits and not service.bulk:
        words.append(_("It has a limit, but does not say which. Ask, and enter it as a quota."))
    return words


def add_quotas(relay: Relay, service: Service) -> None:
    """The service's limits become the relay's quotas."""
    rows = [Quota(relay=relay, limit=limit, period=period, kind=kind) for limit, period, kind in service.limits]
    Quota.objects.bulk_create(rows, ignore_conflicts=True)
