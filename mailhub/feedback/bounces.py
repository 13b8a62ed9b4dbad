"""A mail that came back, read: bytes to Reports. Pure, bounded, never raising; LF and CRLF make no difference.

First by structure (feedback report, delivery status, receipt), then by what is written for people. A mail is a bounce only if it says so
itself: what it merely holds, forwards or quotes is not looked into. Which of ours it is about is for others to prove (VERP, Message-ID).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import NamedTuple

from mailhub.feedback import addresses, arf, dsn, kinds, marks, mime, notices, sns
from mailhub.feedback.reports import MailKind, Reading, Report
from mailhub.lib.replies import classify, words
from mailhub.lib.replies.verdicts import Category, Kind, Verdict

LONGEST_DIAGNOSTIC = 500
MOST_REPORTS = 100
# Letters that are looked at for a reason: of one text, and of all texts of a mail that names many.
MOST_SAID = 2000
ALL_SAID = 40_000
LEAST_SAID = 300

DELIVERED = Verdict(Category.DELIVERED, Kind.OTHER, "action", 3)
ARRIVED = frozenset({"delivered", "relayed", "expanded"})


def read(raw: bytes) -> Reading:
    try:
        return read_mail(mime.read(raw))
    except RecursionError:
        # Nothing above nests deeper than mime.DEEPEST; this is the last line against what nobody thought of.
        return Reading(MailKind.OTHER)


def read_mail(mail: mime.Part) -> Reading:
    leaves = list(mail.leaves())
    returned = returned_headers(leaf for leaf in leaves if leaf is not mail)
    complaint = arf.read(mail, leaves, returned)
    if complaint:
        return complaint
    text = notice_text(mail, leaves)
    notice = sns.read(text)
    if notice:
        return notice
    refused = kinds.refuses(mail, text)
    groups = [group for leaf in leaves if dsn.tells(leaf, refused=refused) for group in dsn.read(leaf.text)]
    if not groups and (wrapped := within(mail, leaves)):
        return read_mail(wrapped)
    kind = kinds.of(mail, leaves, text, has_status=bool(groups))
    return bounce(mail, text, groups, returned) if kind == MailKind.BOUNCE else Reading(kind, (), returned)


def within(mail: mime.Part, leaves: list[mime.Part]) -> mime.Part | None:
    """The mail that a filter on the way has put into one of its own, which goes on as from and to the same."""
    for leaf in leaves:
        if leaf is not mail and leaf.type == "message/rfc822":
            inner = mime.read(leaf.data)
            same = all(inner.header(name).strip() == mail.header(name).strip() != "" for name in ("from", "to"))
            if same and inner.header("subject").strip() in mail.header("subject") and len(inner.body) < len(mail.body):
                return inner
    return None


def notice_text(mail: mime.Part, leaves: list[mime.Part]) -> str:
    """What is written for people: the plain text, else the HTML; not the mail that is returned."""
    plain: list[str] = []
    rich: list[str] = []
    for leaf in leaves:
        if (leaf.returned and leaf is not mail) or leaf.type in dsn.TYPES:
            if plain or rich:
                break
            continue
        if leaf.type in ("", "text/plain", "text") or (leaf is mail and not leaf.type.startswith(("image/", "application/", "text/html"))):
            plain.append(leaf.text)
        elif leaf.type == "text/html":
            rich.append(leaf.text)
    text = "\n\n".join(plain)
    if not addresses.ADDRESS.search(text) and rich:
        text = "\n\n".join([*plain, *rich])
    return text[: mime.MOST_TEXT]


def returned_headers(leaves: Iterable[mime.Part]) -> dict[str, str]:
    for leaf in leaves:
        if leaf.returned:
            mail = mime.read(leaf.data) if leaf.type in mime.RETURNED else leaf
            if mail.headers:
                return first_values(mail)
    return {}


def first_values(mail: mime.Part) -> dict[str, str]:
    return {name: mime.words(values[0])[:2000] for name, values in mail.headers.items()}


def bounce(mail: mime.Part, text: str, groups: list[dsn.Group], returned: dict[str, str]) -> Reading:
    notice = notices.read(text, kinds.own(mail))
    host = addresses.first(mail.header("from")).rpartition("@")[2]
    if notice.certainty <= notices.MENTIONED and host and kinds.daemon(mail):
        notice.take_local_names(host)
    if not returned and notice.returned:
        returned = first_values(mime.read(textwrap.dedent(notice.returned).encode("utf-8", "replace")))
    if not groups:
        groups = dsn.read(dsn.embedded(text))
    named = [group for group in groups if group.recipient][:MOST_REPORTS]
    alone = len(named) == 1 or len(notice.reasons) == 1
    subject = mail.header("subject")
    reports = [from_group(group, notice, subject, alone, room(len(named))) for group in named]
    if not reports:
        reports = from_notice(notice, mail, returned, groups[0] if groups else dsn.Group())
    once = {report.recipient.lower(): report for report in reversed(reports)}
    reports = list(reversed(once.values()))
    if not groups and not proves(mail, notice, returned, reports):
        return Reading(MailKind.OTHER, (), returned)
    arrived = bool(reports) and all(report.action in ARRIVED for report in reports)
    return Reading(MailKind.DELIVERED if arrived else MailKind.BOUNCE, tuple(reports), returned)


def proves(mail: mime.Part, notice: notices.Notice, returned: dict[str, str], reports: list[Report]) -> bool:
    """Without a delivery status: it returns our mail, or gives a code, or names the recipient as mail systems do. What only tells its
    reader that he missed something is bait."""
    if returned or notice.returned or "x-failed-recipients" in mail.headers or any(report.code or report.status for report in reports):
        return True
    mine = kinds.own(mail)
    sure = notice.certainty >= notices.SPOKEN or any(leaf.type in mime.RETURNED for leaf in mail.leaves())
    return sure and any(report.recipient.lower() not in mine for report in reports)


def from_group(group: dsn.Group, notice: notices.Notice, subject: str, alone: bool, letters: int) -> Report:
    """`alone`: what the notice says at large is about this recipient too."""
    about = notice.about(group.recipient) or notice.about(group.original)
    if not about and alone:
        about = " ".join(notice.reasons.values())
    return report(
        group.recipient,
        [group.diagnostic, group.comment, about],
        [notice.answers, notice.text, subject] if alone else [],
        Given(
            action=group.action or {"2": "delivered", "4": "delayed"}.get(group.status[:1], "failed"),
            status=group.status,
            remote=group.remote,
            original=group.original if group.original.lower() != group.recipient.lower() else "",
            label=group.label,
            command=notice.command,
            letters=letters,
        ),
    )


def from_notice(notice: notices.Notice, mail: mime.Part, returned: dict[str, str], group: dsn.Group) -> list[Report]:
    """`group`: a delivery status that names nobody."""
    subject = mail.header("subject")
    failed = [found for value in mail.headers.get("x-failed-recipients", ()) for found in addresses.every(value)]
    named = failed or list(notice.reasons)
    if not named or (notice.certainty == notices.MENTIONED and not failed):
        # Of addresses that are merely mentioned, those that the mail went to; else the first.
        sent_to = addresses.every(returned.get("to", ""))
        named = [address for address in named if address in sent_to] or (sent_to if len(sent_to) == 1 else []) or named[:1] or sent_to[:1]
    given = Given(
        action=group.action or ("delayed" if delayed(subject, notice.text) else "failed"),
        status=group.status,
        remote=group.remote,
        command=notice.command,
        letters=room(len(named)),
    )
    return [
        report(address, [group.diagnostic, notice.about(address)], [notice.answers, notice.text, subject], given)
        for address in named[:MOST_REPORTS]
    ]


def delayed(subject: str, text: str) -> bool:
    return bool(marks.NOT_YET.search(text[:4000])) or bool(marks.DELAYED_SUBJECT.search(subject))


class Given(NamedTuple):
    """What is known about a recipient's failure besides the words."""

    action: str
    status: str = ""
    remote: str = ""
    original: str = ""
    label: str = ""
    command: str = ""
    #: how much of each text is looked at
    letters: int = MOST_SAID


