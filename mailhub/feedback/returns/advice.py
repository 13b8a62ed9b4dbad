"""What a category is called, and what to do about it. That an address is suppressed, retried or paused follows from lib/replies."""

from __future__ import annotations

from django.utils.translation import gettext as _


def name(category: str) -> str:
    return {
        "user_unknown": _("No such mailbox"),
        "host_unknown": _("No such domain"),
        "suspended": _("Mailbox closed"),
        "mailbox_full": _("Mailbox full"),
        "blocked": _("Blocked"),
        "rejected": _("Sender not welcome"),
        "spam": _("Taken for spam"),
        "auth_failure": _("Not authenticated"),
        "rate_limited": _("Too much, too fast"),
        "too_big": _("Too big"),
        "content": _("Content refused"),
        "expired": _("Tried for too long"),
        "network": _("No connection"),
        "system": _("Their server is broken"),
        "temporary": _("Later, says the server"),
        "complaint": _("Complaints"),
    }.get(category, _("Other reasons"))


def of(category: str, kind: str) -> str:
    """What to do, in a sentence or two."""
    if kind == "hard":
        return _("Nothing: these addresses are suppressed. When they are many, look where the list came from.")
    return {
        "user_unknown": _("Wait: the server was not sure. If it says so again and again, the address is suppressed."),
        "host_unknown": _("Wait: the domain could not be found for now. Look for typing mistakes when one domain stands out."),
        "suspended": _("Nothing at once: the mailbox may open again. Leave such addresses out when it happens for weeks."),
        "mailbox_full": _("Nothing at once: it may be emptied. Who has not made room for weeks does not read your mail either."),
        "blocked": _("Stop sending to this destination, read the reply for the list or page it names, and ask there to be let in again."),
        "rejected": _("Ask the recipients to allow your address. Japanese mobile carriers do so by domain, in the user's own settings."),
        "spam": _("Change what the mail says: its links, its subject, its pictures; and mail only those who expect it."),
        "auth_failure": _("Repair SPF, DKIM or DMARC: the domain's page says what is wrong. No recipient is at fault."),
        "rate_limited": _("Send more slowly to this destination: lower its rate under Destinations, or warm the address up."),
        "too_big": _("Make the mail smaller: link to large files in place of attaching them."),
        "content": _("Look at the attachments and headers of this mail: something in them is not taken."),
        "expired": _("Look at what the servers said before: it was tried until the end of its time."),
        "network": _("Look whether your relay reaches others. If this destination alone fails, wait."),
        "system": _("Wait: it is theirs to repair. If it lasts for days, write to their postmaster."),
        "temporary": _("Wait: it may go better tomorrow. If it goes on, send more slowly to this destination."),
        "complaint": _(
            "Mail less often, make leaving easier, and leave out those who have not opened for long."
            " Over three in a thousand, Gmail shuts its doors."
        ),
    }.get(category, _("Read the reply: nobody has told MailHub yet what it means."))
