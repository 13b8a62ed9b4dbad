"""What a domain has to say in the DNS for its mail to be trusted, and whether it does.

    findings = async_to_sync(records.check)(domain)

Nothing here changes a row; verdicts.py keeps what was found, the domain's page shows it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from mailhub.lib import dns, http, tokens
from mailhub.relays import mta_sts
from mailhub.relays.models import DedicatedIP, Relay, Route
from mailhub.senders import dmarc, spf
from mailhub.senders.models import DKIMKey, Domain, Kind, Verdict

# All questions for one of the records together may take this long (seconds): someone waits for the page.
PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One record: what is to stand there, what does, and what that means."""

    kind: Kind
    verdict: Verdict
    #: where in the DNS
    name: str
    #: record type: TXT, A, PTR ...
    type: str
    #: what is to be published there; "" when nothing is
    wanted: str = ""
    #: what is published there, a line a record
    found: str = ""
    #: a key of PROBLEMS; "" when there is none
    problem: str = ""
    #: what the problem's words name
    about: dict[str, Any] = field(default_factory=dict)


PUBLISH = _("Publish the record shown.")

# problem -> (what is wrong, what to do)
PROBLEMS: dict[str, tuple[Any, Any]] = {
    "unanswered": (_("The DNS gave no answer: %(reason)s"), _("Try again in a moment. If it stays so, the domain's name servers are ill.")),
    "slow": (_("The DNS was too slow."), _("Try again in a moment.")),
    "ownership_missing": (
        _("Nothing shows yet that the domain is yours."),
        _("Publish the record shown: then all its senders are confirmed. Or confirm each sender by mail."),
    ),
    "spf_missing": (_("The domain has no SPF record: receivers cannot tell who may send for it."), PUBLISH),
    "spf_several": (
        _("There is more than one SPF record at %(domain)s. Receivers then use none."),
        _("Make one of them: it holds what all of them say."),
    ),
    "spf_syntax": (_("Receivers cannot read “%(term)s” in the SPF record."), _("Correct or remove it.")),
    "spf_lookups": (
        _("Reading the SPF record takes more than %(most)s look-ups in the DNS. Receivers stop there and count it as broken."),
        _("Remove services that you no longer use, or move some of your mail to a subdomain with a record of its own."),
    ),
    "spf_void": (
        _("More than %(most)s names in the SPF record lead to nothing. Receivers count it as broken."),
        _("Remove names that no longer exist."),
    ),
    "spf_hosts": (_("“mx:%(domain)s” in the SPF record stands for more than %(most)s hosts."), _("Name their addresses instead.")),
    "spf_loop": (_("The SPF record of %(domain)s includes itself."), _("Remove the include that leads back.")),
    "spf_include": (
        _("The SPF record includes %(domain)s, which has none."),
        _("Correct or remove it: receivers count the record as broken."),
    ),
    "spf_open": (_("The SPF record lets the whole world send for the domain (+all)."), _("End it with ~all.")),
    "spf_terms": (
        _("The SPF record lacks %(terms)s. What leaves by %(relays)s is not covered."),
        _("Publish the record shown: it is yours with that added."),
    ),
    "dkim_none": (
        _("No key signs the domain's mail. Large mailbox providers ask bulk senders for it."),
        _("Make a DKIM key for the domain, and publish its record."),
    ),
    "dkim_missing": (_("The record of this DKIM key is not published."), PUBLISH),
    "dkim_missing_signing": (
        _("Mail is signed with this key, but its record is not published: every signature fails."),
        _("Publish the record shown, soon."),
    ),
    "dkim_relay_missing": (
        _("“%(relay)s” signs with keys of its service, but this record of theirs is not published."),
        _("Publish the record that the service shows for this name: a CNAME, or a TXT with the key."),
    ),
    "dkim_several": (_("There is more than one record where the DKIM key's should stand alone."), _("Leave the one shown.")),
    "dkim_mismatch": (_("Another key is published than the one that MailHub signs with."), _("Replace it by the record shown, unbroken.")),
    "dkim_revoked": (_("The published DKIM record is empty, which revokes the key."), _("Replace it by the record shown.")),
    "dkim_testing": (
        _("The DKIM record says that it is being tested (t=y). Some receivers then ignore the signature."),
        _("Publish the record as shown."),
    ),
    "dkim_strict": (
        _("The DKIM record forbids subdomains (t=s), but signs for them."),
        _("Publish the record as shown."),
    ),
    "dmarc_missing": (
        _("No DMARC policy holds for the domain. Large mailbox providers ask bulk senders for one."),
        _("Publish the record shown. It changes nothing about delivery yet, and brings you reports once you name an address for them."),
    ),
    "dmarc_several": (_("There is more than one DMARC record. Receivers then use none."), _("Leave one of them.")),
    "dmarc_syntax": (_("Receivers cannot read the DMARC record."), _("Write it as tags with “=”, and “;” between them.")),
    "dmarc_empty": (_("The DMARC record holds neither a policy (p=) nor an address for reports (rua=)."), _("Publish the record shown.")),
    "dmarc_alignment": (
        _("DMARC asks for a signature by %(domain)s itself (adkim=s), but the key that signs is %(signer)s's."),
        _("Make a DKIM key for this domain, or allow relaxed alignment (adkim=r)."),
    ),
    "dmarc_none": (
        _("The DMARC policy is “none”: others may still send in your name."),
        _("When the reports show that all of your own mail passes, go on to p=quarantine and then p=reject."),
    ),
    "dmarc_no_reports": (
        _("DMARC names no address for reports (rua=), so you cannot see who sends in your name."),
        _("Add rua=mailto: with an address that you read, or that MailHub polls."),
    ),
    "existence_missing": (
        _("The domain has neither an MX nor an address record. Some receivers, docomo among them, refuse mail from such a domain."),
        _("Publish an MX record of the server that takes the domain's mail."),
    ),
    "existence_null": (
        _("The domain says that it takes no mail (null MX). Receivers may refuse mail from an address that cannot be answered."),
        _("Publish an MX record of the server that takes the domain's mail."),
    ),
    "bounces_missing": (
        _("The domain that bounces are to come to takes no mail."),
        _("Publish an MX record of the server that hands them to MailHub, or take the bounce address away."),
    ),
    "bounces_alignment": (
        _("%(domain)s belongs to another organisation than the senders: SPF then counts for nothing in DMARC, and DKIM alone carries it."),
        _("Take a name below the domain itself for bounces."),
    ),
    "links_missing": (
        _("The host name of MailHub's own address does not resolve: links, opt-outs and pictures in your mails lead nowhere."),
        _("Publish an address record for it, or correct MAILHUB_PUBLIC_URL."),
    ),
    "ptr_missing": (
        _("The address %(address)s has no PTR record. Gmail and others refuse mail from such addresses."),
        _("Ask whoever you have the address from to set it to %(name)s."),
    ),
    "ptr_unconfirmed": (
        _("%(found)s, which the PTR record of %(address)s names, does not lead back to that address."),
        _("Publish an address record at %(found)s, or have the PTR record set to %(name)s."),
    ),
    "ptr_other": (
        _("The PTR record of %(address)s names %(found)s, but MailHub greets as %(name)s."),
        _("Set the EHLO name of the address to %(found)s, or have the PTR record set to %(name)s."),
    ),
    "mta_sts_missing": (
        _("The domain does not say that mail to it must be encrypted (MTA-STS)."),
        _("This is about mail that you receive, and voluntary: see RFC 8461."),
    ),
    "mta_sts_wrong": (
        _("The domain announces an MTA-STS policy that cannot be used: %(reason)s"),
        _("Correct the policy, or remove the record: senders may hold mail for you back."),
    ),
    "tls_rpt_missing": (
        _("Nobody is told when mail to the domain could not be encrypted (TLS-RPT)."),
        _("Voluntary. With the record shown you get daily reports."),
    ),
    "tls_rpt_wrong": (_("The TLS-RPT record names no address (rua=)."), _("Publish the record shown.")),
}


