"""The part of a bounce that is written for people: where it ends, whom it is about, and what it says about each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mailhub.feedback import addresses, dsn
from mailhub.feedback.marks import FOOTER, HEADER_LINE, HEADER_PROOF, HELP, RECIPIENT_BEFORE, RETURNED_BELOW, SENDER_BEFORE
from mailhub.lib.replies import words

MOST_TEXT = 60_000
MOST_LINES = 1500
LONGEST_LINE = 2000
MOST_RECIPIENTS = 200
# A text that merely mentions more addresses than this tells nothing by it.
MOST_MENTIONED = 10
# Lines of explanation that belong to a recipient.
MOST_REASON = 12
MOST_FURTHER = 36

ADDRESS = rf"(?P<address>{addresses.LOCAL}@{addresses.DOMAIN})"
# A line that begins with an address, perhaps in brackets, quotes or after a bullet.
BULLETS = r"(?:>>>\s*|[*•・–\-\"'(\[]\s*){0,3}(?:mailto:)?"
LEADING = re.compile(rf"^(?P<indent>\s*){BULLETS}<?{ADDRESS}>?(?P<rest>[\s\"'):;,.\]<(\-\[|].*)?$")
# What was said in the SMTP session.
RCPT = re.compile(rf"RCPT TO\s*:?\s*<?{ADDRESS}>?", re.IGNORECASE)
# The mail's own header, told again in the notice.
TO = re.compile(r"^\s*(?:to|an|à|para|a|per|кому|宛先|收件人|받는 ?사람)\s*[:：]\W*$", re.IGNORECASE)
COMMAND = re.compile(r"^\s*>>>\s*(EHLO|HELO|MAIL|RCPT|DATA)\b", re.IGNORECASE)
REFUSAL = re.compile(r"^\s*<<<\s*([45]\d\d)")
# Some quote the mail that they return.
QUOTE = re.compile(r"^> ?(?!>)")
# Names of mailboxes in a list of recipients of the system's own.
LIST = re.compile(r"(?:recipient|address|user|addressee)\(?e?s?\)?\b.{0,200}:$", re.IGNORECASE)
LOCAL_NAME = re.compile(r"^\s+(?P<name>[\w.+-]{1,64})$")
# A part of a mail whose boundary nobody found.
PART = re.compile(r"^\s*(?:Content-Type\s*:\s*(?:message|text|multipart)/|Content-(?:Transfer-Encoding|Disposition)\s*:)", re.IGNORECASE)
ANSWER = re.compile(r"^\s*(?:<<<|Received <<<|Received >>>)\s?(.*)$")

# How sure a shape makes that an address is a failed recipient's.
LEADS, LABELLED, SPOKEN, MENTIONED = 4, 3, 2, 1


class Entry(NamedTuple):
    """A recipient that a line begins with, what is said about it, and the line where that ends."""

    address: str
    reason: str
    end: int


class Mention(NamedTuple):
    """An address in a line, and that line with those after it."""

    certainty: int
    address: str
    reason: str


@dataclass(slots=True)
class Notice:
    #: what is said before the returned mail begins
    text: str
    #: the returned mail, where it stands in the same part
    returned: str = ""
    #: failed recipients in order -> what is said about each
    reasons: dict[str, str] = field(default_factory=dict)
    #: how sure: one of the shapes above; 0 where nobody is named
    certainty: int = 0
    #: what the other side said in the session
    answers: str = ""
    #: the command that it said it to first: CONNECT, MAIL, RCPT, DATA or ""
    command: str = ""

    def about(self, address: str) -> str:
        return self.reasons.get(address) or next((reason for named, reason in self.reasons.items() if named.lower() == address.lower()), "")

    def take_local_names(self, host: str) -> None:
        """Recipients that are listed without their host, as a system does those of its own."""
        lines = self.text.split("\n")
        place = next((place for place, line in enumerate(lines) if LIST.search(line)), len(lines))
        below = itertools.dropwhile(lambda line: not line.strip(), lines[place + 1 :])
        names = [found["name"] for found in itertools.takewhile(bool, map(LOCAL_NAME.match, below)) if found][:MOST_RECIPIENTS]
        if names:
            self.certainty, self.reasons = LABELLED, {f"{name}@{host}": "" for name in names}


def read(text: str, not_these: frozenset[str] = frozenset()) -> Notice:
    """`not_these`: addresses in lower case that are recipients only where nobody else is named: whom the bounce is to, who sends it."""
    lines = [line[:LONGEST_LINE].rstrip() for line in text[:MOST_TEXT].split("\n", MOST_LINES)[:MOST_LINES]]
    end = ends(lines)
    head, below = lines[:end], lines[end:]
    if below and not HEADER_LINE.match(below[0]):
        # The line that says what follows.
        below = below[1:]
    notice = Notice("\n".join(head), "\n".join(QUOTE.sub("", line) for line in below).strip("\n"))
    notice.answers = "\n".join(found[1] for line in head if (found := ANSWER.match(line)))
    notice.command = refused_command(head)
    entries = leading(head, not_these) or leading(head, frozenset())
    if entries:
        notice.certainty, notice.reasons = LEADS, told(entries, head)
    else:
        notice.certainty, notice.reasons = surest(list(mentioned(head)), not_these)
    return notice


def told(entries: list[Entry], lines: list[str]) -> dict[str, str]:
    """What is said about each. About a single one all that follows is, too."""
    reasons: dict[str, str] = {}
    for entry in entries[:MOST_RECIPIENTS]:
        reasons[entry.address] = " ".join(filter(None, (reasons.get(entry.address), entry.reason)))
    if len(reasons) == 1:
        further = itertools.takewhile(lambda line: not FOOTER.search(line), lines[entries[0].end : entries[0].end + MOST_FURTHER])
        reasons = {entries[0].address: " ".join([entries[0].reason, *map(str.strip, further)]).strip()}
    return reasons


def surest(candidates: list[Mention], not_these: frozenset[str]) -> tuple[int, dict[str, str]]:
    """Those named in the surest way that anybody is."""
    for others in (not_these, frozenset[str]()):
        for certainty in (LABELLED, SPOKEN, MENTIONED):
            named = {each.address: each.reason for each in candidates if each.certainty == certainty and each.address.lower() not in others}
            if named and not (certainty == MENTIONED and len(named) > MOST_MENTIONED):
                return certainty if others else MENTIONED, dict(list(named.items())[:MOST_RECIPIENTS])
    return 0, {}


def refused_command(lines: list[str]) -> str:
    """What the other side refused for good; of what it only put off, the first. "503 need RCPT" is but a consequence."""
    command = ""
    refused: dict[str, str] = {}
    for line in lines:
        found, refusal = COMMAND.match(line), REFUSAL.match(line)
        if "while talking to" in line:
            command = ""
        elif found:
            command = found[1].upper()
        elif refusal and refusal[1] != "503":
            refused.setdefault(refusal[1][0], "CONNECT" if command in ("", "EHLO", "HELO") else command)
    return refused.get("5") or refused.get("4", "")


def ends(lines: list[str]) -> int:
    """The line where the returned mail begins."""
    for place, line in enumerate(lines):
        line = QUOTE.sub("", line)
        if (len(line) <= 160 and RETURNED_BELOW.match(line)) or dsn.EMBEDDED.match(line) or PART.match(line):
            return place
        if HEADER_PROOF.match(line) or (HEADER_LINE.match(line) and place and not lines[place - 1].strip()):
            run = itertools.takewhile(str.strip, lines[place : place + 12])
            shown = [each for each in (QUOTE.sub("", each) for each in run) if HEADER_LINE.match(each)]
            if len(shown) >= 3 and any(HEADER_PROOF.match(each) for each in shown):
                return place
    return len(lines)


def leading(lines: list[str], not_these: frozenset[str]) -> list[Entry]:
    """Recipients that lines begin with."""
    found: list[Entry] = []
    margin: int | None = None
    place = 0
    while place < len(lines):
        match = LEADING.match(lines[place])
        if match is None or not lists(lines, place, match, margin) or addresses.tidy(match["address"]).lower() in not_these:
            place += 1
            continue
        margin = indent(lines[place]) if margin is None else margin
        said, place = reason(lines, place, match["rest"] or "", margin)
        found.append(Entry(addresses.tidy(match["address"]), said, place))
    return found


def lists(lines: list[str], place: int, match: re.Match[str], margin: int | None) -> bool:
    """An entry of a list of recipients, of which the first began at `margin`."""
    return not HELP.search(lines[place]) and not follows_sender(lines, place) and opens(lines, place, match, margin)


def indent(line: str) -> int:
    line = line.expandtabs()
    return len(line) - len(line.lstrip())


def follows_sender(lines: list[str], place: int) -> bool:
    """As in "A message sent by" and the address below."""
    before = next((line for line in reversed(lines[max(place - 3, 0) : place]) if line.strip()), "")
    return bool(SENDER_BEFORE.search(before[-60:]))


def opens(lines: list[str], place: int, match: re.Match[str], margin: int | None) -> bool:
    """Not a sentence that happens to go on with an address."""
    depth = indent(lines[place])
    if margin is not None and depth > margin:
        return False
    before = lines[place - 1].rstrip() if place else ""
    if not before or before.endswith((":", "：", "-", "=", "。", ".", "_", "*")) or LEADING.match(before):
        return True
    # After a line that is no entry: only if it stands out, as in "<a@b.example>:" alone on its line.
    alone = not (match["rest"] or "").strip(" >\"':") and lines[place].strip()[:1] in "<\"'*"
    return alone or depth != indent(before)


def reason(lines: list[str], place: int, rest: str, margin: int) -> tuple[str, int]:
    """What is said about the recipient in line `place`, and the line after it. The next paragraph counts where there is nothing else."""
    said = [rest.strip(" \t:;,>")] if rest.strip(" \t:;,>") else []
    place += 1
    skipped = False
    while place < len(lines) and len(said) < MOST_REASON:
        line = lines[place]
        if line.strip():
            if LEADING.match(line) and indent(line) <= margin and (said or skipped or not HELP.search(line)):
                break
            said.append(line.strip())
        elif said or skipped:
            break
        else:
            skipped = True
        place += 1
    return " ".join(said), place


def mentioned(lines: list[str]) -> Iterator[Mention]:
    """Every address that may be a recipient's."""
    for place, line in enumerate(lines):
        if "@" not in line or HELP.search(line):
            continue
        for match in addresses.find(line):
            before = line[: match.start()].rstrip(" <\"'([「") or (lines[place - 1].rstrip(" <\"'([「") if place else "")
            if SENDER_BEFORE.search(before[-60:]):
                continue
            certainty = MENTIONED
            if RCPT.search(line) or words.code(line) or TO.match(before):
                certainty = SPOKEN
            elif RECIPIENT_BEFORE.search(before[-80:]):
                certainty = LABELLED
            yield Mention(certainty, addresses.tidy(match[0]), around(lines, place, match[0]))


def around(lines: list[str], place: int, address: str) -> str:
    """The line that names somebody and those after it, up to the next that names somebody else."""
    further = itertools.takewhile(lambda line: "@" not in line or address in line, lines[place + 1 : place + 4])
    return " ".join(map(str.strip, [lines[place], *further]))
