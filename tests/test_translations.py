"""Japanese is complete, in step with the source and with its compiled form, and keeps to the words of docs/glossary-ja.md."""

from __future__ import annotations

import ast
import gettext
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

import django
import pytest
from django.conf import settings
from django.utils import translation
from django.utils.formats import date_format
from django.utils.timezone import datetime

ROOT = Path(settings.BASE_DIR)
CATALOGUE = ROOT / "locale/ja/LC_MESSAGES/django.po"
PACKAGES = ("mailhub", "campaigns", "transactional")
# In Django's own catalogues; nothing of ours says these.
SENTENCES = ROOT / "mailhub/formats/ja/sentences.py"

KANA_OR_KANJI = r"[\u3005\u3041-\u30ff\u3400-\u9fff]"


@dataclass(frozen=True, slots=True)
class Entry:
    context: str | None
    #: one msgid, or singular and plural
    ids: tuple[str, ...]
    strings: tuple[str, ...]
    flags: frozenset[str]

    @property
    def key(self) -> tuple[str | None, tuple[str, ...]]:
        return self.context, self.ids

    def __str__(self) -> str:
        return self.ids[0]


def entries(path: Path) -> list[Entry]:
    """What a .po file holds, its header included."""
    return [entry for block in path.read_text().split("\n\n") if (entry := _entry(block))]


def _entry(block: str) -> Entry | None:
    fields: dict[str, str] = {}
    flags: set[str] = set()
    field = ""
    for line in block.splitlines():
        if line.startswith("#,"):
            flags |= {flag.strip() for flag in line[2:].split(",")}
        elif begun := re.fullmatch(r'(msgctxt|msgid|msgid_plural|msgstr(?:\[\d+\])?) (".*")', line):
            field = begun[1]
            fields[field] = ast.literal_eval(begun[2])
        elif line.startswith('"'):
            fields[field] += ast.literal_eval(line)
    if "msgid" not in fields:
        return None
    ids = tuple(fields[name] for name in ("msgid", "msgid_plural") if name in fields)
    strings = tuple(value for name, value in fields.items() if name.startswith("msgstr"))
    return Entry(fields.get("msgctxt"), ids, strings, frozenset(flags))


@pytest.fixture(scope="module")
def catalogue() -> list[Entry]:
    return [entry for entry in entries(CATALOGUE) if entry.ids != ("",)]


# ------------------------------------------------------------------------------------------------------------------ complete


def test_nothing_is_left_untranslated_or_unsure(catalogue: list[Entry]) -> None:
    assert len(catalogue) > 1_000
    assert [str(entry) for entry in catalogue if not all(entry.strings) or "fuzzy" in entry.flags] == []
    # Japanese has one form for every number.
    assert {len(entry.strings) for entry in catalogue} == {1}


def test_no_dead_words_are_kept(catalogue: list[Entry]) -> None:
    assert "\n#~" not in CATALOGUE.read_text()
    assert len({entry.key for entry in catalogue}) == len(catalogue)


def placeholders(words: str) -> list[str]:
    """What a translation must fill in: %(name)s, %s and {name}, each as often as it stands there. A lone % and a template's {{ }} are
    words."""
    words = re.sub(r"%%|\{\{.*?\}\}", lambda found: found[0] if found[0] != "%%" else "", words)
    named = re.findall(r"%(?:\(\w+\))?[sd]", words)
    return sorted([*named, *re.findall(r"\{\{.*?\}\}|(?<!\{)\{\w*\}", words)])


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("%(n)s of %(n)s, 100 %%", ["%(n)s", "%(n)s"]),
        ("Add %s", ["%s"]),
        ("The {name} “{obj}”", ["{name}", "{obj}"]),
        ("{{ %(name)s }} does not show", ["%(name)s", "{{ %(name)s }}"]),
        ('Such as {"city": "Kyoto"}', []),
    ],
)
def test_placeholders_are_found(words: str, found: list[str]) -> None:
    assert placeholders(words) == found


