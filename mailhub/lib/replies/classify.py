"""One verdict for SMTP replies, the diagnostics of bounces and the events of e-mail services."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import NamedTuple

from mailhub.lib.replies import codes, words
from mailhub.lib.replies.languages import LANGUAGES
from mailhub.lib.replies.phrases import ALTERNATIVES, HINTS, PHRASES, Table
from mailhub.lib.replies.systems import LABELS, SYSTEMS
from mailhub.lib.replies.verdicts import Category, Kind, Verdict

# How much a verdict rests on: what the text says, what the code says, a word that may mean anything, nothing.
SAID, CODED, HINTED, GUESSED = 3, 2, 1, 0

DEAD = frozenset({Category.USER_UNKNOWN, Category.HOST_UNKNOWN})


class Row(NamedTuple):
    category: Category
    pattern: re.Pattern[str]
    name: str


@cache
def rows(name: str) -> tuple[Row, ...]:
    """The table of that name, compiled when it is first needed."""
    table: Table
    if name == "phrases":
        table = PHRASES
    elif name == "hints":
        table = HINTS
    else:
        table = LANGUAGES.get(name) or SYSTEMS[name].rows
    bounded = name not in SYSTEMS
    return tuple(Row(category, compiled(pattern, bounded), f"{name}: {pattern}") for category, pattern in table)


def compiled(pattern: str, bounded: bool) -> re.Pattern[str]:
    for word, alternatives in ALTERNATIVES.items():
        pattern = re.sub(rf"\b{word}\b", lambda _found, put=alternatives: put, pattern)
    pattern = pattern.replace(" ~ ", r" (?:[^\s.]\S* ){0,4}?")
    return re.compile(rf"(?<![a-z])(?:{pattern})" if bounded else pattern)


@cache
def marks() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((name, re.compile(system.mark)) for name, system in SYSTEMS.items())


# Which commands a reply was to, as systems that quote it say.
COMMANDS = (
    ("CONNECT", re.compile(r"after initial connection|refused to talk|while performing the (?:ehlo|helo)|in reply to (?:ehlo|helo|connect)|connected to .{0,80} but|\[connect\]|greeting")),
    ("MAIL", re.compile(r"in reply to mail from|after (?:pipelined )?mail from|>>> mail from|for mail from command|\[mail_?from\]|did not like our mail from")),
    ("RCPT", re.compile(r"in reply to rcpt to|after (?:pipelined )?rcpt to|>>> rcpt to|for rcpt (?:to )?command|\[rcpt_?to\]|did not like our rcpt to")),
    ("DATA", re.compile(r"in reply to (?:end of )?data|after end of data|after (?:pipelined )?data|>>> data|for (?:data|text) command|\[data\]")),
)

SCRIPTS = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7a3]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
)
HAN = re.compile(r"[\u4e00-\u9fff]")
# Small words that give a language away.
MARKERS = {
    "de": re.compile(r"\b(?:nicht|der|die|das|und|ist|wurde|konnte|kann|ihre?|sie|kein\w*|existiert|unbekannt\w*|empfänger|nachricht|wegen|für|von|voll|postfach|mit|zu|abgelehnt)\b"),
    "fr": re.compile(r"\b(?:le|la|les|des|est|n'\w+|pas|une?|votre|vous|été|du|cette?|adresse|boîte|boite|n'est|dans|inconnue?|destinataire|pleine|utilisateur|refusé|rejeté|service refuse|veuillez|mail rejete)\b"),
    "it": re.compile(r"\b(?:il|della?|non|di|che|è|stato|messaggio|indirizzo|casella|utente|piena|per|questo|sconosciuto|esiste|destinatario)\b"),
    "es": re.compile(r"\b(?:el|los|del|no|su|es|para|una|por|ha|mensaje|usuario|dirección|buz[oó]n|está|existe|destinatario|correo|llen[oa]|desconocido)\b"),
    "pt": re.compile(r"\b(?:o|os|do|da|não|uma?|é|para|mensagem|usu[áa]rio|caixa|está|existe|endereço|destinat[áa]rio|foi|cheia|desconhecido)\b"),
}


def languages(text: str) -> Iterator[str]:
    """Those that the text may be in, English apart."""
    for name, script in SCRIPTS:
        if script.search(text):
            yield name
    if HAN.search(text):
        yield "zh"
    counts = {name: len(set(marker.findall(text))) for name, marker in MARKERS.items()}
    yield from (name for name in sorted(counts, key=lambda name: -counts[name]) if counts[name] >= 2)


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
    return Verdict(category, kind(category, weight, code, enhanced), rule, weight)


def command_in(text: str) -> str:
    """The command that was answered, where the text tells."""
    text = text.lower()
    return next((name for name, pattern in COMMANDS if pattern.search(text)), "")


def weigh(flat: str, code: int | None, enhanced: str, provider: str) -> tuple[Category, str, int]:
    said = by_words(flat, provider)
    if said:
        return said.category, said.name, SAID
    detail = enhanced[2:]
    if detail in codes.ENHANCED:
        return codes.ENHANCED[detail], enhanced, CODED
    hinted = first("hints", words.plain(flat))
    if hinted:
        return hinted.category, hinted.name, HINTED
    if detail in codes.VAGUE:
        return codes.VAGUE[detail], enhanced, GUESSED
    if code in codes.BASIC:
        return codes.BASIC[code], str(code), GUESSED
    if (enhanced or str(code or ""))[:1] == "4":
        return Category.TEMPORARY, enhanced or str(code), GUESSED
    return Category.OTHER, "", GUESSED


def by_words(flat: str, provider: str) -> Row | None:
    """The row that the text fits: of the system that speaks, then of English, then of other languages. What follows the code counts
    before what leads up to it: "host mx.example.com said: 550 user unknown" is about a user."""
    who = f"{provider} {flat}"
    for name, mark in marks():
        found = mark.search(who) and first(name, flat)
        if found:
            return found
    for text in (words.answer(flat), flat):
        plain = words.plain(text)
        found = first("phrases", plain) or next(filter(None, (first(name, plain) for name in languages(plain))), None)
        if found:
            return found
    return None


def first(table: str, text: str) -> Row | None:
    return next((row for row in rows(table) if row.pattern.search(text)), None)


def in_place(category: Category, weight: int, command: str) -> Category:
    """The category where it was said: before a recipient has been named, nothing can be wrong with one."""
    if command == "MAIL" and category in DEAD:
        return Category.REJECTED
    if command == "CONNECT" and (category in DEAD or (category == Category.REJECTED and weight < SAID)):
        return Category.BLOCKED
    return category


def kind(category: Category, weight: int, code: int | None, enhanced: str) -> Kind:
    if category == Category.COMPLAINT:
        return Kind.COMPLAINT
    if category in (Category.AUTO_REPLY, Category.DELIVERED):
        return Kind.OTHER
    for_now = (enhanced or str(code or ""))[:1] == "4"
    return Kind.HARD if category in DEAD and weight >= CODED and not for_now else Kind.SOFT


def labelled(label: str) -> Category | None:
    """What an e-mail service's own name for the reason means."""
    return LABELS.get(label.strip().lower())


def labelled_or_said(label: str, text: str, enhanced: str = "") -> Verdict:
    """The verdict on a reply that an e-mail service has put a name of its own to: the reply counts where it says something, the name
    where it does not."""
    verdict = classify(text, enhanced=enhanced)
    category = labelled(label)
    if category is None or verdict.weight >= CODED:
        return verdict
    return Verdict(category, kind(category, CODED, None, enhanced), f"label: {label}", CODED)
