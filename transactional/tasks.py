"""What workers run for transactional mail."""

from __future__ import annotations

from transactional import retention


def prune() -> None:
    retention.prune()
