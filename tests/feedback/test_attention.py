"""What needs a person is seen at once: in the side bar, on the bounce page and above the list of incoming mails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from mailhub import dashboard
from mailhub.delivery import throughput
from mailhub.feedback import attention
from mailhub.feedback.models import Callback, CallbackURL, IncomingMail, Mailbox, ParkedReport
from tests.delivery.world import make_relay, postgresql_only

pytestmark = pytest.mark.django_db
NOW = timezone.now


def url() -> CallbackURL:
    return CallbackURL.objects.first() or CallbackURL.objects.create(relay=make_relay("Main"), service="postmark", last_at=NOW())


def mail(name: str, status: str = "unmatched") -> IncomingMail:
    return IncomingMail(digest=name, source="mailbox", status=status, size=1, received_at=NOW())


def parked(name: str, status: str = "kept") -> ParkedReport:
    return ParkedReport(url=url(), status=status, why="unknown", type="bounced", at=NOW(), source=name, received_at=NOW())


def stuck(name: str, status: str = "stuck") -> Callback:
    return Callback(url=url(), digest=name, body_digest=name, status=status, size=1, received_at=NOW())


def refused() -> None:
    CallbackURL.objects.filter(pk=url().pk).update(refused_at=NOW(), refused=1, refused_why="signature")


def closed() -> None:
    Mailbox.objects.create(name="Bounces", host="imap.example.net", username="b", problem="Login failed")


# What there is, the words of it, and how many the side bar counts.
NEEDS: dict[str, tuple[Callable[[], Any], str, int]] = {
    "mails": (lambda: mail("a").save(), "1 mail came back that could not be matched", 1),
    "parked": (lambda: parked("a").save(), "1 event was told by services", 1),
    "stuck": (lambda: stuck("a").save(), "1 callback was set aside", 1),
    "refused": (refused, "The last callback for the relay “Main” was refused.", 0),
    "closed": (closed, "The mailbox “Bounces” cannot be looked into as it should be: Login failed", 0),
}


def seen(client: Client) -> list[str]:
    return [client.get(reverse(f"admin:{name}_changelist")).content.decode() for name in ("returns_count", "feedback_incomingmail")]


@pytest.mark.parametrize("what", NEEDS)
def test_what_needs_a_person_is_seen_at_once(what: str, admin_client: Client, admin_user: User) -> None:
    make, words, number = NEEDS[what]
    mail("n", "applied").save()
    parked("n", "waiting").save()
    stuck("n", "done").save()
    assert not any(words in page for page in seen(admin_client))
    make()
    assert all(words in page for page in seen(admin_client))
    request = RequestFactory().get("/")
    request.user = admin_user
    counts = dashboard.counts(request)
    assert (counts["feedback.IncomingMail"].number if number else None) == ("1" if number else None)
    assert ("feedback.Mailbox" in counts) == (what == "closed")


@pytest.mark.parametrize(
    ("heard", "taken", "words"),
    [
        (timedelta(days=3), 600, "has not called back since"),
        (None, 600, "has never called back"),
        (timedelta(hours=3), 600, ""),
        # Perhaps nothing was worth a word.
        (timedelta(days=3), 100, ""),
    ],
)
def test_a_service_that_does_not_call_back_any_more_is_told(heard: timedelta | None, taken: int, words: str, admin_client: Client) -> None:
    one = url()
    CallbackURL.objects.update(created_at=NOW() - timedelta(days=30), last_at=heard and NOW() - heard)
    hour = throughput.hour_of(NOW() - timedelta(hours=30))
    for relay, number in ((one.relay_id, taken), (one.relay_id + 1, 10_000)):
        throughput.add({(hour, relay, "other", "", "campaign"): Counter(accepted=number)})
    page = seen(admin_client)[0]
    assert ("called back" in page) == bool(words)
    assert words in page


def test_nobody_hears_of_what_they_may_not_look_at(client: Client) -> None:
    for make, _words, _number in NEEDS.values():
        make()
    user = User.objects.create_user("eve", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_count"))
    client.force_login(user)
    page = client.get(reverse("admin:returns_count_changelist")).content.decode()
    assert not any(words in page for _make, words, _number in NEEDS.values())


def test_a_service_that_was_let_in_again_needs_nobody() -> None:
    refused()
    assert list(attention.refused()) == [url()]
    CallbackURL.objects.update(last_at=NOW())
    assert not attention.refused()


@postgresql_only
def test_what_needs_a_person_is_counted_by_its_indexes() -> None:
    IncomingMail.objects.bulk_create(mail(str(n), "applied" if n % 100 else "unmatched") for n in range(5_000))
    ParkedReport.objects.bulk_create(parked(str(n), "applied" if n % 100 else "kept") for n in range(5_000))
    Callback.objects.bulk_create(stuck(str(n), "done" if n % 100 else "stuck") for n in range(5_000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE feedback_incomingmail; ANALYZE feedback_parkedreport; ANALYZE feedback_callback")
    for rows, index in (
        (attention.mails(), "feedback_incoming_open"),
        (attention.parked(), "feedback_parked_kept"),
        (attention.stuck(), "feedback_callback_stuck"),
    ):
        assert index in rows[: attention.MANY].explain()
