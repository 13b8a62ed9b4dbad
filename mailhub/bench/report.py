"""The figures of a run, for people and for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from statistics import median

from mailhub.bench.rounds import PEERS, Figures, Plan

# What each figure should reach (docs/performance.md).
SIGNED_BAR = 0.8
UNSIGNED_BAR = 0.7
MEMORY_BAR = 200
FIRST_MAIL_BAR = 3
EXPANDED_BAR = 50_000
TRANSACTIONAL_BAR = 1
ACCEPTED_BAR = 1_000


def lines(plan: Plan, figures: Figures) -> Iterator[str]:
    yield f"Mails a second, {plan.messages:,} recipients, {plan.rounds} rounds (the limit on {figures.loop})"
    for kind, words, bar in (("signed", "signed, RSA-2048", SIGNED_BAR), ("unsigned", "unsigned", UNSIGNED_BAR)):
        yield row(f"MailHub, {words}", getattr(figures, kind))
        yield row(f"the limit, {words}", getattr(figures, f"{kind}_limit"))
        yield row("  MailHub's part of it", [figures.ratio(kind)], form="{:.2f}", remark=f"bar {bar}")
    for peer, rates in figures.peers.items():
        yield row(f"{PEERS[peer]}, unsigned", rates)
    yield row("MailHub, signed, 1 process on one relay", [figures.one_worker])
    yield row("MailHub, signed, 2 processes on one relay", [figures.two_workers])
    yield f"A campaign to {plan.large:,}"
    yield row("contacts imported a second", [figures.imported])
    yield row("recipients taken in a second", [figures.expanded], remark=f"bar {EXPANDED_BAR:,}")
    yield row("seconds from the launch to the first mail", [figures.first_mail], form="{:.2f}", remark=f"bar {FIRST_MAIL_BAR}")
    words = "seconds from acceptance to hand-over, p95"
    remark = f"bar {TRANSACTIONAL_BAR}; {len(figures.transactional)} mails"
    yield row(words, [figures.transactional_p95], form="{:.2f}", remark=remark)
    yield "Mails accepted a second, each committed before it is answered"
    yield row("by the HTTP API, in batches", [figures.by_api], remark=f"bar {ACCEPTED_BAR:,}")
    yield row("by SMTP submission", [figures.by_smtp], remark=f"bar {ACCEPTED_BAR:,}")
    for door, cost in figures.costs.items():
        words = f"  us of a processor for one by {'HTTP' if door == 'api' else 'SMTP'}"
        each = f"MailHub {cost.door:,.0f}, database {cost.database:,.0f}, clients {cost.clients:,.0f}"
        yield row(words, [cost.door + cost.database + cost.clients], remark=each)
    yield "Memory of the workers, MB"
    peak = figures.peak
    yield row("the largest process", [peak.single], remark=f"bar {MEMORY_BAR}")
    yield row(f"all {peak.processes} processes, shared pages once", [peak.together])
    yield row("the same, shared pages in each", [peak.summed])


def row(name: str, values: Sequence[float], *, form: str = "{:,.0f}", remark: str = "") -> str:
    each = "  ".join(form.format(value) for value in values) if len(values) > 1 else ""
    told = ", ".join(part for part in (each and f"rounds: {each}", remark) if part)
    return f"  {name:<48}{form.format(median(values)):>10}   {told}".rstrip()


def as_json(figures: Figures) -> str:
    """One line; what could not be measured is null."""
    found = {
        "signed_per_s": (median(figures.signed), 0),
        "signed_ratio": (figures.ratio("signed"), 3),
        "unsigned_per_s": (median(figures.unsigned), 0),
        "unsigned_ratio": (figures.ratio("unsigned"), 3),
        "expand_per_s": (figures.expanded, 0),
        "first_mail_s": (figures.first_mail, 3),
        "api_per_s": (figures.by_api, 0),
        "smtp_per_s": (figures.by_smtp, 0),
        "worker_peak_mb": (figures.peak.single, 1),
        "transactional_p95_s": (figures.transactional_p95, 3),
    }
    return json.dumps({name: None if math.isnan(value) else round(value, digits or None) for name, (value, digits) in found.items()})