def test_each_translation_fills_in_what_its_source_does(catalogue: list[Entry]) -> None:
    wrong = [str(entry) for entry in catalogue if set(placeholders(entry.strings[0])) != set(placeholders(entry.ids[-1]))]
    assert wrong == []


def test_a_translation_has_no_placeholder_that_its_source_lacks(catalogue: list[Entry]) -> None:
    """Tried with real values: a conversion that fails would take a page down."""
    for entry in catalogue:
        if "python-format" in entry.flags:
            assert entry.strings[0] % dict.fromkeys(re.findall(r"%\((\w+)\)", " ".join(entry.ids)), 1), entry
        if "python-brace-format" in entry.flags:
            names = [name for _text, name, _spec, _conversion in Formatter().parse(entry.ids[0]) if name]
            assert entry.strings[0].format(**dict.fromkeys(names, 1)), entry


def test_markup_stays(catalogue: list[Entry]) -> None:
    def tags(words: str) -> list[str]:
        return sorted(re.findall(r"</?\w+>", words))

    assert [str(entry) for entry in catalogue if tags(entry.strings[0]) != tags(entry.ids[0])] == []


# ------------------------------------------------------------------------------------------------------------------- in step


def test_the_compiled_file_says_the_same(catalogue: list[Entry]) -> None:
    with CATALOGUE.with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    expected: dict[str | tuple[str, int], str] = {}
    for entry in catalogue:
        msgid = f"{entry.context}\x04{entry.ids[0]}" if entry.context else entry.ids[0]
        if len(entry.ids) == 1:
            expected[msgid] = entry.strings[0]
        else:
            expected |= {(msgid, form): words for form, words in enumerate(entry.strings)}
    compiled.pop("")
    assert compiled == expected, "Run make messages."


def test_the_catalogue_has_what_the_source_says_and_no_more(tmp_path: Path, catalogue: list[Entry]) -> None:
    if not shutil.which("xgettext"):
        pytest.fail("gettext is missing: run scripts/install_packages")
    skip = shutil.ignore_patterns("__pycache__", "migrations", "*.sqlite3*")
    for name in (*PACKAGES, "templates", "static"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skip)
    (tmp_path / "locale").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-m", "django", "makemessages", "--locale", "ja", "--verbosity", "0"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)  # noqa: S603
    said = {entry.key for entry in entries(tmp_path / "locale/ja/LC_MESSAGES/django.po") if entry.ids != ("",)}
    kept = {entry.key for entry in catalogue}
    assert (sorted(map(str, said - kept)), sorted(map(str, kept - said))) == ([], []), "Run make messages."


# What Django has xgettext look for.
KNOWN = {"_", "gettext", "gettext_lazy", "gettext_noop", "ngettext", "ngettext_lazy", "pgettext", "pgettext_lazy", "npgettext"}


