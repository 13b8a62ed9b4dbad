from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from mailhub.delivery.models import Event, Message
from mailhub.delivery.search import Span
from mailhub.lib import clock
from tests.delivery.world import postgresql_only
from transactional import sending, subjects
from transactional.models import Project, Submission, Template
from transactional.requests import Request

pytestmark = pytest.mark.django_db
EVERYTHING = Span()


def hand_in(project: Project | None, *recipients: str, template: str = "", subject: str = "") -> list[Message]:
    request = Request(sender="shop@example.com", recipients=recipients, via=Submission.Via.API, project=project)
    if template:
        request = replace(request, template=template, data={"name": "Taro", "order": {"number": "R-17"}})
    else:
        request = replace(request, raw=f"From: shop@example.com\r\nSubject: {subject}\r\n\r\nx\r\n".encode())
    return list(sending.send(request).content.messages.order_by("pk"))


def as_(message: Message, status: str, *happened: str, kind: str = "") -> None:
    Message.objects.filter(pk=message.pk).update(status=status)
    for type in happened:
        Event.objects.create(message=message, type=type, at=clock.now(), kind=kind)


@pytest.fixture
def world(project: Project, template: Template) -> Project:
    first, second, third = hand_in(project, "a@example.net", "b@example.net", "c@example.net", template=template.key)
    as_(first, "delivered", "opened", "opened", "clicked")
    as_(second, "sent", "opened", kind="machine")
    as_(third, "bounced", "bounced", kind="hard")
    as_(hand_in(project, "d@example.net", template=template.key)[0], "failed")
    as_(hand_in(project, "e@example.net", subject="Hello")[0], "complained", "opened")
    hand_in(None, "f@example.net", subject="Hello")
    return project


def shown(found: subjects.Found) -> list[tuple[object, ...]]:
    return [(g.project_name, g.template, g.subject, g.mails, g.sent, g.lost, g.opened, g.clicked) for g in found.groups]


def test_mails_are_counted_by_project_and_template_or_else_subject(world: Project) -> None:
    found = subjects.look(EVERYTHING)
    assert shown(found) == [
        ("Tea shop", "order-confirmation", "", 4, 2, 2, 1, 1),
        ("", "", "Hello", 1, 0, 0, 0, 0),
        ("Tea shop", "", "Hello", 1, 1, 0, 1, 0),
    ]
    assert (found.more, found.back_to) == (0, None)
    assert [group.project for group in subjects.look(EVERYTHING, world.pk).groups] == [world.pk, world.pk]


def test_only_the_days_that_are_asked_for_are_counted(world: Project) -> None:
    old = Submission.objects.order_by("pk").first()
    assert old
    Submission.objects.filter(pk=old.pk).update(accepted_at=clock.now() - timedelta(days=10))
    today = timezone.localdate().isoformat()
    assert shown(subjects.look(Span.of_days(today, today)))[0][:4] == ("", "", "Hello", 1)


def test_it_says_how_far_it_looks(world: Project, monkeypatch: pytest.MonkeyPatch, admin_client: Client) -> None:
    monkeypatch.setattr(subjects, "LOOKED_AT", 4)
    assert subjects.look(EVERYTHING).back_to is None
    monkeypatch.setattr(subjects, "LOOKED_AT", 2)
    monkeypatch.setattr(subjects, "SHOWN", 1)
    found = subjects.look(EVERYTHING)
    assert sum(group.mails for group in found.groups) == 1 and found.more == 1
    assert found.back_to == Submission.objects.order_by("-pk")[1].accepted_at
    page = admin_client.get(reverse("admin:transactional_submission_subjects")).content.decode()
    assert "The newest 2 submissions of these days are counted, back to" in page and "1 more subject is not shown" in page


def test_the_page_leads_to_the_mails_and_is_led_to(world: Project, admin_client: Client) -> None:
    path = reverse("admin:transactional_submission_subjects")
    page = admin_client.get(path, {"project": world.pk}).content.decode()
    today = timezone.localdate()
    link = f"?project={world.pk}&amp;template=order-confirmation&amp;since={today - timedelta(days=6)}&amp;until={today}"
    assert link in page and "50.0 %" in page
    assert "Hello" in admin_client.get(reverse("admin:delivery_message_changelist") + f"?project={world.pk}&subject=Hello").content.decode()
    assert f"{path}?project={world.pk}" in admin_client.get(reverse("admin:transactional_project_change", args=[world.pk])).content.decode()
    assert path in admin_client.get(reverse("admin:transactional_submission_changelist")).content.decode()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"since": "2026-03-02", "until": "2026-03-01"}, "The last day is before the first."),
        ({"since": "yesterday"}, "errorlist"),
        ({"project": "9" * 30}, "errorlist"),
        ({"since": "0001-01-01", "until": "9999-12-31"}, "order-confirmation"),
        ({"since": "2020-01-01", "until": "2020-01-02"}, "Nothing was handed in on these days"),
    ],
)
def test_days_that_make_no_sense_are_said_to(world: Project, admin_client: Client, asked: dict[str, str], words: str) -> None:
    response = admin_client.get(reverse("admin:transactional_submission_subjects"), asked)
    assert response.status_code == 200 and words in response.content.decode()


def test_who_may_not_see_mails_does_not_see_what_became_of_them(client: Client) -> None:
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_submission"))
    client.force_login(user)
    assert client.get(reverse("admin:transactional_submission_subjects")).status_code == 403


@postgresql_only
def test_what_it_counts_is_found_by_indexes(world: Project) -> None:
    with connection.cursor() as cursor:
        # Of tables as small as these it would rather read all.
        cursor.execute("SET LOCAL enable_seqscan = off")
    with CaptureQueriesContext(connection) as context:
        subjects.look(EVERYTHING, world.pk)
    counted = [query["sql"] for query in context.captured_queries if "COUNT" in query["sql"]]
    assert len(counted) == 2
    with connection.cursor() as cursor:
        for sql in counted:
            cursor.execute("EXPLAIN (COSTS OFF) " + sql.replace("%", "%%"), [])
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert "transactional_submission_of" in plan and "delivery_message_content" in plan, plan
            assert "Seq Scan on delivery_message" not in plan and "Seq Scan on delivery_event" not in plan, plan
