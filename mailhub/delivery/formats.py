"""What people write mails in: HTML, Markdown or MJML. The last two become HTML that mail programs show well.

What a template says ({{ ... }}, {% ... %}) passes through as it is, and comes to stand where it stood."""

from __future__ import annotations

import re
from functools import lru_cache

import mrml
from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from markdown_it import MarkdownIt

from mailhub.delivery.html import TAGS

# A template's tag while the rest is read: a word that means nothing to either, and that no mail holds.
MARK = re.compile("mailhubtag([0-9]+)end")
# Those that stand alone between two components of MJML, where text may not; comments may.
BETWEEN = re.compile(
    r"(?<=>)(\s*)((?:mailhubtag[0-9]+end\s*)+)(?=<mj-|</mj-(?:section|column|wrapper|group|hero|body)\b|</mjml>)", re.IGNORECASE
)
# What MJML's reader says of where it stopped: octets, from and to.
PLACE = re.compile(r"\s*(?:in root template)?\s*(?:at position ([0-9]+):[0-9]+)?$")


class Format(models.TextChoices):
    HTML = "html", "HTML"
    MARKDOWN = "markdown", "Markdown"
    MJML = "mjml", "MJML"


class NotWellFormed(ValueError):
    """The source cannot be read; `line` counts from 1."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(_("Line %(line)s: %(problem)s") % {"line": line, "problem": problem})


@lru_cache(maxsize=64)
def html(source: str, format: str) -> str:
    """The source as HTML. Raises NotWellFormed."""
    if format == Format.MJML:
        return _mjml(source)
    return _markdown(source) if format == Format.MARKDOWN and source else source


def _mark(source: str) -> tuple[list[str], str]:
    """The template's tags, and the source with their numbers in place of them."""
    tags = TAGS.findall(source)
    numbers = iter(range(len(tags)))
    return tags, TAGS.sub(lambda _tag: f"mailhubtag{next(numbers)}end", source)


def _restored(made: str, tags: list[str]) -> str:
    return MARK.sub(lambda found: tags[int(found[1])], made)


# --------------------------------------------------------------------------------------------------------------------- MJML


def _mjml(source: str) -> str:
    tags, marked = _mark(source)
    marked = BETWEEN.sub(lambda found: found[1] + MARK.sub(r"<!--\g<0>-->", found[2]), marked)
    try:
        # No fonts of others' servers, and mj-include finds nothing: a template is one piece.
        made = mrml.to_html(marked, render_options=mrml.RenderOptions(fonts={}))
    except OSError as error:
        place = PLACE.search(str(error))
        said = str(error)[: place.start()] if place else str(error)
        start = place[1] if place else None
        before = marked.encode()[: int(start)].decode(errors="replace") if start else ""
        raise NotWellFormed(_restored(before, tags).count("\n") + 1, _said(said)) from None
    if made.warnings:
        raise NotWellFormed(1, "; ".join(str(warning) for warning in made.warnings))
    return _restored(re.sub(r"<!--(mailhubtag[0-9]+end)-->", r"\1", made.content), tags)


# In their order: the first whose words are part of what the reader says.
SAID = {
    "unexpected end of stream": gettext_lazy("The MJML ends before all its elements are closed."),
    "unable to parse next template": gettext_lazy("This is no MJML: it begins with <mjml> and ends with </mjml>."),
    "unable to load included template": gettext_lazy("Nothing can be included with mj-include: write it here."),
}


def _said(problem: str) -> str:
    words = next((words for part, words in SAID.items() if part in problem), None)
    return str(words) if words else _("The MJML cannot be read: %(problem)s.") % {"problem": problem.strip()}


# ------------------------------------------------------------------------------------------------------------------ Markdown

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
# A line with nothing but {% ... %}.
ALONE = re.compile(r"^[ \t]*((?:\{%(?:(?!%\})[^\n])*%\}[ \t]*)+)$")
PARAGRAPH = re.compile(r"<p>((?:mailhubtag[0-9]+end\s*)+)</p>")
ROW = re.compile(r"<tr>\s*<td[^>]*>((?:mailhubtag[0-9]+end\s*)+)</td>(?:\s*<td[^>]*></td>)*\s*</tr>")


