"""What a reply says, apart from what it says it about: codes taken out, addresses, hosts and links made alike.

A mailbox may be called mailboxfull@, a host spam.example.org: only the words around them are evidence.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST = 4000

ADDRESS = re.compile(r"""<?(?:"[^"\n]{1,64}"|[^\s<>()\[\]{},;:"'@|]{1,128})@(?:[\w.-]{1,253}|\[[\w.:]{3,45}\])>?""")
LINK = re.compile(r"(?:https?://|www\.|mailto:)[^\s<>\"')\]]+")
# Three labels, or two of which the last is a top-level domain that is no English word.
TOP = "com|net|org|edu|gov|mil|int|info|biz|jp|de|fr|ru|cn|kr|uk|ua|pl|cz|nl|br|ar|mx|es|pt|eu|tv|ca|au|nz|tw|hk|example|test|local|invalid"
HOST = re.compile(rf"(?<![\w@.-])(?:(?:[\w-]{{1,63}}\.){{2,8}}[a-z][\w-]{{1,62}}\b|[\w-]{{1,63}}\.(?:{TOP})\b)\.?(?!\w)")
# Lists of bad senders are told from other hosts: to be named beside one is to be listed.
LISTS = re.compile(
    r"spamhaus|spamcop|sorbs|barracuda|dnsbl|uceprotect|abuseat|mailspike|psbl|njabl|ordb|surbl|uribl|invaluement|senderscore"
    r"|abusix|spamrats|backscatterer|hostkarma|\bcbl\.|\brbl|zen\.|\bsbl\b|\bxbl\b|\bbl\.|blacklist|blocklist|dnswl"
)
NUMBERS = re.compile(r"\[?\b\d{1,3}(?:\.\d{1,3}){3}\b\]?(?::\d+)?|\[?\b(?:[0-9a-f]{1,4}:){3,7}[0-9a-f:]{1,40}\b\]?")
ENHANCED = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.]*\d)")
CODE = re.compile(r"(?<![\w.\[/:=-])([245]\d\d)(?![\w/%\]]|\.\d)")
# The code at the start of each line of a long reply, which joining the lines leaves in the midst of the words.
CONTINUED = re.compile(r"(?<![\w.-])[245]\d\d[- ](?:#?[245]\.\d{1,3}\.\d{1,3}\b)?")
REPEATED = re.compile(r"(?<![\w.-])[245]\d\d-(?:#?[245]\.\d{1,3}\.\d{1,3}\b)?")
PUNCTUATION = str.maketrans(dict.fromkeys(',;:!?_()[]{}<>"*=|#`~“”„«»。、，：；！（）【】「」『』', " ") | {"’": "'", "‘": "'", "´": "'"})
ELLIPSIS = re.compile(r"\.{2,}|…")
STOP = re.compile(r"\.(?=\s|$)")
SPACE = re.compile(r"\s+")


def flat(text: str) -> str:
    """One line, lower case, full-width forms made narrow, addresses as "@"; links, hosts and codes as they were, but the code no more
    than once where every line of a long reply repeats it."""
    text = SPACE.sub(" ", ADDRESS.sub(" @ ", unicodedata.normalize("NFKC", text[:LONGEST]).lower())).strip()
    found = REPEATED.search(text)
    return text[: found.end()] + CONTINUED.sub("", text[found.end() :]) if found else text


def plain(text: str) -> str:
    """Of `flat` text what rules that hold everywhere look at: "&" for a host, "dnsbl" for a list of bad ones, "ip" for a number; no
    codes, no punctuation but a full stop standing alone at the end of a sentence."""
    text = LINK.sub(" ", text)
    text = HOST.sub(lambda found: " dnsbl " if LISTS.search(found[0]) else " & ", text)
    text = CONTINUED.sub(" ", NUMBERS.sub(" ip ", text))
    text = ELLIPSIS.sub(" ", ENHANCED.sub(" ", text)).translate(PUNCTUATION)
    return SPACE.sub(" ", STOP.sub(" . ", text)).strip()


def enhanced(text: str) -> str:
    """The RFC 3463 code in the text: of several, the first that names a detail."""
    found = ENHANCED.findall(NUMBERS.sub(" ", text[:LONGEST].lower()))
    return next((code for code in found if not code.endswith(".0")), found[0] if found else "")


def code(text: str) -> int | None:
    """The RFC 5321 reply code in the text."""
    found = CODE.search(LINK.sub(" ", NUMBERS.sub(" ", ADDRESS.sub(" ", text[:LONGEST].lower()))))
    return int(found[1]) if found else None


def answer(flat: str) -> str:
    """The text from the first code on."""
    found = CODE.search(LINK.sub(blank, NUMBERS.sub(blank, flat))) or ENHANCED.search(NUMBERS.sub(blank, flat))
    return flat[found.start() :] if found else flat


def blank(found: re.Match[str]) -> str:
    return " " * len(found[0])
