"""The tables in tables/, read once: rows of sayings, what codes mean, what services call a reason."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mailhub.lib.replies.verdicts import Category

FOLDER = Path(__file__).with_name("tables")
# Each a file of its own; English is tried first.
LANGUAGES = ("ja", "zh", "ko", "ru", "de", "fr", "it", "es", "pt")
# Up to four words, none of them a full stop.
SOME_WORDS = r" (?:[^\s.]\S* ){0,4}?"


class Row(NamedTuple):
    category: Category
    pattern: re.Pattern[str]
    #: the table, and the first of its sayings
    name: str


class System(NamedTuple):
    name: str
    mark: re.Pattern[str]
    rows: tuple[Row, ...]


class Language(NamedTuple):
    name: str
    #: letters or small words that give it away
    sign: re.Pattern[str]
    rows: tuple[Row, ...]


def load(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text())


@cache
def english() -> tuple[Row, ...]:
    return made("en", load("en")["row"])


@cache
def hints() -> tuple[Row, ...]:
    """Words that say little."""
    return made("hints", load("en")["hint"])


@cache
def languages() -> tuple[Language, ...]:
    tables = ((name, load(name)) for name in LANGUAGES)
    return tuple(Language(name, re.compile(table["sign"]), made(name, table["row"])) for name, table in tables)


@cache
def systems() -> tuple[System, ...]:
    tables = load("systems").items()
    return tuple(System(name, re.compile(table["mark"]), made(name, table["row"], bounded=False)) for name, table in tables)


@cache
def labels() -> Mapping[str, Category]:
    return {label: Category(category) for label, category in load("labels").items()}


@cache
def codes(kind: str) -> Mapping[str, Category]:
    """`kind`: enhanced, without the class; vague, likewise; basic."""
    return {code: Category(category) for code, category in load("codes")[kind].items()}


def made(table: str, rows: Iterable[Mapping[str, list[str]]], *, bounded: bool = True) -> tuple[Row, ...]:
    """`bounded`: a saying begins where a word does."""
    return tuple(
        Row(Category(category), compiled(sayings, bounded), f"{table}: {sayings[0]}") for row in rows for category, sayings in row.items()
    )


@cache
def alternatives() -> Mapping[re.Pattern[str], str]:
    return {re.compile(rf"\b{word}\b"): either for word, either in load("alternatives").items()}


def compiled(sayings: Iterable[str], bounded: bool) -> re.Pattern[str]:
    either = "|".join(sayings)
    for word, others in alternatives().items():
        either = word.sub(lambda _found, put=others: put, either)  # type: ignore[misc]
    either = either.replace(" ~ ", SOME_WORDS)
    return re.compile(rf"(?<![a-z])(?:{either})" if bounded else either)
