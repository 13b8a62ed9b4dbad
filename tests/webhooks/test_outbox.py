"""Events whose transactions overlap: one with a smaller key may be seen later, and must not be skipped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from django.db import connection, transaction

from mailhub.delivery.models import Message
from mailhub.webhooks import outbox, posting
from mailhub.webhooks.models import Endpoint
from tests.delivery.world import postgresql_only
from tests.installation import LONG, until
from tests.webhooks.conftest import happen
from tests.webhooks.receiver import Receiver

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def written_and_not_committed(message: Message, *types: str) -> Iterator[Future[list[int]]]:
    """In another connection, whose transaction ends with the block."""
    written, go = threading.Event(), threading.Event()

    def run() -> list[int]:
        try:
            with transaction.atomic():
                keys = happen(message, *types)
                written.set()
                assert go.wait(LONG)
            return keys
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(run)
        assert written.wait(LONG)
        try:
            yield future
        finally:
            go.set()


@postgresql_only
def test_what_commits_late_is_waited_for_and_told_in_its_order(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    with written_and_not_committed(message, "sent") as early:
        late = happen(message, "delivered")
        assert endpoint.cursor < late[0]
        with ThreadPoolExecutor(1) as threads:
            posted = threads.submit(posting_elsewhere)
            until(lambda: Endpoint.objects.get().lease)
            assert receiver.heard == []
        # The thread above has had its WRITERS seconds in vain.
        posted.result(LONG)
        assert receiver.heard == []
        assert Endpoint.objects.get().cursor == endpoint.cursor
    posting.post_due()
    assert receiver.keys == early.result(LONG) + late
    assert receiver.keys == sorted(receiver.keys)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "WRITERS", 0.3)


def posting_elsewhere() -> None:
    try:
        posting.post_due()
    finally:
        connection.close()


@postgresql_only
def test_a_writer_that_takes_its_time_holds_nobody_up_for_longer(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    """While it writes, others come and go: only those that were there when the mark was set are waited for."""
    with written_and_not_committed(message, "sent") as first:
        upto, writers = outbox.mark()
        assert len(writers) == 1
    keys = first.result(LONG)
    with written_and_not_committed(message, "delivered"):
        assert not writers & outbox.writers()
        assert outbox.read(keys[0] - 1, keys[-1], outbox.Filter()).keys == keys


@postgresql_only
def test_a_transaction_that_was_rolled_back_is_not_waited_for(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        happen(message, "sent")
        raise ZeroDivisionError
    keys = happen(message, "delivered")
    posting.post_due()
    assert receiver.keys == keys


def test_many_writers_at_once_are_told_each_once_and_in_order(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    """Four write, and two post meanwhile."""
    over = threading.Event()
    writers, rounds = 4, 25

    def write() -> list[int]:
        try:
            return [key for _round in range(rounds) for key in happen(message, "opened", "clicked")]
        finally:
            connection.close()

    def post() -> None:
        try:
            while not over.is_set():
                posting.post_due()
        finally:
            connection.close()

    with ThreadPoolExecutor(writers + 2) as threads:
        posters = [threads.submit(post) for _ in range(2)]
        try:
            written = [key for done in [threads.submit(write) for _ in range(writers)] for key in done.result(LONG)]
        finally:
            over.set()
        for poster in posters:
            poster.result(LONG)
    while posting.is_due():
        posting.post_due()
    assert receiver.keys == sorted(written)
