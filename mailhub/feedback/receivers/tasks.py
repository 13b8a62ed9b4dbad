"""What workers are woken for. Each may run twice, late or never."""

from __future__ import annotations

from mailhub.feedback.receivers import intake, sums


def look_up() -> int:
    return sums.look_up()


def prune() -> int:
    return intake.forget()
