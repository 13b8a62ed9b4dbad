"""One verdict for SMTP replies, the diagnostics of bounces and the events of e-mail services. What replies mean stands in tables/."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from mailhub.lib.replies import tables, words
from mailhub.lib.replies.tables import Row
from mailhub.lib.replies.verdicts import Category, Kind, Verdict

# How much a verdict rests on: what the text says, what the code says, a word that may mean anything, nothing.
SAID, CODED, HINTED, GUESSED = 3, 2, 1, 0

DEAD = frozenset({Category.USER_UNKNOWN, Category.HOST_UNKNOWN})
# A dead address is dead for good: who says this does not know yet.
FOR_NOW = re.compile(r"temporar|again later|at this time|in progress|try later|vorübergehend|一時的|暂时|временн|일시적")

# And who says this means it, whatever the code: the MTA has asked and got an answer.
DEFINITE = re.compile(r"nxdomain|dns hard error")

# Which command a reply was to, as systems that quote it say.
COMMANDS = {
    "CONNECT": re.compile(
        r"after initial connection|refused to talk|while performing the (?:ehlo|helo)|in reply to (?:ehlo|helo|connect)"
        r"|connected to .{0,80} but|\[connect\]|greeting"
    ),
    "MAIL": re.compile(
        r"in reply to mail from|after (?:pipelined )?mail from|>>> mail from|for mail from command|\[mail_?from\]|did not like our mail"
    ),
    "RCPT": re.compile(
        r"in reply to rcpt to|after (?:pipelined )?rcpt to|>>> rcpt to|for rcpt (?:to )?command|\[rcpt_?to\]|did not like our rcpt"
    ),
    "DATA": re.compile(
        r"in reply to (?:end of )?data|after end of data|after (?:pipelined )?data|>>> data|for (?:data|text) command|\[data\]"
    ),
}


@lru_cache(maxsize=2048)
def classify(text: str, *, code: int | None = None, enhanced: str = "", provider: str = "", command: str = "") -> Verdict:
    """What a reply means. `text` may begin with its codes, which count where they are not given; `provider` is who spoke: a host
    name, or a name of ours; `command` is what was answered (CONNECT, MAIL, RCPT or DATA), where the text does not tell.

    What the text says outweighs a code; a code that names a detail outweighs words that may mean anything."""
    flat = words.flat(text)
    enhanced = enhanced or words.enhanced(flat)
    code = code or words.code(flat)
    command = command or command_in(flat)
    category, rule, weight = weigh(f"{flat} [{command.lower()}]", code, enhanced, provider.lower())
    category = in_place(category, weight, command)
    transient = (enhanced or str(code or ""))[:1] == "4" and not DEFINITE.search(flat)
    for_now = transient or bool(FOR_NOW.search(flat))
    return Verdict(category, kind(category, weight, for_now=for_now), rule, weight)


def labelled_or_said(label: str, text: str, enhanced: str = "") -> Verdict:
    """The verdict on a reply that an e-mail service has put a name of its own to: the reply counts where it says something, the name
    where it does not."""
    verdict = classify(text, enhanced=enhanced)
    category = tables.labels().get(label.strip().lower())
    if category is None or verdict.weight >= CODED:
        return verdict
    return Verdict(category, kind(category, CODED, for_now=enhanced[:1] == "4"), f"label: {label}", CODED)


def command_in(text: str) -> str:
    """The command that was answered, where the text tells."""
    text = text.lower()
    return next((name for name, pattern in COMMANDS.items() if pattern.search(text)), "")


def weigh(flat: str, code: int | None, enhanced: str, provider: str) -> tuple[Category, str, int]:
    said = by_words(flat, provider)
    if said:
        return said.category, said.name, SAID
    detail = enhanced[2:]
    if detail in tables.codes("enhanced"):
        return tables.codes("enhanced")[detail], enhanced, CODED
    hinted = first(tables.hints(), words.plain(flat))
    if hinted:
        return hinted.category, hinted.name, HINTED
    if detail in tables.codes("vague"):
        return tables.codes("vague")[detail], enhanced, GUESSED
    if str(code) in tables.codes("basic"):
        return tables.codes("basic")[str(code)], str(code), GUESSED
    if (enhanced or str(code or ""))[:1] == "4":
        return Category.TEMPORARY, enhanced or str(code), GUESSED
    return Category.OTHER, "", GUESSED


def by_words(flat: str, provider: str) -> Row | None:
    """The row that the text fits: of the system that speaks, then of English, then of other languages. What follows the code counts
    before what leads up to it: "host mx.example.com said: 550 user unknown" is about a user."""
    who = f"{provider} {flat}"
    for system in tables.systems():
        found = system.mark.search(who) and first(system.rows, flat)
        if found:
            return found
    for text in (words.answer(flat), flat):
        plain = words.plain(text)
        found = first(tables.english(), plain) or next(filter(None, (first(rows, plain) for rows in foreign(plain))), None)
        if found:
            return found
    return None


def first(rows: Iterable[Row], text: str) -> Row | None:
    return next((row for row in rows if row.pattern.search(text)), None)


def foreign(plain: str) -> Iterator[tuple[Row, ...]]:
    """The rows of the languages that the text may be in; of several the one first that it has most small words of."""
    signs = [(len(set(language.sign.findall(plain))), language) for language in tables.languages()]
    yield from (language.rows for count, language in sorted(signs, key=lambda sign: -sign[0]) if count)


def in_place(category: Category, weight: int, command: str) -> Category:
    """The category where it was said: before a recipient has been named, nothing can be wrong with one."""
    if command == "MAIL" and category in DEAD:
        return Category.REJECTED
    if command == "CONNECT" and (category in DEAD or (category == Category.REJECTED and weight < SAID)):
        return Category.BLOCKED
    return category


def kind(category: Category, weight: int, *, for_now: bool) -> Kind:
    if category == Category.COMPLAINT:
        return Kind.COMPLAINT
    if category in (Category.AUTO_REPLY, Category.DELIVERED):
        return Kind.OTHER
    return Kind.HARD if category in DEAD and weight >= CODED and not for_now else Kind.SOFT
