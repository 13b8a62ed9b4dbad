"""The one way a row moves from state to state."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from django.db.models import Model


class WrongState(Exception):
    """The row is not in a state from which this move is legal (perhaps someone else was quicker)."""


def sources(moves: Mapping[Any, Collection[str]], to: str) -> list[str]:
    return [source for source, targets in moves.items() if to in targets]


def move(obj: Model, to: str, *, moves: Mapping[Any, Collection[str]], **fields: Any) -> None:
    """Set `obj.status` and `fields` in one guarded UPDATE. Raises WrongState when the row was in no legal source state."""
    rows = type(obj)._default_manager.filter(pk=obj.pk, status__in=sources(moves, to))
    if rows.update(status=to, **fields) != 1:
        raise WrongState(f"{obj._meta.verbose_name} {obj.pk} cannot become {to}")
    for name, value in {"status": to, **fields}.items():
        setattr(obj, name, value)
