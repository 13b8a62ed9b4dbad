"""Mail addresses in running text, as bounces write them."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Local part: anything that mail systems have let through, a trailing dot and two dots in a row among it.
LOCAL = r"""(?:"(?:[^"\\\n]|\\.){1,100}"|[^\s<>()\[\]{},;:"'`@|“”‘’「」『』（）【】＜＞、。，：；！？・]{1,128})"""
DOMAIN = r"(?:[^\W_](?:[\w.-]{0,252}[^\W_])?|\[[\d.:A-Fa-f]{3,45}\]|\[IPv6:[\d.:A-Fa-f]{3,45}\])"
ADDRESS = re.compile(rf"{LOCAL}@{DOMAIN}")
BRACKETED = re.compile(rf"<(?:@[^\s:<>]{{1,300}}:)?({LOCAL}@{DOMAIN})\s?>")
# Exchange's form of an address that is not of the Internet (RFC 2047 without the equals sign, as it were).
ENCAPSULATED = re.compile(r"^IMCEA\w+-", re.IGNORECASE)


# Words of a language that puts no space before an address.
GLUED = re.compile(r"^[\u3000-\u9fff\uac00-\ud7a3\uff00-\uffef]+(?=[!-~])")
# The same after it: a host name that is whole before the first letter that is not of its kind.
WHOLE = re.compile(r"^([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,})[^\x00-\x7f]")


def find(text: str) -> Iterator[re.Match[str]]:
    return ADDRESS.finditer(text)


def first(text: str) -> str:
    """The address in a field like "rfc822; <a@b.example>", or ""."""
    found = BRACKETED.search(text)
    if found:
        return tidy(found[1])
    bare = ADDRESS.search(text)
    return tidy(bare[0]) if bare else ""


def tidy(address: str) -> str:
    """Without what the text around has left on it."""
    local, _at, domain = address.rpartition("@")
    for prefix in ("mailto:", "smtp:", "smtp=", "rfc822;", "=3D"):
        local = local[len(prefix) :] if local.lower().startswith(prefix.lower()) else local
    if not local.startswith('"'):
        local = GLUED.sub("", local).lstrip("*=+>/")
    glued = WHOLE.match(domain)
    return f"{local}@{(glued[1] if glued else domain).rstrip('.-')}"


def every(text: str) -> list[str]:
    """All addresses in a header such as To, in order, none twice."""
    return list(dict.fromkeys(tidy(match[0]) for match in find(text[:20_000])))
