"""What a sender's domain lacks for a relay to be trusted with its mail: told from what was last found in the DNS, before the relay is used.

for lack in readiness.lacks(sender.domain, relay): ...
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from mailhub.relays import providers
from mailhub.relays.models import Relay, Route
from mailhub.relays.providers.esp import ESP
from mailhub.senders import records
from mailhub.senders.models import DKIMKey, Domain, Finding, Kind, Sender, Verdict


@dataclass(frozen=True, slots=True)
class Lack:
    relay: Relay
    #: SPF, DKIM or DMARC
    kind: Kind
    #: what is wrong, and what to do
    words: str
    remedy: str
    #: the record to publish, where there is one
    name: str = ""
    type: str = ""
    record: str = ""
    #: not known to be wrong: nobody has looked since
    unknown: bool = False


#: stands for what nobody has looked at since
UNSEEN = Lack(Relay(), Kind.SPF, "", "", unknown=True)


def lacks(domain: Domain, relay: Relay) -> list[Lack]:
    """What speaks against sending mail from the domain by way of the relay; nothing is looked up."""
    if relay.sends_nothing or not _leaves(relay):
        return []
    rows = list(domain.findings.all())
    spf = _spf(domain, relay, rows)
    dkim = _dkim(domain, relay, rows)
    known = [lack for lack in [*spf, *dkim] if lack is not UNSEEN]
    unseen = [kind for kind, found in ((Kind.SPF, spf), (Kind.DKIM, dkim)) if UNSEEN in found]
    return [*_unseen(domain, relay, unseen), *known, *_dmarc(domain, relay, rows, spf, dkim)]


def of_route(domain: Domain, route: Route | None) -> list[Lack]:
    """Of all relays of a route."""
    relays = route.relays.select_related("pool").defer("secrets").distinct() if route else []
    found = {(lack.words, lack.name): lack for relay in relays for lack in lacks(domain, relay)}
    return list(found.values())


def of_sender(sender: Sender) -> list[Lack]:
    """Of all relays by which the sender's mail may leave."""
    routes = {route.pk: route for stream in ("transactional", "campaign") if (route := sender.route(stream))}
    found = {(lack.words, lack.name): lack for route in routes.values() for lack in of_route(sender.domain, route)}
    return list(found.values())


def _leaves(relay: Relay) -> bool:
    return relay.kind not in ("inbox", "memory")


def _signs_itself(relay: Relay) -> bool:
    """Its service writes the mail anew and signs it with keys of its own."""
    return issubclass(providers.load(relay.kind), ESP)


def _spf(domain: Domain, relay: Relay, rows: Iterable[Finding]) -> list[Lack]:
    terms = records.terms_of(relay)
    if not terms:
        return []
    row = next((row for row in rows if row.kind == Kind.SPF), None)
    if row is None or row.verdict == Verdict.UNKNOWN:
        return [UNSEEN]
    if row.problem == "spf_terms" or row.verdict == Verdict.PASS:
        asked, has = row.about.get("asked", []), row.about.get("has", [])
        missing = [term for term in terms if term not in has]
        if any(term not in asked for term in missing):
            return [UNSEEN]
        if not missing:
            return []
        words = _("The SPF record of %(domain)s lacks %(terms)s, which “%(relay)s” needs.")
        said = words % {"domain": domain.name, "terms": " ".join(missing), "relay": relay}
        return [Lack(relay, Kind.SPF, said, str(records.PUBLISH), row.name, row.type, records.with_terms(row.found, missing))]
    words, remedy = records.words(row.problem, row.about)
    wanted = records.with_terms("v=spf1 ~all", terms) if row.problem == "spf_missing" else row.wanted
    return [Lack(relay, Kind.SPF, words, remedy, row.name, row.type, wanted)]


def _dkim(domain: Domain, relay: Relay, rows: Iterable[Finding]) -> list[Lack]:
    found = {row.name: row for row in rows if row.kind == Kind.DKIM}
    if selectors := relay.dkim_selectors.split():
        return [lack for selector in selectors for lack in _selector(relay, f"{selector}._domainkey.{domain.name}", found)]
    if _signs_itself(relay):
        words = _("“%(relay)s” signs with keys of its service, and MailHub does not know their selectors.") % {"relay": relay}
        return [Lack(relay, Kind.DKIM, words, _("Enter them on the relay's page; the service names them."), unknown=True)]
    ours = [row for row in found.values() if "relay" not in row.about]
    labels = domain.name.split(".")
    names = [".".join(labels[at:]) for at in range(len(labels))]
    signing = {str(key) for key in DKIMKey.objects.filter(domain__name__in=names, status=DKIMKey.Status.SIGNING).select_related("domain")}
    if any(row.name in signing and row.verdict == Verdict.PASS for row in ours):
        return []
    if not ours:
        return [UNSEEN]
    row = next((row for row in ours if row.verdict != Verdict.PASS), None)
    if row is None:
        # Published, but none of them signs yet: the next look has it sign.
        return []
    words, remedy = records.words(row.problem, row.about)
    return [Lack(relay, Kind.DKIM, words, remedy, row.name if row.wanted else "", row.type, row.wanted)]


def _selector(relay: Relay, name: str, found: dict[str, Finding]) -> list[Lack]:
    row = found.get(name)
    if row is None or row.verdict == Verdict.UNKNOWN:
        return [UNSEEN]
    if row.verdict == Verdict.PASS:
        return []
    words, remedy = records.words(row.problem, {**row.about, "relay": relay})
    return [Lack(relay, Kind.DKIM, words, remedy, name, row.type)]


def _dmarc(domain: Domain, relay: Relay, rows: Sequence[Finding], spf: Sequence[Lack], dkim: Sequence[Lack]) -> list[Lack]:
    """Whether one of the two would speak for the domain that readers see (RFC 9989 section 4.4)."""
    own = relay.is_direct or relay.keeps_return_path
    away = any(row.kind == Kind.BOUNCES and row.problem == "bounces_alignment" for row in rows)
    strict = any(row.problem == "dmarc_alignment" for row in rows) and not relay.dkim_selectors
    by_spf = own and not away and not spf and records.terms_of(relay)
    by_dkim = not dkim and not strict
    if by_spf or by_dkim or any(lack.unknown for lack in [*spf, *dkim]):
        return []
    words = _("Mail from %(domain)s by “%(relay)s” would fail DMARC: neither DKIM nor SPF speaks for the domain.")
    policy = next((row for row in rows if row.kind == Kind.DMARC), None)
    remedy = _("Mend DKIM first: it holds whatever return path the relay uses.")
    return [Lack(relay, Kind.DMARC, words % {"domain": domain.name, "relay": relay}, remedy, policy.name if policy else "", "TXT")]


def _unseen(domain: Domain, relay: Relay, kinds: Sequence[Kind]) -> list[Lack]:
    if not kinds:
        return []
    about = {"domain": domain.name, "relay": relay, "kinds": pgettext("between things", ", ").join(str(kind.label) for kind in kinds)}
    words = _("Whether %(domain)s is ready for “%(relay)s” (%(kinds)s) has not been looked up in the DNS yet.") % about
    return [Lack(relay, kinds[0], words, _("Look it up on the domain's page."), unknown=True)]