def room(recipients: int) -> int:
    """How much of each text is looked at, so that a mail that names hundreds takes no longer than others."""
    return min(MOST_SAID, max(LEAST_SAID, ALL_SAID // max(recipients, 1)))


def report(recipient: str, texts: list[str], general: list[str], given: Given) -> Report:
    """`texts`: what is said about the recipient, the most trustworthy first; `general`: what is said about nobody in particular."""
    texts = [text for text in texts if text.strip()]
    code = next(filter(None, map(words.code, texts)), None)
    status = better(given.status, *map(words.enhanced, texts[:2]))
    if given.action in ARRIVED:
        verdict, said = DELIVERED, "".join(texts[:1])
    else:
        verdict, said = judged(recipient, texts, general, given, (code, status))
    if given.action == "delayed":
        verdict = not_yet(verdict)
    elif verdict.category == Category.NETWORK and (given.status.endswith(".4.7") or marks.NO_ANSWER.search(said)):
        verdict = Verdict(Category.EXPIRED, Kind.SOFT, verdict.rule, verdict.weight)
    return Report(recipient, given.action, status, code, printable(said), verdict, given.original, given.remote[:200])


def judged(recipient: str, texts: list[str], general: list[str], given: Given, codes: tuple[int | None, str]) -> tuple[Verdict, str]:
    """The verdict that rests on most, and the text that it was read from. What is said about nobody in particular counts where nothing
    else does, and then only what cannot be misread."""
    code, status = codes
    command = next(filter(None, map(classify.command_in, texts)), given.command)
    provider = given.remote or recipient.rpartition("@")[2]

    def verdict(text: str) -> Verdict:
        return classify.classify(text[: given.letters], code=code, enhanced=status, provider=provider, command=command)

    best, said = verdict(""), "".join(texts[:1])
    for text in texts:
        found = verdict(text)
        if found.weight > best.weight:
            best, said = found, text
        if found.weight == classify.SAID:
            return best, said
    if best.weight < classify.CODED and given.label:
        best = classify.labelled_or_said(given.label, "")
    for text in general if best.weight < classify.CODED else []:
        found = verdict(text)
        if found.weight >= classify.CODED:
            return found, said or text
    return best, said or "".join(general[1:2])


def not_yet(verdict: Verdict) -> Verdict:
    """A delay is never the end of an address."""
    if verdict.weight < classify.CODED:
        return Verdict(Category.EXPIRED, Kind.SOFT, "action", classify.HINTED)
    return Verdict(verdict.category, Kind.SOFT, verdict.rule, verdict.weight)


def better(*codes: str) -> str:
    """The first that names a detail, else the first there is."""
    given = [code for code in codes if code]
    return next((code for code in given if not code.endswith(".0")), given[0] if given else "")


def printable(text: str) -> str:
    """PostgreSQL takes no NUL, pages no control characters."""
    text = " ".join(text.split())[:LONGEST_DIAGNOSTIC]
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
