"""The message log's filters by what this package knows, and what a message's page says of where it came from."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from mailhub.delivery import admin as delivery_admin
from mailhub.delivery.models import Message
from mailhub.senders.models import Sender
from tests.delivery.world import postgresql_only
from transactional import pages, sending
from transactional.models import Project, Submission, Template
from transactional.requests import Request


@pytest.fixture
def other(sender: Sender) -> Project:
    project = Project.objects.create(name="Coffee shop")
    project.senders.add(sender)
    return project


@pytest.fixture
def mails(project: Project, other: Project, template: Template) -> None:
    """a: tea, by template; b: coffee, finished and tagged; c: MailHub itself, by template."""
    filled = {"template": template.key, "data": {"name": "Taro", "order": {"number": "R-17"}}}
    finished = {"raw": b"From: shop@example.com\r\nSubject: Beans\r\n\r\n", "tags": ["invoice", "2026"]}
    for name, site, said in (("a", project, filled), ("b", other, finished), ("c", None, filled)):
        request = Request(
            sender="shop@example.com", recipients=[f"{name}@example.net"], via=Submission.Via.API, project=site, origin="key 1, 192.0.2.1", **said
        )  # fmt: skip
        sending.send(request)


def found(client: Client, **asked: object) -> str:
    response = client.get(reverse("admin:delivery_message_changelist"), asked)
    assert response.status_code == 200
    return "".join(sorted(set(re.findall(r"([a-c])@example\.net", response.content.decode()))))


@pytest.mark.usefixtures("mails")
def test_messages_are_found_by_project_template_and_tag(admin_client: Client, project: Project, other: Project) -> None:
    key = "order-confirmation"
    assert found(admin_client) == "abc"
    assert found(admin_client, project=project.pk) == "a"
    assert found(admin_client, project="none") == "c"
    assert found(admin_client, project="x") == found(admin_client, project="9" * 30) == ""
    assert found(admin_client, template=key) == "ac"
    assert found(admin_client, template=key, project=project.pk) == "a"
    assert found(admin_client, tag="invoice") == "b"
    assert found(admin_client, tag="voice") == ""
    assert found(admin_client, tag="2026", project=other.pk, state="waiting", subject="bean") == "b"
    assert found(admin_client, project=other.pk, subject="bean") == "b" and found(admin_client, project=project.pk, subject="bean") == ""
    assert found(admin_client, project=other.pk, q="b@") == "b" and found(admin_client, project=other.pk, q="a@") == ""


@pytest.mark.usefixtures("mails")
def test_dates_reach_past_the_newest(admin_client: Client, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_admin, "MOST_FOUND", 1)
    sending.send(
        Request(sender="shop@example.com", recipients=["b@example.net"], via="api", project=project, raw=b"From: shop@example.com\r\n\r\n")
    )
    assert found(admin_client, project=project.pk) == "b"
    past = timezone.now() - timedelta(days=9)
    old = Message.objects.get(address="a@example.net")
    Submission.objects.filter(content=old.content_id).update(accepted_at=past)
    Message.objects.filter(pk=old.pk).update(created_at=past)
    assert found(admin_client, project=project.pk, until=timezone.localdate(past).isoformat()) == "a"


@pytest.mark.usefixtures("mails")
def test_a_message_tells_from_whom_it_came(admin_client: Client) -> None:
    message = Message.objects.get(address="a@example.net")
    shown = admin_client.get(reverse("admin:delivery_message_change", args=[message.pk])).content.decode()
    for words in ("By HTTP API, from Tea shop.", "Template order-confirmation, version 1.", "key 1, 192.0.2.1"):
        assert words in shown, words


@postgresql_only
@pytest.mark.django_db
def test_a_projects_and_a_templates_mails_are_found_by_their_indexes(project: Project) -> None:
    newest = Submission.objects.order_by("-pk")
    with connection.cursor() as cursor:
        # Of tables as small as these it would rather read all.
        cursor.execute("SET LOCAL enable_seqscan = off")
    for rows, index in (
        (newest.filter(project=project), "transactional_submission_of"),
        (newest.exclude(template="").filter(template="order-confirmation"), "transactional_submission_by"),
    ):
        plan = rows.values("content")[:1000].explain()
        assert f"Index Scan Backward using {index}" in plan and "Sort" not in plan, plan
    # A subject is looked for among so many of them; each by its key.
    asked = RequestFactory().get("/", {"project": project.pk, "subject": "bean"})
    asked.user = User(is_superuser=True, is_active=True)
    with CaptureQueriesContext(connection) as context:
        admin.site.get_model_admin(Message).get_changelist_instance(asked)
    looked = [query["sql"] for query in context.captured_queries if "LIKE UPPER" in query["sql"]]
    assert looked
    with connection.cursor() as cursor:
        for sql in looked:
            cursor.execute("EXPLAIN (COSTS OFF) " + sql.replace("%", "%%"), [])
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert "using transactional_submission_of" in plan and "using delivery_content_pkey" in plan and "Seq Scan" not in plan, plan
    with CaptureQueriesContext(connection) as context:
        pages.fates(project)
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (COSTS OFF) " + context.captured_queries[0]["sql"].replace("%", "%%"), [])
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "using transactional_submission_of" in plan and "using delivery_message_content" in plan and "Seq Scan" not in plan, plan
