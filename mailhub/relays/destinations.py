"""Which destination a domain's mail goes to: by lists, and by what direct delivery learns of mail exchangers.

What MailHub ships of them stands in destinations.toml.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from django.db import transaction

from mailhub.lib import clock
from mailhub.lib.notes import Notes
from mailhub.relays import shipping
from mailhub.relays.models import OTHER, Destination, KnownDomain, ResponseRule

SHIPPED = Path(__file__).with_name("destinations.toml")

# What a process remembers of domains, known and unknown ones, so that a mail that is accepted costs no question. A domain that is learnt
# or entered meanwhile is known everywhere a minute later; until then its mail goes as all others' does.
_known: Notes[str] = Notes(60, 100_000)


def forget() -> None:
    _known.clear()


def of(domains: Iterable[str]) -> dict[str, str]:
    """The key of each domain's destination; OTHER for those of none. Domains are in lower case."""
    found = {domain: _known.read(domain) for domain in domains}
    unread = [domain for domain, key in found.items() if key is None]
    if unread:
        read = dict.fromkeys(unread, OTHER)
        read.update(KnownDomain.objects.filter(domain__in=unread).values_list("domain", "destination_id"))
        for domain, key in read.items():
            _known.write(domain, key)
        found.update(read)
    return {domain: key or OTHER for domain, key in found.items()}


class Guide:
    """Destinations as direct delivery needs them: whose a domain's mail exchangers are, and what each asks of a connection."""

    def __init__(self) -> None:
        self.by_key = {destination.pk: destination for destination in Destination.objects.order_by("pk")}
        self.suffixes = {suffix: key for key, destination in self.by_key.items() for suffix in destination.suffixes}

    def of(self, hosts: Iterable[str]) -> str:
        """The destination whose suffixes the names of all these mail exchangers end in, or OTHER."""
        keys = {self._of_host(host.strip(".").lower()) for host in hosts}
        return keys.pop() if len(keys) == 1 else OTHER

    def _of_host(self, host: str) -> str:
        while host:
            if host in self.suffixes:
                return self.suffixes[host]
            # The longest end comes first.
            host = host.partition(".")[2]
        return OTHER


@transaction.atomic
def learn(found: Mapping[str, str]) -> None:
    """Domain -> destination by its mail exchangers. What a list says of a domain stands; OTHER takes back what was learnt earlier."""
    rows = [KnownDomain(domain=domain, destination_id=key, learnt_at=clock.now()) for domain, key in sorted(found.items()) if key != OTHER]
    KnownDomain.objects.bulk_create(rows, ignore_conflicts=True)
    learnt = KnownDomain.objects.filter(learnt_at__isnull=False)
    known = dict(learnt.filter(domain__in=found).values_list("domain", "destination_id"))
    for domain, key in known.items():
        if key != found[domain]:
            moved = learnt.filter(domain=domain)
            moved.delete() if found[domain] == OTHER else moved.update(destination=found[domain], learnt_at=clock.now())
    for domain in found:
        _known.strike(domain)


def enter(destination: Destination, domains: Collection[str]) -> None:
    """Make these the domains that a list gives the destination; those that another one had become its own."""
    with transaction.atomic():
        destination.domains.filter(learnt_at__isnull=True).exclude(domain__in=domains).delete()
        KnownDomain.objects.filter(domain__in=domains).update(destination=destination, learnt_at=None)
        KnownDomain.objects.bulk_create(
            [KnownDomain(domain=domain, destination=destination) for domain in sorted(domains)], ignore_conflicts=True
        )
    forget()


# ---------------------------------------------------------------------------------------------------------------- what is shipped


def load() -> None:
    """Bring the shipped rows into the database: new ones are added, and those that nobody has edited follow a new version of MailHub.

    What staff have changed stays, a destination's domains included."""
    shipped_destinations, shipped_rules = shipped()
    with transaction.atomic():
        listed: dict[str, list[str]] = {}
        for key, domain in KnownDomain.objects.filter(learnt_at__isnull=True).values_list("destination_id", "domain"):
            listed.setdefault(key, []).append(domain)
        aside = {key: {"domains": sorted(domains)} for key, domains in listed.items()}
        for destination in shipping.bring_in(Destination, shipped_destinations, aside):
            enter(destination, shipped_destinations[destination.pk]["domains"])
        shipping.bring_in(ResponseRule, shipped_rules)


def shipped() -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Destinations and reply rules as the file has them, by key: the fields of their models, and the destinations' domains."""
    data = tomllib.loads(SHIPPED.read_text())
    as_of = data.pop("as_of")
    rules = _rules(data.pop("any"), None, as_of)
    destinations = {}
    for key, given in data.items():
        rules.update(_rules(given.pop("rules", []), key, as_of))
        destinations[key] = {
            **shipping.defaults(Destination),
            "as_of": as_of,
            **{DESTINATION_FIELDS.get(name, name): value for name, value in given.items() if name != "mx"},
            "mx_suffixes": "\n".join(given.get("mx", [])),
            "domains": sorted(given.get("domains", [])),
        }
    return destinations, rules


DESTINATION_FIELDS = {"messages": "messages_per_connection", "tls": "tls_required"}


def _rules(given: Iterable[dict[str, Any]], destination: str | None, as_of: date) -> dict[str, dict[str, Any]]:
    """The order in the file is the order in which they are tried."""
    common = {**shipping.defaults(ResponseRule), "as_of": as_of, "destination_id": destination}
    return {rule.pop("key"): {**common, "position": place, **rule} for place, rule in enumerate(given, start=1)}
