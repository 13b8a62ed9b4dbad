"""SPF (RFC 7208): which servers a domain lets send its mail, and whether receivers can make sense of what it says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network

from mailhub.lib import dns

# Section 4.6.4: terms that make a receiver ask the DNS, in all records together; answers that hold nothing; hosts of one "mx".
MOST_LOOKUPS = 10
MOST_VOID = 2
MOST_HOSTS = 10
ASKS = frozenset({"include", "a", "mx", "ptr", "exists", "redirect"})

TERM = re.compile(
    r"(?P<qualifier>[+?~-]?)(?P<name>all|include|a|mx|ptr|ip4|ip6|exists)(?::(?P<value>[\w.%{}+,=:-]+))?(?P<lengths>(?:/\d+)?(?://\d+)?)\Z",
    re.IGNORECASE,
)
MODIFIER = re.compile(r"(?P<name>[a-z][a-z0-9._-]*)=(?P<value>\S*)\Z", re.IGNORECASE)
LENGTHS = re.compile(r"(?P<value>[^/]*)(?:/(?P<four>\d{1,2}))?(?://(?P<six>\d{1,3}))?\Z")

Network = IPv4Network | IPv6Network


class PermError(Exception):
    """Receivers make nothing of the record (section 2.6.7)."""

    def __init__(self, problem: str, **about: object) -> None:
        super().__init__(problem)
        #: a word of records.Problem
        self.problem = problem
        self.about = about


@dataclass(frozen=True, slots=True)
class Term:
    """A mechanism or a modifier."""

    #: "+" pass, "-" fail, "~" softfail, "?" neutral; "" of a modifier
    qualifier: str
    name: str
    #: domain or network; "" where the domain itself is meant
    value: str = ""
    four: int = 32
    six: int = 128


@dataclass(slots=True)
class Permission:
    """What a domain's record says, with all that it includes."""

    record: str
    lookups: int = 0
    void: int = 0
    #: domains whose records are included, at whatever depth
    included: set[str] = field(default_factory=set)
    networks: list[Network] = field(default_factory=list)
    #: "+", "-", "~" or "?" for everybody else; "" where the record does not say
    others: str = ""

    def has(self, term: str) -> bool:
        """Whether a term that a relay needs (include:..., ip4:..., ip6:...) is there, directly or through what is included."""
        name, _colon, value = term.partition(":")
        if name == "include":
            return value.lower().rstrip(".") in self.included
        wanted = ip_network(value, strict=False)
        return any(wanted.version == there.version and wanted.subnet_of(there) for there in self.networks)  # type: ignore[arg-type]


def records(texts: Iterable[str]) -> list[str]:
    """The SPF records among a name's TXT records (section 4.5)."""
    return [text for text in texts if text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")]


def parse(record: str) -> list[Term]:
    """Raises PermError."""
    return [_term(word) for word in record.split()[1:]]


def _term(word: str) -> Term:
    if found := MODIFIER.match(word):
        return Term("", found["name"].lower(), found["value"])
    found = TERM.match(word)
    if found is None:
        raise PermError("spf_syntax", term=word)
    name, value = found["name"].lower(), (found["value"] or "") + found["lengths"]
    if name in ("ip4", "ip6"):
        try:
            network = ip_network(value, strict=False)
        except ValueError:
            raise PermError("spf_syntax", term=word) from None
        if network.version != int(name[-1]):
            raise PermError("spf_syntax", term=word)
        return Term(found["qualifier"] or "+", name, str(network))
    parts = LENGTHS.match(value)
    if parts is None or (name in ("include", "exists") and not value) or (name == "all" and value):
        raise PermError("spf_syntax", term=word)
    four, six = int(parts["four"] or 32), int(parts["six"] or 128)
    if four > 32 or six > 128:
        raise PermError("spf_syntax", term=word)
    return Term(found["qualifier"] or "+", name, parts["value"], four, six)


async def read(domain: str) -> Permission | None:
    """What the domain's record says; None where it has none. Raises PermError, or dns.Unanswered."""
    record = await _record(domain)
    if record is None:
        return None
    permission = Permission(record)
    await _walk(domain, record, permission, passing=True, path=(domain,))
    return permission


async def _record(domain: str) -> str | None:
    found = records((await dns.texts(domain)).records)
    if len(found) > 1:
        raise PermError("spf_several", domain=domain)
    return found[0] if found else None


async def _walk(domain: str, record: str, into: Permission, *, passing: bool, path: tuple[str, ...]) -> None:
    """`passing`: what the record lets pass passes for the domain that was asked about."""
    terms = parse(record)
    for term in terms:
        if term.name in ASKS:
            into.lookups += 1
            if into.lookups > MOST_LOOKUPS:
                raise PermError("spf_lookups", most=MOST_LOOKUPS)
        passes = passing and term.qualifier == "+"
        match term.name:
            case "all":
                if len(path) == 1:
                    into.others = term.qualifier
            case "ip4" | "ip6":
                into.networks += [ip_network(term.value)] if passes else []
            case "include":
                await _include(term.value, into, passing=passes, path=path)
            case "a" | "mx":
                networks = await _hosts(term, term.value or domain, into)
                into.networks += networks if passes else []
    redirect = next((term.value for term in terms if term.name == "redirect"), None)
    if redirect is not None and not any(term.name == "all" for term in terms):
        await _include(redirect, into, passing=passing, path=path, instead=True)


async def _include(target: str, into: Permission, *, passing: bool, path: tuple[str, ...], instead: bool = False) -> None:
    """`instead`: the target's record stands in place of the one that names it (section 6.1)."""
    if "%" in target:
        # Made anew for each mail (section 7): nothing can be said beforehand.
        return
    target = target.lower().rstrip(".")
    if target in path:
        raise PermError("spf_loop", domain=target)
    record = await _record(target)
    if record is None:
        raise PermError("spf_include", domain=target)
    if passing:
        into.included.add(target)
    await _walk(target, record, into, passing=passing, path=path[:-1] + (target,) if instead else (*path, target))


async def _hosts(term: Term, target: str, into: Permission) -> list[Network]:
    if "%" in target:
        return []
    hosts = [target]
    if term.name == "mx":
        try:
            hosts = [exchanger.host for exchanger in (await dns.mx(target)).records if exchanger.host]
        except dns.Absent:
            hosts = []
        if not hosts:
            _void(into)
        if len(hosts) > MOST_HOSTS:
            raise PermError("spf_hosts", domain=target, most=MOST_HOSTS)
    networks: list[Network] = []
    for host in hosts:
        try:
            addresses = (await dns.addresses(host)).records
        except dns.Absent:
            _void(into)
            continue
        networks += [ip_network(f"{address}/{term.six if ':' in address else term.four}", strict=False) for address in addresses]
    return networks


def _void(into: Permission) -> None:
    into.void += 1
    if into.void > MOST_VOID:
        raise PermError("spf_void", most=MOST_VOID)
