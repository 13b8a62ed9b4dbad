"""What workers are woken for. Each may run twice, late or never."""

from __future__ import annotations

from mailhub.feedback.returns import tally


def count() -> int:
    return tally.count()


def prune() -> int:
    return tally.forget()