def words(problem: str, about: dict[str, Any]) -> tuple[str, str]:
    """What is wrong, and what to do."""
    wrong, remedy = PROBLEMS.get(problem, ("", ""))
    return str(wrong) % about, str(remedy) % about


# ------------------------------------------------------------------------------------------------------------- what is looked at


@dataclass(frozen=True, slots=True)
class Subject:
    """A domain with what its rows say that matters here."""

    name: str
    #: its own and those of the domains above it, that sign or are to
    keys: tuple[DKIMKey, ...]
    #: what SPF has to hold for each relay, by the relay's name
    terms: dict[str, tuple[str, ...]]
    #: the same for any relay there is: readiness.py tells by it what another would lack
    known: frozenset[str]
    #: selectors of the services' own keys, with the relay's name; and whether any relay leaves signing to us
    selectors: dict[str, str]
    signs: bool
    ips: tuple[DedicatedIP, ...]
    #: the domain that bounces come to; "" where they go to the senders
    bounces: str
    #: the host that tracked links lead by; "" is MailHub's own
    links: str = ""


def subject(domain: Domain, also: Relay | None = None) -> Subject:
    relays = relays_of(domain)
    if also and also not in relays:
        relays.append(also)
    pools = {relay.pool_id for relay in relays if relay.is_direct and relay.pool_id}
    ips = tuple(DedicatedIP.objects.filter(pool__in=pools))
    terms = {relay.name: wanted for relay in relays if (wanted := terms_of(relay))}
    known = frozenset(term for relay in Relay.objects.defer("secrets").select_related("pool") for term in terms_of(relay))
    selectors = {selector: relay.name for relay in relays for selector in relay.dkim_selectors.split()}
    signs = not relays or any(not relay.dkim_selectors for relay in relays)
    labels = domain.name.split(".")
    names = [".".join(labels[at:]) for at in range(len(labels))]
    keys = DKIMKey.objects.filter(domain__name__in=names).exclude(status=DKIMKey.Status.RETIRED).select_related("domain")
    bounces = domain.bounce_address.rpartition("@")[2]
    return Subject(domain.name, tuple(keys.order_by("-status", "pk")), terms, known, selectors, signs, ips, bounces, domain.link_host)


