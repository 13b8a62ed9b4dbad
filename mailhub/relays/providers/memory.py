"""A relay that keeps mail in this process's memory and answers as its script says: for tests and dry runs."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, ClassVar

from django import forms
from django.utils.translation import gettext_lazy as _

from mailhub.relays.base import Envelope, Reply, SendError

if TYPE_CHECKING:
    from mailhub.relays.models import Relay

#: what each relay took, by its primary key, oldest first
taken: dict[int, list[Envelope]] = defaultdict(list)
#: what each relay answers next: a Reply is returned, a SendError raised; when none is left everything is accepted
script: dict[int, deque[Reply | SendError]] = defaultdict(deque)

ACCEPTED = Reply(250, "2.0.0", "kept in memory")


def clear() -> None:
    taken.clear()
    script.clear()


class Memory:
    label = _("Memory (for dry runs: mail goes nowhere)")
    options_form: ClassVar[type[forms.Form]] = forms.Form
    secret_options: ClassVar[frozenset[str]] = frozenset()
    uses_pool: ClassVar[bool] = False

    def __init__(self, relay: Relay) -> None:
        self.relay = relay.pk

    async def open(self) -> MemorySession:
        return MemorySession(self.relay)


class MemorySession:
    spent = False

    def __init__(self, relay: int) -> None:
        self.relay = relay

    async def send(self, envelope: Envelope) -> Reply:
        answer = script[self.relay].popleft() if script[self.relay] else ACCEPTED
        if isinstance(answer, SendError):
            raise answer
        taken[self.relay].append(envelope)
        return answer

    async def close(self) -> None:
        pass
