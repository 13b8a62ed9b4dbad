"""What workers are woken for. Each may run twice, late or never: supervisors post all the time (mailhub/supervisor.py), and this is for
one whose thread stands still."""

from __future__ import annotations

from mailhub.lib import tasks
from mailhub.webhooks import log, posting


def tick() -> None:
    """Wake the posting when something waits. Several at once share the endpoints: each is held by one of them."""
    if posting.is_due():
        tasks.enqueue("mailhub.webhooks.tasks.post_webhooks", queue="maintenance")


def post_webhooks() -> None:
    if posting.post_due():
        tasks.enqueue("mailhub.webhooks.tasks.post_webhooks", queue="maintenance")


def prune() -> int:
    return log.forget()