def terms_of(relay: Relay) -> tuple[str, ...]:
    """What the SPF record of a domain has to hold for mail that leaves by the relay."""
    ips = relay.pool.ips.all() if relay.is_direct and relay.pool else []
    return tuple([f"ip{6 if ':' in ip.address else 4}:{ip.address}" for ip in ips] or relay.spf.split())


def relays_of(domain: Domain) -> list[Relay]:
    """The relays by which the domain's senders' mail may leave."""
    routes = {sender.route(stream) for sender in domain.senders.all() for stream in ("transactional", "campaign")}
    wanted = Q(routes__in=[route for route in routes if isinstance(route, Route)])
    return list(Relay.objects.filter(wanted).defer("secrets").distinct().order_by("name"))


def ownership_token(domain: str) -> str:
    """What the domain publishes to show that it is ours to use; other installations ask for another."""
    return "mailhub=" + tokens.sign("domain", domain).rpartition("~")[2]


# --------------------------------------------------------------------------------------------------------------------- checks


async def check(domain: Domain, also: Relay | None = None) -> list[Seen]:
    """Everything there is to say about the domain, in the order of the page. `also`: a relay that its mail is to leave by."""
    about = await sync_to_async(subject)(domain, also)
    checks: list[tuple[Kind, Callable[[Subject], Awaitable[list[Seen]]]]] = [
        (Kind.OWNERSHIP, _ownership),
        (Kind.SPF, _spf),
        (Kind.DKIM, _dkim),
        (Kind.DMARC, _dmarc),
        (Kind.EXISTENCE, _existence),
        (Kind.BOUNCES, _bounces),
        (Kind.LINKS, _links),
        (Kind.PTR, _ptr),
        (Kind.MTA_STS, _mta_sts),
        (Kind.TLS_RPT, _tls_rpt),
    ]
    found = await asyncio.gather(*(_in_time(kind, look, about) for kind, look in checks))
    return [finding for findings in found for finding in findings]