def _markdown(source: str) -> str:
    tags, marked = _mark(_apart(source))
    blocks = {f"mailhubtag{number}end" for number, tag in enumerate(tags) if tag.startswith("{%")}

    def bare(found: re.Match[str]) -> str:
        return found[1] if set(found[1].split()) <= blocks else found[0]

    made = ROW.sub(bare, PARAGRAPH.sub(bare, READER.render(marked)))
    return SHELL.replace("<!-- content -->", _restored(made, tags))


def _apart(source: str) -> str:
    """Lines of nothing but {% ... %} stand as paragraphs of their own, except between the rows of a table, where they are rows."""
    lines = source.splitlines()
    made = []
    for place, line in enumerate(lines):
        beside = (lines[near] for near in (place - 1, place + 1) if 0 <= near < len(lines))
        made += ["", line, ""] if ALONE.match(line) and not any(near.lstrip().startswith("|") for near in beside) else [line]
    return "\n".join(made)


# Rules are written into the elements later (html.inlined()); what depends on the reader's screen stays.
SHELL = """<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>
body { margin: 0; padding: 0; width: 100%; background-color: #f3f4f1; }
.page { width: 100%; background-color: #f3f4f1; }
.outer { padding: 32px 16px; }
.card { width: 100%; max-width: 600px; background-color: #ffffff; border-radius: 12px; }
.main { padding: 32px 40px; font-family: -apple-system, BlinkMacSystemFont, "Segoe UI", "Hiragino Sans", "Noto Sans JP", "Yu Gothic", Meiryo, Helvetica, Arial, sans-serif; font-size: 15px; line-height: 1.75; color: #2a2f2c; }
.main h1 { margin: 0 0 16px; font-size: 24px; line-height: 1.4; color: #16201b; }
.main h2 { margin: 28px 0 8px; font-size: 17px; line-height: 1.5; color: #16201b; }
.main h3 { margin: 24px 0 8px; font-size: 15px; line-height: 1.5; color: #16201b; }
.main p { margin: 0 0 14px; }
.main a { color: #1f5f4a; }
.main table { width: 100%; border-collapse: collapse; margin: 0 0 16px; }
.main th { padding: 8px 12px 8px 0; border-bottom: 1px solid #d9ded9; text-align: left; font-size: 13px; color: #5c6660; }
.main table td { padding: 8px 12px 8px 0; border-bottom: 1px solid #e8ebe8; font-size: 14px; }
.main blockquote { margin: 0 0 14px; padding: 0 0 0 16px; border-left: 3px solid #d9ded9; color: #5c6660; }
.main hr { margin: 24px 0; border: 0; border-top: 1px solid #d9ded9; }
.main img { max-width: 100%; }
@media (max-width: 620px) {
  .outer { padding: 0 !important; }
  .card { border-radius: 0 !important; }
  .main { padding: 24px 20px !important; }
}
@media (prefers-color-scheme: dark) {
  body, .page { background-color: #121614 !important; }
  .card { background-color: #1c221f !important; }
  .main, .main table td { color: #dfe5e1 !important; }
  .main h1, .main h2, .main h3 { color: #ffffff !important; }
  .main a { color: #7fd0b0 !important; }
  .main th, .main blockquote { color: #9faaa4 !important; }
  .main th, .main table td, .main blockquote, .main hr { border-color: #37423c !important; }
}
</style>
</head>
<body>
<table role="presentation" class="page"><tr><td class="outer" align="center">
<table role="presentation" class="card"><tr><td class="main" align="left">
<!-- content --></td></tr></table>
</td></tr></table>
</body>
</html>
"""  # noqa: E501  a font list is one value
