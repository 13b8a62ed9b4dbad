from __future__ import annotations

from collections.abc import Sequence

import pytest

from mailhub.relays.base import Deferred, Fault, OutcomeUnknown, Refused, RelayDown, Reply
from mailhub.relays.models import Relay
from mailhub.relays.providers import memory
from tests.relays.contract import Contract, envelope, hand_over

SAID = Reply(450, "4.2.0", "as the script says")


class TestMemory(Contract):
    kind = "memory"
    decisions = frozenset({"refuse", "defer", "down", "unknown"})

    @pytest.fixture
    def relay(self) -> Relay:
        return Relay(pk=1, kind="memory")

    def arrange(self, decision: str, relay: Relay) -> None:
        errors = {"refuse": Refused(SAID, Fault.POLICY), "defer": Deferred(SAID), "down": RelayDown(SAID), "unknown": OutcomeUnknown(SAID)}
        memory.script[relay.pk].append(errors[decision])

    def taken(self, relay: Relay) -> Sequence[tuple[str, str, bytes]]:
        return [(mail.mail_from, mail.rcpt_to, mail.data) for mail in memory.taken[relay.pk]]

    def test_it_answers_with_the_scripts_reply_and_keeps_the_mail(self, relay: Relay) -> None:
        memory.script[relay.pk].append(Reply(250, "2.1.5", "thank you"))
        assert hand_over(relay.provider(), envelope()) == [Reply(250, "2.1.5", "thank you")]
        assert len(self.taken(relay)) == 1

    def test_relays_do_not_see_each_others_mail_or_script(self, relay: Relay) -> None:
        other = Relay(pk=2, kind="memory")
        self.arrange("refuse", other)
        [reply] = hand_over(relay.provider(), envelope())
        assert reply == memory.ACCEPTED
        assert self.taken(other) == []
