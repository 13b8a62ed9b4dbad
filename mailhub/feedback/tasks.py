"""What workers are woken for. Each may run twice, late or never."""

from __future__ import annotations

from mailhub.feedback import incoming


def read_incoming() -> int:
    """Mails that were stored and not read, as when a process died in between."""
    return incoming.work_off()


def prune() -> int:
    return incoming.forget()
