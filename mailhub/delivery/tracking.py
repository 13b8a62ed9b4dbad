"""Opens and clicks, from a mail's side: which of its links lead by way of MailHub, where its pixel stands, and what both carry.

All of it is worked out once a content. A link carries its number in the mail and a token, which names message and content and is signed for
clicks alone, as that of the pixel is for opens; where it leads is stored, so that nobody can make one of ours that leads elsewhere.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import unescape

import jinja2
from django.conf import settings
from django.urls import reverse

from mailhub.delivery import html as markup
from mailhub.delivery import rendering
from mailhub.delivery.models import Content
from mailhub.lib import tokens

OPEN, CLICK = "open", "click"
# The placeholders that the tokens are filled into.
TOKEN_OF = {OPEN: "mailhub_open", CLICK: "mailhub_click"}
# Signed: the keys of content and message.
PAYLOAD = struct.Struct(">QQ")
# Characters of a token.
LENGTH = 43

# An element with a link, of a template whose tags are marks (html.py).
ELEMENT = re.compile(r"<(?:a|area)\s[^>]*", re.IGNORECASE)
HREF = re.compile(r"""(\shref\s*=\s*)("([^"]*)"|'([^']*)'|[^\s"'>]+)""", re.IGNORECASE)
SPARED = re.compile(r"""\sdata-track\s*=\s*["']?(?:off|no|false)\b["']?""", re.IGNORECASE)
# More are never counted apart, and a link's number has to fit its column.
MOST_LINKS = 1_000
BODY_END = re.compile(r"</body\s*>", re.IGNORECASE)
PIXEL = '<img src="{base}o/{{{{ mailhub_open }}}}" width="1" height="1" alt="" style="border:0">'


def allowed() -> bool:
    """Whether this installation tracks at all."""
    return settings.MAILHUB_TRACKING != "off"


def is_shared(content: Content) -> bool:
    """Whether many get it, so that what is told of it alone tells of nobody: a campaign's, which has an unsubscribe link."""
    return bool(content.unsubscribe_base)


def switch_on(content: Content, *, opens: bool, clicks: bool, host: str = "") -> Content:
    """Have the unsaved `content` tell of opens and clicks, as far as the installation allows it; returns it. `host`: the name that its
    sender's domain has for links, where it has one."""
    if not allowed() or content.raw is not None or not content.html or not (opens or clicks):
        return content
    if settings.MAILHUB_TRACKING == "anonymous" and not is_shared(content):
        return content
    base = f"https://{host}" if host else settings.MAILHUB_PUBLIC_URL
    content.tracking_base = base + reverse("open", args=["-"]).removesuffix("o/-")
    content.tracks_opens = opens
    if clicks:
        # Of mail without an unsubscribe link, which is no campaign's, no link is stored that is one person's: it may be a password's.
        content.links = list(targets(content.html, personal=is_shared(content)))
    return content


# -------------------------------------------------------------------------------------------------------------------- links


@dataclass(frozen=True, slots=True)
class _Link:
    #: where the address stands in the marked template
    start: int
    end: int
    #: the address as it stands there, entities of HTML resolved
    target: str


# Transactional mails are a content each, of the same few templates.
@lru_cache(maxsize=64)
def targets(html: str, *, personal: bool = True) -> tuple[str, ...]:
    """Where the links lead that can be tracked: web addresses, each once. One with placeholders can, if these are plain and filled from the
    recipient's data, and `personal`; the unsubscribe link never is, nor what says data-track="off"."""
    tags, marked = markup.mark(html)
    wanted = _fillable(html) if personal else frozenset()
    found: dict[str, None] = {}
    for link in _links(marked):
        target = markup.unmark(link.target, tags).strip()
        if _is_web(target) and _is_plain(target, wanted):
            found[target] = None
    return tuple(found)[:MOST_LINKS]


def rewritten(html: str, content: Content) -> str:
    """A template's HTML, with the links that are tracked and the pixel."""
    base = content.tracking_base
    if content.links:
        numbers = {target: number for number, target in enumerate(content.links, 1)}
        tags, marked = markup.mark(html)
        pieces = []
        end = 0
        for link in _links(marked):
            if number := numbers.get(markup.unmark(link.target, tags).strip()):
                pieces += [marked[end : link.start], f'"{base}c/{{{{ mailhub_click }}}}/{number}"']
                end = link.end
        html = markup.unmark("".join(pieces) + marked[end:], tags)
    if content.tracks_opens:
        ends = list(BODY_END.finditer(html))
        place = ends[-1].start() if ends else len(html)
        html = html[:place] + PIXEL.format(base=base) + html[place:]
    return html


def _links(marked: str) -> Iterator[_Link]:
    for element in markup.MARKUP.finditer(marked):
        if ELEMENT.match(element[0]) and not SPARED.search(element[0]) and (href := HREF.search(element[0])):
            said = next((text for text in (href[3], href[4]) if text is not None), href[2])
            yield _Link(element.start() + href.start(2), element.start() + href.end(2), unescape(said))


def _is_web(target: str) -> bool:
    return target.lower().startswith(("https://", "http://")) and "\n" not in target


def _is_plain(target: str, wanted: frozenset[str]) -> bool:
    """Without placeholders, or with such alone as can be filled in when somebody comes."""
    if "{{" not in target and "{%" not in target and "{#" not in target:
        return True
    try:
        named = set(rendering.names(target))
        return rendering.plain(target, escaped=False) is not None and bool(named) and named <= wanted
    except jinja2.TemplateSyntaxError:
        return False


def _fillable(html: str) -> frozenset[str]:
    """The names that mean the same wherever they stand in a template: none where it has loops or conditions."""
    try:
        if rendering.plain(html, escaped=True) is None:
            return frozenset()
        return frozenset(rendering.names(html)) - {"unsubscribe_url", *TOKEN_OF.values()}
    except jinja2.TemplateSyntaxError:
        return frozenset()


# ------------------------------------------------------------------------------------------------------------------- tokens


def token(purpose: str, content: int | None, message: int | None) -> str:
    """2 us. Message 0 is nobody: the same for all who get the content, and for mails that are only tried out."""
    return tokens.compact(purpose, PAYLOAD.pack(content or 0, message or 0))


def read(purpose: str, text: str) -> tuple[int, int]:
    """The keys of content and message. Raises tokens.BadToken."""
    payload = tokens.read_compact(purpose, text)
    if len(payload) != PAYLOAD.size:
        raise tokens.BadToken
    content, message = PAYLOAD.unpack(payload)
    return content, message


def values(content: Content, message: int | None) -> dict[str, str]:
    """What the placeholders of a message's tokens stand for."""
    if settings.MAILHUB_TRACKING == "anonymous":
        message = 0
    # Both, so that the recipient's data stand for neither.
    return {
        TOKEN_OF[OPEN]: token(OPEN, content.pk, message) if content.tracks_opens else "",
        TOKEN_OF[CLICK]: token(CLICK, content.pk, message) if content.links else "",
    }


def filled(target: str, data: dict[str, object]) -> str:
    """Where a link with placeholders leads its recipient; "" for nowhere that is on the web."""
    if "{{" not in target:
        return target
    template = rendering.plain(target, escaped=False)
    found = template.render(data).strip() if template else ""
    return found if _is_web(found) and not re.search(r"[\x00-\x20]", found) else ""


def shown(links: Sequence[str] | None, number: int) -> str:
    """Where the link with this number leads, as it was written; "" where there is none."""
    return links[number - 1] if links and 0 < number <= len(links) else ""
