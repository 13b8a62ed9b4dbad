"""What every provider must do, whatever it speaks. A provider's test subclasses Contract and says how its outside is made to behave."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Sequence
from itertools import zip_longest
from typing import ClassVar, TypeVar

import pytest
from asgiref.sync import async_to_sync
from django import forms

from mailhub.relays import providers
from mailhub.relays.base import Deferred, Envelope, OutcomeUnknown, Pipelined, Provider, Refused, RelayDown, Reply, SendError, Session
from mailhub.relays.models import Relay
from tests.installation import LONG
from tests.patience import Clock

T = TypeVar("T")

DECISIONS: dict[str, type[SendError]] = {"refuse": Refused, "defer": Deferred, "down": RelayDown, "unknown": OutcomeUnknown}


def envelope(number: int = 1, **changes: object) -> Envelope:
    data = f"From: a@example.com\r\nMessage-ID: <{number}@example.com>\r\nSubject: =?utf-8?b?5pel5pys?=\r\n\r\nHello\r\n.dot\r\n".encode()
    fields = {"message": number, "mail_from": f"b+{number}@example.com", "rcpt_to": f"r{number}@example.net", "data": data, **changes}
    return Envelope(**fields)


CLOCK = Clock()


def run(function: Callable[[], Awaitable[T]]) -> T:
    """In an event loop as a drain has it: what asks the database does so in this thread. CLOCK rules it. Ends when something hangs."""

    async def bounded() -> T:
        task = asyncio.current_task()
        assert task
        # By a time that nobody puts forward.
        bound = threading.Timer(LONG, asyncio.get_running_loop().call_soon_threadsafe, [task.cancel])
        bound.start()
        try:
            with CLOCK.ruling():
                return await function()
        finally:
            bound.cancel()

    return async_to_sync(bounded)()


def hand_over(provider: Provider, *envelopes: Envelope, announced: bool = True) -> list[Reply | SendError]:
    """One after the other, as the engine does: on one session while it is not spent, and each announced while the one before is on its way.
    The outcomes, in the mails' order."""

    async def drain() -> list[Reply | SendError]:
        session: Session | None = None
        outcomes: list[Reply | SendError] = []
        for item, following in zip_longest(envelopes, envelopes[1:]):
            if session is not None and session.spent:
                await session.close()
                session = None
            try:
                session = session or await provider.open()
                if announced and following and isinstance(session, Pipelined):
                    session.announce(following)
                outcomes.append(await session.send(item))
            except SendError as error:
                outcomes.append(error)
            await asyncio.sleep(0.01)
        if session is not None:
            await session.close()
        return outcomes

    return run(drain)


class Contract:
    #: as in providers.REGISTRY
    kind: ClassVar[str]
    #: what the options form is filled with, secrets included
    answers: ClassVar[dict[str, object]] = {}
    #: keys of DECISIONS that arrange() knows
    decisions: ClassVar[frozenset[str]] = frozenset()

    @pytest.fixture
    def relay(self) -> Relay:
        """A relay that accepts whatever comes."""
        raise NotImplementedError

    def arrange(self, decision: str, relay: Relay) -> None:
        """The next mail meets this."""
        raise NotImplementedError

    def taken(self, relay: Relay) -> Sequence[tuple[str, str, bytes]]:
        """Envelope sender, recipient and bytes of each mail that arrived."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "decision" in metafunc.fixturenames:
            metafunc.parametrize("decision", sorted(self.decisions))

    # -- the class

    def test_it_is_registered_and_has_a_name_for_staff(self) -> None:
        assert str(providers.load(self.kind).label)
        assert self.kind in dict(providers.choices())

    def test_its_form_takes_sound_answers_and_all_but_the_secrets_can_be_stored_as_options(self) -> None:
        provider = providers.load(self.kind)
        form = provider.options_form(self.answers)
        assert isinstance(form, forms.Form)
        assert form.is_valid(), form.errors
        options = {name: value for name, value in form.cleaned_data.items() if name not in provider.secret_options}
        assert json.loads(json.dumps(options)) == options
        assert providers.load(self.kind)(Relay(kind=self.kind, options=options, secrets={}))

    def test_its_secrets_are_fields_of_its_form(self) -> None:
        provider = providers.load(self.kind)
        assert provider.secret_options <= set(provider.options_form().fields)

    # -- a session

    def test_a_mail_arrives_as_it_was_handed_over(self, relay: Relay) -> None:
        sent = envelope(7)
        [reply] = hand_over(relay.provider(), sent)
        assert isinstance(reply, Reply)
        assert self.taken(relay) == [(sent.mail_from, sent.rcpt_to, sent.data)]

    def test_mails_follow_each_other_on_one_session(self, relay: Relay) -> None:
        outcomes = hand_over(relay.provider(), *map(envelope, range(5)))
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        assert [recipient for _sender, recipient, _data in self.taken(relay)] == [f"r{number}@example.net" for number in range(5)]

    def test_a_new_session_is_not_spent(self, relay: Relay) -> None:
        async def look() -> bool:
            session = await relay.provider().open()
            try:
                return session.spent
            finally:
                await session.close()

        assert run(look) is False

    def test_what_is_not_accepted_is_told_by_its_exception_and_the_next_mail_goes(self, relay: Relay, decision: str) -> None:
        self.arrange(decision, relay)
        first, second = hand_over(relay.provider(), envelope(1), envelope(2))
        assert type(first) is DECISIONS[decision]
        assert isinstance(second, Reply)
        assert "r2@example.net" in [recipient for _sender, recipient, _data in self.taken(relay)]

    def test_closing_twice_does_no_harm(self, relay: Relay) -> None:
        async def close() -> None:
            session = await relay.provider().open()
            await session.close()
            await session.close()

        run(close)

    def test_several_sessions_stand_side_by_side(self, relay: Relay) -> None:
        async def side_by_side() -> list[Reply]:
            provider = relay.provider()
            sessions = [await provider.open() for _ in range(3)]
            replies = await asyncio.gather(*(session.send(envelope(number)) for number, session in enumerate(sessions)))
            for session in sessions:
                await session.close()
            return replies

        assert len(run(side_by_side)) == 3
        assert len(self.taken(relay)) == 3