async def _in_time(kind: Kind, look: Callable[[Subject], Awaitable[list[Seen]]], about: Subject) -> list[Seen]:
    try:
        async with asyncio.timeout(PATIENCE):
            return await look(about)
    except dns.DNSError as error:
        return [Seen(kind, Verdict.UNKNOWN, about.name, "", problem="unanswered", about={"reason": str(error)})]
    except TimeoutError:
        return [Seen(kind, Verdict.UNKNOWN, about.name, "", problem="slow")]


async def _ownership(about: Subject) -> list[Seen]:
    name, token = f"_mailhub.{about.name}", ownership_token(about.name)
    found = (await dns.texts(name)).records
    if token in found:
        return [Seen(Kind.OWNERSHIP, Verdict.PASS, name, "TXT", token, token)]
    return [Seen(Kind.OWNERSHIP, Verdict.ADVICE, name, "TXT", token, "\n".join(found), "ownership_missing")]


async def _spf(about: Subject) -> list[Seen]:
    wanted = [term for terms in about.terms.values() for term in terms]

    def finding(verdict: Verdict, record: str, new: str = "", problem: str = "", has: Iterable[str] = (), **words: Any) -> list[Seen]:
        known = {"asked": sorted(about.known), "has": sorted(has)} if about.known else {}
        return [Seen(Kind.SPF, verdict, about.name, "TXT", new, record, problem, {**words, **known})]

    published = "\n".join(spf.records((await dns.texts(about.name)).records))
    try:
        permission = await spf.read(about.name)
    except spf.PermError as error:
        return finding(Verdict.WRONG, published, "", error.problem, (), **error.about)
    if permission is None:
        return finding(Verdict.MISSING, "", with_terms("v=spf1 ~all", wanted), "spf_missing")
    if permission.others == "+":
        closed = re.sub(r"(?<!\S)\+?all(?!\S)", "~all", published, flags=re.IGNORECASE)
        return finding(Verdict.WRONG, published, closed, "spf_open", about.known)
    has = [term for term in about.known if permission.has(term)]
    lacking = {relay: [term for term in terms if not permission.has(term)] for relay, terms in about.terms.items()}
    lacking = {relay: terms for relay, terms in lacking.items() if terms}
    if lacking:
        terms = list(dict.fromkeys(term for terms in lacking.values() for term in terms))
        words = {"terms": " ".join(terms), "relays": ", ".join(lacking)}
        return finding(Verdict.MISSING, published, with_terms(published, terms), "spf_terms", has, **words)
    return finding(Verdict.PASS, published, published, "", has)


def with_terms(record: str, terms: Iterable[str]) -> str:
    """The record with the terms before what it says of everybody else."""
    words = record.split()
    at = next((at for at, word in enumerate(words) if word.lstrip("+-~?").lower() == "all" or word.startswith("redirect=")), len(words))
    return " ".join([*words[:at], *dict.fromkeys(terms), *words[at:]])


async def _dkim(about: Subject) -> list[Seen]:
    keys = [_key(key, about.name) for key in about.keys]
    found = list(await asyncio.gather(*keys, *(_services_key(name, relay, about.name) for name, relay in about.selectors.items())))
    if not about.keys and about.signs:
        found.insert(0, Seen(Kind.DKIM, Verdict.MISSING, f"*._domainkey.{about.name}", "TXT", problem="dkim_none", about={}))
    return found


async def _services_key(selector: str, relay: str, domain: str) -> Seen:
    """Only whether it is there: what it holds is the service's affair, and changes as it likes."""
    name = f"{selector}._domainkey.{domain}"
    found = (await dns.texts(name)).records
    if any(_tags(text).get("p") for text in found):
        return Seen(Kind.DKIM, Verdict.PASS, name, "CNAME", "", "\n".join(found), "", {"relay": relay})
    return Seen(Kind.DKIM, Verdict.MISSING, name, "CNAME", "", "\n".join(found), "dkim_relay_missing", {"relay": relay})


