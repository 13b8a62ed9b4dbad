from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import transaction
from django_q.models import OrmQ

from mailhub.lib import tasks

Capture = Callable[..., object]


def test_a_task_is_put_once_the_transaction_has_committed(db: None, django_capture_on_commit_callbacks: Capture) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        tasks.enqueue("mailhub.delivery.tasks.drain", 7, queue="bulk")
        assert not OrmQ.objects.exists()
    row = OrmQ.objects.get()
    task = row.task
    assert (row.key, task["func"], task["args"]) == ("bulk", "mailhub.delivery.tasks.drain", (7,))


def test_a_rollback_takes_it_back(db: None, django_capture_on_commit_callbacks: Capture) -> None:
    with django_capture_on_commit_callbacks(execute=True), pytest.raises(ZeroDivisionError), transaction.atomic():
        tasks.enqueue("mailhub.delivery.tasks.drain", 7, queue="bulk")
        raise ZeroDivisionError
    assert not OrmQ.objects.exists()


@pytest.mark.parametrize("queue", ["transactional", "bulk", "maintenance"])
def test_each_queue_has_its_own_tasks(db: None, django_capture_on_commit_callbacks: Capture, queue: tasks.Queue) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        tasks.enqueue("mailhub.delivery.tasks.tick", queue=queue)
    assert OrmQ.objects.get().key == queue


def test_who_cannot_be_woken_is_no_reason_to_refuse_mail(
    db: None, django_capture_on_commit_callbacks: Capture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*args: object, **kwargs: object) -> None:
        raise ConnectionError("Redis is away")

    monkeypatch.setattr(tasks, "async_task", away)
    with django_capture_on_commit_callbacks(execute=True):
        tasks.enqueue("mailhub.delivery.tasks.drain", 7, queue="bulk")
    assert "no wake-up for mailhub.delivery.tasks.drain (7,)" in caplog.text
