from __future__ import annotations

from datetime import timedelta

import pytest
from pytest_django import Settings

from mailhub.delivery import retention as delivery_retention
from mailhub.delivery.models import Content, Message
from mailhub.lib import clock
from mailhub.senders.models import Sender
from transactional import retention, sending, tasks
from transactional.models import Project, Resend, Submission
from transactional.requests import Request


def send(days: int, *recipients: str, status: str = "sent") -> Submission:
    """Accepted so many days ago."""
    raw = b"From: shop@example.com\r\nSubject: Tea\r\n\r\nBody\r\n"
    submission = sending.send(
        Request(sender="shop@example.com", recipients=recipients or ["a@example.net"], via=Submission.Via.API, raw=raw)
    )
    at = clock.now() - timedelta(days=days)
    Submission.objects.filter(pk=submission.pk).update(accepted_at=at)
    submission.content.messages.update(created_at=at, status=status)
    return submission


def test_a_submission_and_its_content_are_forgotten_once_their_messages_are(
    sender: Sender, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAILHUB_KEEP_MESSAGES_DAYS = 20
    monkeypatch.setattr(retention, "GROUP", 2)
    old = [send(21), send(22, "a@example.net", "b@example.net"), send(30)]
    kept = [send(25, status="queued"), send(24, status="deferred"), send(19), send(0)]
    before = clock.now() - timedelta(days=20)
    # Its messages are forgotten first.
    tasks.prune()
    assert Submission.objects.count() == Content.objects.count() == 7
    assert delivery_retention.forget_messages(before) == 4
    assert retention.forget_submissions(before) == len(old)
    assert list(Submission.objects.order_by("pk")) == kept
    assert set(Content.objects.all()) == {submission.content for submission in kept}
    assert {message.content_id for message in Message.objects.all()} == {submission.content_id for submission in kept}
    assert retention.forget_submissions(before) == 0


def test_part_of_a_submissions_messages_keeps_it(sender: Sender) -> None:
    submission = send(30, "a@example.net", "b@example.net")
    submission.content.messages.filter(address="b@example.net").update(status="queued")
    before = clock.now() - timedelta(days=20)
    assert delivery_retention.forget_messages(before) == 1
    assert retention.forget_submissions(before) == 0
    assert submission.content.messages.exists()


def test_a_key_for_sending_again_is_forgotten_with_the_messages(sender: Sender, settings: Settings) -> None:
    settings.MAILHUB_KEEP_MESSAGES_DAYS = 20
    project = Project.objects.create(name="Tea shop")
    for days in (19, 21):
        Resend.objects.create(project=project, idempotency_key=str(days), made_at=clock.now() - timedelta(days=days))
    tasks.prune()
    assert Resend.objects.get().idempotency_key == "19"