async def _key(key: DKIMKey, domain: str) -> Seen:
    wanted = (await sync_to_async(key.record)()).value
    found = (await dns.texts(str(key))).records

    def finding(verdict: Verdict, problem: str = "") -> Seen:
        return Seen(Kind.DKIM, verdict, str(key), "TXT", wanted, "\n".join(found), problem)

    if not found:
        signs = key.status == DKIMKey.Status.SIGNING
        return finding(Verdict.WRONG, "dkim_missing_signing") if signs else finding(Verdict.MISSING, "dkim_missing")
    if len(found) > 1:
        return finding(Verdict.WRONG, "dkim_several")
    tags = _tags(found[0])
    if not tags.get("p"):
        return finding(Verdict.WRONG, "dkim_revoked" if "p" in tags else "dkim_mismatch")
    if tags["p"] != _tags(wanted)["p"]:
        return finding(Verdict.WRONG, "dkim_mismatch")
    flags = tags.get("t", "").split(":")
    if "s" in flags and key.domain.name != domain:
        return finding(Verdict.WRONG, "dkim_strict")
    if "y" in flags:
        return finding(Verdict.WRONG, "dkim_testing")
    return finding(Verdict.PASS)


def _tags(record: str) -> dict[str, str]:
    """Tag list of RFC 6376 section 3.2, without white space, which may stand anywhere in a value."""
    pairs = (part.partition("=") for part in record.split(";") if "=" in part)
    return {name.strip(): "".join(value.split()) for name, _equals, value in pairs}


async def _dmarc(about: Subject) -> list[Seen]:
    name, new = f"_dmarc.{about.name}", "v=DMARC1; p=none"

    def finding(verdict: Verdict, record: str, wanted: str = "", problem: str = "", **words: Any) -> list[Seen]:
        return [Seen(Kind.DMARC, verdict, name, "TXT", wanted, record, problem, words)]

    try:
        policy = await dmarc.policy(about.name)
        own = await dmarc.record_at(about.name)
    except dmarc.Malformed as error:
        return finding(Verdict.WRONG, error.record, new, error.problem)
    if own and not own.is_policy:
        return finding(Verdict.WRONG, own.text, new, "dmarc_empty")
    if policy is None:
        return finding(Verdict.MISSING, "", new, "dmarc_missing")
    text = policy.record.text
    signers = {key.domain.name for key in about.keys if key.status == DKIMKey.Status.SIGNING}
    if signers and policy.record.is_strict("adkim") and about.name not in signers:
        return finding(Verdict.WRONG, text, "", "dmarc_alignment", domain=about.name, signer=", ".join(sorted(signers)))
    if not policy.record.tags.get("rua"):
        return finding(Verdict.ADVICE, text, "", "dmarc_no_reports")
    if policy.action == "none":
        return finding(Verdict.ADVICE, text, "", "dmarc_none")
    return finding(Verdict.PASS, text, text)


async def _existence(about: Subject) -> list[Seen]:
    try:
        exchangers = (await dns.mx(about.name)).records
    except dns.Absent:
        exchangers = ()
    found = "\n".join(f"{exchanger.preference} {exchanger.host or '.'}" for exchanger in exchangers)
    if exchangers and not any(exchanger.host for exchanger in exchangers):
        return [Seen(Kind.EXISTENCE, Verdict.WRONG, about.name, "MX", "", found, "existence_null")]
    if exchangers:
        return [Seen(Kind.EXISTENCE, Verdict.PASS, about.name, "MX", "", found)]
    return [await _address(Kind.EXISTENCE, about.name, "existence_missing")]


