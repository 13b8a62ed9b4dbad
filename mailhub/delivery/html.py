"""What is done to HTML before it is a mail: rules of style sheets go to the elements they are for, and a text part is made from it.

Both leave what a template says where it stands: `{% for %}` between two rows of a table stays there, where an HTML parser alone would move
it out of the table."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import css_inline

# {{ ... }}, {% ... %} and {# ... #}
TAGS = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
# While HTML is parsed, each of them is a number between two characters that no mail holds (private use, they mean nothing).
MARK = re.compile("\ue000([0-9]+)\ue001")
MARKUP = re.compile(
    r"<!--.*?-->|<(style|script|title|textarea)\b.*?</\1\s*>|<[a-z/!](?:\"[^\"]*\"|'[^']*'|[^'\">])*>", re.DOTALL | re.IGNORECASE
)
PARSED = re.compile('<!--\ue000([0-9]+)\ue001-->|\ue000([0-9]+)\ue001(?:="")?')

# A mail's images and styles are fetched by whoever reads it, never by us. What cannot stand in an element (@media) stays in <style>.
INLINER = css_inline.CSSInliner(load_remote_stylesheets=False, keep_link_tags=True, keep_at_rules=True)


def inlined(html: str) -> str:
    """`html` with the rules of its <style> elements written into the elements they are for."""
    if "<style" not in html.lower():
        return html
    tags, marked = mark(html)
    parsed: str = INLINER.inline(_outside_markup(marked))
    if "<tbody" not in html.lower():
        # The parser puts it in, and half of it would come to stand inside of a loop.
        parsed = parsed.replace("<tbody>", "").replace("</tbody>", "")
    return PARSED.sub(lambda found: tags[int(found[1] or found[2])], parsed)


def mark(html: str) -> tuple[list[str], str]:
    """The template's tags, each once, and `html` with their numbers in place of them."""
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return f"\ue000{numbers.setdefault(found[0], len(numbers))}\ue001"

    marked = TAGS.sub(number, re.sub("[\ue000\ue001]", "", html))
    return list(numbers), marked


def unmark(text: str, tags: list[str]) -> str:
    return MARK.sub(lambda found: tags[int(found[1])], text)


def _outside_markup(marked: str) -> str:
    """Marks between elements become comments, which may stand anywhere, tables included."""
    pieces = []
    end = 0
    for markup in MARKUP.finditer(marked):
        pieces += [MARK.sub(r"<!--\g<0>-->", marked[end : markup.start()]), markup[0]]
        end = markup.end()
    return "".join(pieces) + MARK.sub(r"<!--\g<0>-->", marked[end:])


# ------------------------------------------------------------------------------------------------------------------ to text

HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
SILENT = frozenset({"style", "script", "title", "template"})
VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})
# Elements that begin and end a line; those with 1 stand apart by an empty one.
BLOCKS = {
    **dict.fromkeys(["address", "article", "aside", "body", "dd", "div", "dt", "footer", "form", "header", "html", "li", "main"], 0),
    **dict.fromkeys(["nav", "section", "tbody", "tfoot", "thead", "tr", "center"], 0),
    **dict.fromkeys(["blockquote", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "ol", "p", "pre", "table", "ul"], 1),
}
SPACES = re.compile("[ \t\r\n\f\xa0]+")
# A line that holds nothing but {% ... %}.
ALONE = re.compile(r"^[ \t]*((?:\{%(?:(?!%\})[^\n])*%\}[ \t]*)+)\n", re.MULTILINE)


def text(html: str) -> str:
    """What `html` says, as text: links with their addresses in angle brackets (RFC 3986, appendix C), a line for each row of a table."""
    tags, marked = mark(html)
    reader = _Reader()
    reader.feed(marked)
    reader.close()
    return tidy(unmark(reader.result(), tags))


def tidy(template: str) -> str:
    """A text template in which a line that only steers ({% if %}) leaves no empty line behind."""
    return ALONE.sub(lambda found: found[1].rstrip(), template)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = [""]
        #: the hidden element that this is in, and how many of its name are open
        self.hidden = ""
        self.depth = 0
        self.preformatted = 0
        self.lists: list[int | None] = []
        self.link = ""
        self.link_text = ""

    def result(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).strip("\n") + "\n"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.hidden:
            self.depth += tag == self.hidden
            return
        values = {name: value or "" for name, value in attrs}
        if tag in SILENT or "hidden" in values or HIDDEN.search(values.get("style", "")):
            if tag not in VOID:
                self.hidden, self.depth = tag, 1
            return
        if tag in BLOCKS:
            self.new_line(apart=BLOCKS[tag] and not (tag in ("ol", "ul") and self.lists))
        match tag:
            case "br":
                self.lines.append("")
            case "hr":
                self.lines[-1] = "-" * 40
                self.new_line()
            case "img":
                self.write(values.get("alt", ""))
            case "td" | "th" if self.lines[-1].strip():
                self.lines[-1] = self.lines[-1].rstrip() + "  "
            case "pre":
                self.preformatted += 1
            case "ul" | "ol":
                self.lists.append(1 if tag == "ol" else None)
            case "li":
                self.bullet()
            case "a":
                self.link, self.link_text = values.get("href", "").strip(), ""

    def handle_endtag(self, tag: str) -> None:
        if self.hidden:
            self.depth -= tag == self.hidden
            self.hidden = self.hidden if self.depth else ""
            return
        if tag == "a":
            self.end_link()
        if tag == "pre" and self.preformatted:
            self.preformatted -= 1
        if tag in ("ul", "ol") and self.lists:
            self.lists.pop()
        if tag in BLOCKS and tag != "hr":
            self.new_line(apart=BLOCKS[tag] and not (tag in ("ol", "ul") and self.lists))

    def handle_data(self, data: str) -> None:
        if self.hidden:
            return
        self.link_text += data
        if self.preformatted:
            first, *rest = data.split("\n")
            self.lines[-1] += first
            self.lines += rest
        else:
            self.write(SPACES.sub(" ", data))

    def write(self, words: str) -> None:
        line = self.lines[-1]
        self.lines[-1] = line + (words.lstrip(" ") if not line or line.endswith(" ") else words)

    def new_line(self, *, apart: object = False) -> None:
        if self.lines[-1].strip():
            self.lines.append("")
        if apart and len(self.lines) > 1 and self.lines[-2].strip():
            self.lines.append("")

    def bullet(self) -> None:
        number = self.lists[-1] if self.lists else None
        indent = "  " * (len(self.lists) - 1)
        self.lines[-1] = f"{indent}{number}. " if number else f"{indent}- "
        if number:
            self.lists[-1] = number + 1

    def end_link(self) -> None:
        said = SPACES.sub(" ", self.link_text).strip()
        bare = self.link.removeprefix("mailto:").removeprefix("tel:")
        if bare and not bare.startswith("#") and said not in (self.link, bare):
            self.write(f" <{self.link}>")
        self.link = ""
