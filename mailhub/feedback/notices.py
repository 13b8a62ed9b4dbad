"""The part of a bounce that is written for people: where it ends, whom it is about, and what it says about each."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

from mailhub.feedback import addresses, dsn
from mailhub.feedback.marks import HEADER_LINE, HEADER_PROOF, HELP, RECIPIENT_BEFORE, RETURNED_BELOW, SENDER_BEFORE

MOST_LINES = 1500
LONGEST_LINE = 2000
MOST_RECIPIENTS = 200
# Lines of explanation that belong to a recipient.
MOST_REASON = 12

# A line that begins with an address, perhaps in brackets, quotes or after a bullet.
LEADING = re.compile(rf"^(?P<indent>[\s]*)(?:>>>\s*|[*•・–\-\"'(\[]\s*){{0,3}}(?:mailto:)?<?(?P<address>{addresses.LOCAL}@{addresses.DOMAIN})>?(?P<rest>[\s\"'):;,.\]<(\-\[|].*)?$")
# What was said in the SMTP session.
RCPT = re.compile(rf"RCPT TO\s*:?\s*<?(?P<address>{addresses.LOCAL}@{addresses.DOMAIN})>?", re.IGNORECASE)
SAID = re.compile(rf"^\W{{0,8}}(?:<<<|>>>)?\s*[45]\d\d[ -](?:[45]\.\d+\.\d+ )?.{{0,40}}?<(?P<address>{addresses.LOCAL}@{addresses.DOMAIN})>\s*(?:\.\.\.|:|,)", re.IGNORECASE)
COMMAND = re.compile(r"^\s*>>>\s*(EHLO|HELO|MAIL|RCPT|DATA)\b", re.IGNORECASE)
REFUSAL = re.compile(r"^\s*<<<\s*([45]\d\d)")
# A part of a mail whose boundary nobody found.
PART = re.compile(r"^\s*(?:Content-Type\s*:\s*(?:message|text|multipart)/|Content-(?:Transfer-Encoding|Disposition)\s*:)", re.IGNORECASE)
ANSWER = re.compile(r"^\s*(?:<<<|Received <<<|Received >>>)\s?(.*)$")
QUOTED = re.compile(r"^\s*(?:>(?!>>)|\|)\s?")

# How sure a shape makes that an address is a failed recipient's.
LEADS, LABELLED, SPOKEN, MENTIONED = 4, 3, 2, 1


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


def read(text: str, not_these: frozenset[str] = frozenset()) -> Notice:
    """`not_these`: addresses in lower case that are recipients only where nobody else is named: whom the bounce is to, who sends it."""
    lines = [line[:LONGEST_LINE].rstrip() for line in text.split("\n", MOST_LINES)[:MOST_LINES]]
    end = ends(lines)
    head = lines[:end]
    below = lines[end:] if end < len(lines) and HEADER_LINE.match(lines[end]) else lines[end + 1 :]
    notice = Notice("\n".join(head), "\n".join(below).strip("\n"))
    notice.answers = "\n".join(found[1] for line in head if (found := ANSWER.match(line)))
    notice.command = refused_command(head)
    found = leading(head, not_these) or leading(head, frozenset())
    if found:
        notice.certainty = LEADS
        for address, reason, _place in found[:MOST_RECIPIENTS]:
            notice.reasons[address] = " ".join(filter(None, (notice.reasons.get(address), reason)))
        if len(notice.reasons) == 1:
            # What follows further down is about nobody else.
            address, reason, place = found[0]
            notice.reasons = {address: " ".join([reason, *(line.strip() for line in head[place : place + MOST_REASON * 3])]).strip()}
        return notice
    candidates = list(mentioned(head))
    for others in (not_these, frozenset[str]()):
        for certainty in (LABELLED, SPOKEN, MENTIONED):
            named = {address: reason for sure, address, reason in candidates if sure == certainty and address.lower() not in others}
            if named:
                notice.certainty, notice.reasons = certainty, dict(list(named.items())[:MOST_RECIPIENTS])
                return notice
    return notice


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
        if (len(line) <= 160 and RETURNED_BELOW.match(line)) or dsn.EMBEDDED.match(line) or PART.match(line):
            return place
        if HEADER_PROOF.match(line) or (HEADER_LINE.match(line) and place and not lines[place - 1].strip()):
            run = list(itertools.takewhile(str.strip, lines[place : place + 12]))
            shown = [each for each in run if HEADER_LINE.match(each)]
            if len(shown) >= 3 and any(HEADER_PROOF.match(each) for each in shown):
                return place
    return len(lines)


def leading(lines: list[str], not_these: frozenset[str]) -> list[tuple[str, str, int]]:
    """Recipients that lines begin with, what is said about each, and the line where that ends."""
    found: list[tuple[str, str, int]] = []
    margin: int | None = None
    place = 0
    while place < len(lines):
        line = lines[place]
        match = LEADING.match(line)
        if match is None or follows_sender(lines, place) or HELP.search(line) or addresses.tidy(match["address"]).lower() in not_these or not opens(lines, place, match, margin):
            place += 1
            continue
        margin = len(match["indent"].expandtabs()) if margin is None else margin
        rest, place = reason(lines, place, match["rest"] or "", margin)
        found.append((addresses.tidy(match["address"]), rest, place))
    return found


def follows_sender(lines: list[str], place: int) -> bool:
    """As in "A message sent by" and the address below."""
    before = next((line for line in reversed(lines[max(place - 3, 0) : place]) if line.strip()), "")
    return bool(SENDER_BEFORE.search(before[-60:]))


def opens(lines: list[str], place: int, match: re.Match[str], margin: int | None) -> bool:
    """An entry of a list, not a sentence that happens to go on with an address."""
    indent = len(match["indent"].expandtabs())
    if margin is not None and indent > margin:
        return False
    before = lines[place - 1] if place else ""
    if not before.strip() or before.rstrip().endswith((":", "：", "-", "=", "。", ".", "_", "*")):
        return True
    if LEADING.match(before) or indent < len(before) - len(before.lstrip()):
        return True
    # After a line that is no list entry: only if it stands out, as in "<a@b.example>:" alone on its line.
    alone = not (match["rest"] or "").strip(" >\"':")
    return (alone and lines[place].strip()[:1] in "<\"'*" ) or indent > len(before) - len(before.lstrip())


def reason(lines: list[str], place: int, rest: str, margin: int) -> tuple[str, int]:
    """What is said about the recipient in line `place`, and the line after it. The next paragraph counts where there is nothing else."""
    said = [rest.strip(" \t:;,>")] if rest.strip(" \t:;,>") else []
    place += 1
    empty = 0
    while place < len(lines) and len(said) < MOST_REASON:
        line = lines[place]
        if not line.strip():
            if said or empty:
                break
            empty += 1
        else:
            match = LEADING.match(line)
            if match and len(match["indent"].expandtabs()) <= margin and (said or empty or not HELP.search(line)):
                break
            said.append(line.strip())
        place += 1
    return " ".join(said), max(place, 1)


def mentioned(lines: list[str]) -> list[tuple[int, str, str]]:
    """(certainty, address, the line and those that follow) for every address that may be a recipient's."""
    found = []
    for place, line in enumerate(lines):
        for match in addresses.find(line):
            before = line[: match.start()].rstrip(" <\"'([「")
            if not before.strip() and place:
                before = lines[place - 1].rstrip(" <\"'([「")
            if SENDER_BEFORE.search(before[-60:]) or HELP.search(line):
                continue
            certainty = MENTIONED
            if RCPT.search(line) or SAID.match(line):
                certainty = SPOKEN
            elif RECIPIENT_BEFORE.search(before[-80:]):
                certainty = LABELLED
            found.append((certainty, addresses.tidy(match[0]), " ".join(each.strip() for each in lines[place : place + 4])))
    return found