async def _bounces(about: Subject) -> list[Seen]:
    """Whether bounces find their way, and whether the return path counts as the domain's own (RFC 9989 section 4.4.2)."""
    if not about.bounces:
        return []
    try:
        exchangers = [exchanger.host for exchanger in (await dns.exchangers(about.bounces)).records]
    except dns.Absent:
        return [Seen(Kind.BOUNCES, Verdict.WRONG, about.bounces, "MX", problem="bounces_missing")]
    found = "\n".join(exchangers)
    if await dmarc.organisational(about.bounces) != await dmarc.organisational(about.name):
        words = {"domain": about.bounces}
        return [Seen(Kind.BOUNCES, Verdict.ADVICE, about.bounces, "MX", "", found, "bounces_alignment", words)]
    return [Seen(Kind.BOUNCES, Verdict.PASS, about.bounces, "MX", "", found)]


async def _links(about: Subject) -> list[Seen]:
    host = about.links or urlsplit(settings.MAILHUB_PUBLIC_URL).hostname or ""
    if re.fullmatch(r"[\d.]+|.*:.*|localhost", host):
        # Nothing to be looked up: a machine where MailHub is tried out.
        return []
    return [await _address(Kind.LINKS, host, "links_missing")]


async def _address(kind: Kind, host: str, problem: str) -> Seen:
    try:
        found = (await dns.addresses(host)).records
    except dns.Absent:
        return Seen(kind, Verdict.WRONG, host, "A", problem=problem)
    return Seen(kind, Verdict.PASS, host, "A", "", "\n".join(found))


async def _ptr(about: Subject) -> list[Seen]:
    return list(await asyncio.gather(*(confirmed_ptr(ip) for ip in about.ips)))


async def confirmed_ptr(ip: DedicatedIP) -> Seen:
    """Forward-confirmed: the address's name leads back to it, and is the one that MailHub greets with."""
    names, back = await dns.names_back(ip.address)
    about = {"address": ip.address, "name": ip.ehlo_name, "found": ", ".join(names)}

    def finding(verdict: Verdict, problem: str = "") -> Seen:
        return Seen(Kind.PTR, verdict, ip.address, "PTR", ip.ehlo_name, "\n".join(names), problem, about)

    if not names:
        return finding(Verdict.MISSING, "ptr_missing")
    if not back:
        return finding(Verdict.WRONG, "ptr_unconfirmed")
    return finding(Verdict.PASS) if ip.ehlo_name in back else finding(Verdict.WRONG, "ptr_other")


async def _mta_sts(about: Subject) -> list[Seen]:
    name = f"_mta-sts.{about.name}"
    texts = [text for text in (await dns.texts(name)).records if text.startswith("v=STSv1")]
    if not texts:
        return [Seen(Kind.MTA_STS, Verdict.ADVICE, name, "TXT", problem="mta_sts_missing")]
    found = "\n".join(texts)
    try:
        if mta_sts.identifier(tuple(texts)) is None:
            raise mta_sts.Malformed("id=")
        page = await http.get(mta_sts.url(about.name), most=mta_sts.WEIGHT, seconds=mta_sts.FETCH)
        if page.status != 200:
            raise mta_sts.Malformed(f"HTTP {page.status}")
        mta_sts.parse(page.body.decode("utf-8", "replace"))
    except (http.HTTPError, mta_sts.Malformed) as error:
        return [Seen(Kind.MTA_STS, Verdict.WRONG, name, "TXT", "", found, "mta_sts_wrong", {"reason": str(error)})]
    return [Seen(Kind.MTA_STS, Verdict.PASS, name, "TXT", "", found)]


async def _tls_rpt(about: Subject) -> list[Seen]:
    name = f"_smtp._tls.{about.name}"
    wanted = f"v=TLSRPTv1; rua=mailto:tls-reports@{about.name}"
    texts = [text for text in (await dns.texts(name)).records if text.startswith("v=TLSRPTv1")]
    if not texts:
        return [Seen(Kind.TLS_RPT, Verdict.ADVICE, name, "TXT", wanted, problem="tls_rpt_missing")]
    if not _tags(texts[0]).get("rua"):
        return [Seen(Kind.TLS_RPT, Verdict.WRONG, name, "TXT", wanted, texts[0], "tls_rpt_wrong")]
    return [Seen(Kind.TLS_RPT, Verdict.PASS, name, "TXT", texts[0], texts[0])]