def passed_by(source: str) -> Iterator[str]:
    """Words that xgettext does not find: within an f-string, or called by a name of one's own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation":
            names = {alias.asname or alias.name for alias in node.names if "gettext" in alias.name}
            yield from (f"line {node.lineno}: {name}" for name in names - KNOWN)
        if isinstance(node, ast.JoinedStr):
            called = {call.func.id for call in ast.walk(node) if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}
            yield from (f"line {node.lineno}: {name} in an f-string" for name in called & KNOWN)


def test_words_stand_where_they_are_looked_for() -> None:
    assert list(passed_by("from django.utils.translation import gettext_lazy as lazily\nx = f\"{_('Contact:')} {y}\"")) == [
        "line 1: lazily",
        "line 2: _ in an f-string",
    ]
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert [f"{path.relative_to(ROOT)}: {found}" for path in modules for found in passed_by(path.read_text())] == []


def test_django_still_has_the_sentences_that_we_say_in_another_way() -> None:
    folder = Path(django.__file__).parent
    theirs: set[str] = set()
    for package in ("conf", "contrib/admin", "contrib/auth"):
        with (folder / package / "locale/ja/LC_MESSAGES/django.mo").open("rb") as file:
            theirs |= {key for key in gettext.GNUTranslations(file)._catalog if isinstance(key, str)}  # type: ignore[attr-defined]
    tree = ast.parse(SENTENCES.read_text())
    ours = {node.args[0].value for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.args[0], ast.Constant)}
    assert ours and ours - theirs == set()


# -------------------------------------------------------------------------------------------------------------- as it is read


def test_punctuation_after_japanese_is_japanese(catalogue: list[Entry]) -> None:
    half = re.compile(rf"{KANA_OR_KANJI}[!?:;,.()~]|[(]{KANA_OR_KANJI}")
    assert [entry.strings[0] for entry in catalogue if half.search(entry.strings[0])] == []


def test_no_space_parts_japanese_from_what_stands_beside_it(catalogue: list[Entry]) -> None:
    """But in "最終使用 2026/11/25", where the date would run into the words, and in names of people."""
    apart = re.compile(rf"{KANA_OR_KANJI}[  ]|[  ]{KANA_OR_KANJI}|[、。：（）「」]\s|\s[、。：（）「」]|　")
    allowed = re.compile(r"^(最終使用|有効期限) %\(when\)s$|^山田 太郎$|試行 約|ED?SA 2048|shop\.example 本番用")
    assert [entry.strings[0] for entry in catalogue if apart.search(entry.strings[0]) and not allowed.search(entry.strings[0])] == []


def test_digits_and_letters_are_half_width(catalogue: list[Entry]) -> None:
    wide = re.compile(r"[０-９Ａ-Ｚａ-ｚ％]|[\uff61-\uff9f]")
    assert [entry.strings[0] for entry in catalogue if wide.search(entry.strings[0])] == []


def test_a_sentence_ends_as_its_source_does(catalogue: list[Entry]) -> None:
    """A label has no full stop, a button that asks more has its dots."""
    for entry in catalogue:
        source, words = entry.ids[0], entry.strings[0]
        assert words.endswith("…") == source.endswith("…"), source
        if not re.search(r"[.:!?…]$|[.:] ", source):
            assert "。" not in words.rstrip("。") or "（" in words, source


def table() -> dict[str, list[str]]:
    """The glossary: English -> the variants of its Japanese that are refused."""
    rows = re.findall(r"^\| (?!English|-)(.+?) \| (.+?) \|.*?\| ?(.*?) ?\|$", (ROOT / "docs/glossary-ja.md").read_text(), re.MULTILINE)
    return {english: [word.strip() for word in refused.split(",") if word.strip()] for english, _japanese, refused in rows}


def test_the_glossary_is_held(catalogue: list[Entry]) -> None:
    refused = {word: english for english, words in table().items() for word in words}
    assert {"デフォルト", "クォータ", "スパム"} <= set(refused)
    found = [
        f"{word} ({english}): {entry.strings[0]}" for entry in catalogue for word, english in refused.items() if word in entry.strings[0]
    ]
    assert found == []


def test_nobody_is_called_you(catalogue: list[Entry]) -> None:
    pronouns = re.compile("あなた|貴方|彼ら|それら|私たち|我々|わたし")
    assert [entry.strings[0] for entry in catalogue if pronouns.search(entry.strings[0])] == []


@pytest.mark.parametrize(
    ("english", "japanese"),
    [
        ("Add %s", "リレーを追加"),
        ("Select %s to change", "変更するリレーを選択"),
        ("Delete selected %(verbose_name_plural)s", "選択したリレーを削除"),
    ],
)
def test_djangos_sentences_take_our_names(english: str, japanese: str) -> None:
    from mailhub.relays.models import Relay

    name = Relay._meta.verbose_name
    with translation.override("ja"):
        words = translation.gettext(english)
        assert (words % name if "%s" in words else words % {"verbose_name_plural": name}) == japanese


def test_a_date_does_not_run_into_its_time() -> None:
    with translation.override("ja"):
        assert date_format(datetime(2026, 11, 25, 9, 5), "DATETIME_FORMAT") == "2026/11/25 09:05"
