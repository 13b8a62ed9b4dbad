"""What workers are woken for. Each may run twice, late or never."""

from __future__ import annotations

from mailhub.feedback import callbacks, incoming, mailboxes, probes
from mailhub.lib import tasks


def read_incoming() -> int:
    """Mails that were stored and not read, as when a process died in between."""
    return incoming.work_off()


def poll_mailboxes() -> None:
    # A task each: a server that hangs holds its own mailbox up, and no other.
    for mailbox in mailboxes.due():
        tasks.enqueue("mailhub.feedback.tasks.poll", mailbox.pk, queue="maintenance")


def poll(mailbox_id: int) -> int:
    mailbox = mailboxes.in_use().filter(pk=mailbox_id).first()
    return mailboxes.poll(mailbox) if mailbox else 0


def read_callbacks() -> int:
    return callbacks.work_off()


def look_again() -> None:
    """By the minute: callbacks whose wake-up got lost, reports that came before our own commit, test mails that nothing came of."""
    callbacks.work_off()
    callbacks.try_parked()
    probes.close()


def prune() -> int:
    return incoming.forget() + callbacks.forget()
