"""The six steps of a mail from who writes it to who reads it, for the help page."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _


@dataclass(frozen=True, slots=True)
class Step:
    #: as the trade calls it
    term: str
    title: str
    words: str
    #: whether MailHub does it
    ours: bool


def steps() -> list[Step]:
    return [
        Step(
            "MUA → MSA",
            _("The site hands the mail in"),
            _(
                "A program, such as WordPress or a mail program, brings the mail by SMTP or HTTP. MailHub asks who "
                "it is and which sender it may use."
            ),
            True,
        ),
        Step(
            "MSA → MTA",
            _("The mail is checked and queued"),
            _(
                "Once MailHub has answered, the mail is stored and is not lost: while a relay is down it waits. The "
                "relay is chosen when its turn comes."
            ),
            True,
        ),
        Step(
            "MTA → MTA",
            _("The mail is handed on"),
            _(
                "To a relay, which passes it on, perhaps several times, or straight to the recipient's server. What "
                "is refused for now is tried again, later each time."
            ),
            True,
        ),
        Step(
            "MTA → MDA",
            _("The recipient's server takes it"),
            _(
                "“Accepted by relay” means no more than that step three is done. That the server took it is only "
                "known where somebody reports it: then it is “delivered”."
            ),
            False,
        ),
        Step(
            "MDA",
            _("It is put into the mailbox"),
            _(
                "Into the inbox or among spam: that is the recipient's provider's decision. Proven senders, good "
                "addresses and few complaints are what help."
            ),
            False,
        ),
        Step(
            "MDA → MUA",
            _("The recipient fetches and reads it"),
            _(
                "By POP, IMAP or in the browser. MailHub keeps no mailboxes for people; it fetches mail only from "
                "the mailbox that bounces come to."
            ),
            False,
        ),
    ]
