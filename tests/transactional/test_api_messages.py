from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from campaigns.models import Consent, Contact, MailingList, Subscription
from mailhub.delivery import queue
from mailhub.delivery.models import Event, Message, Suppression
from mailhub.lib import clock
from mailhub.lib.api import cursor
from tests.delivery.world import postgresql_only
from tests.transactional.api import Site
from tests.transactional.test_api_send import MAIL
from transactional import samples
from transactional.api import messages
from transactional.models import Project


def send(site: Site, *recipients: str, **more: Any) -> list[str]:
    """The ids of the messages."""
    answer = site.post("messages", {**MAIL, "to": list(recipients), **more})
    return [row["id"] for row in answer.json()["messages"]]


def pages(site: Site, limit: int, **query: Any) -> list[list[str]]:
    """The recipients, page by page."""
    found = []
    cursor = ""
    while True:
        body = site.get("messages", {"limit": limit, "cursor": cursor, **query}).json()
        found.append([row["to"] for row in body["messages"]])
        if not (cursor := body["next"] or ""):
            return found


def test_messages_come_a_page_at_a_time_the_newest_mail_first(site: Site) -> None:
    send(site, "a@example.net", "b@example.net", "c@example.net")
    send(site, "d@example.net")
    send(site, "e@example.net", "f@example.net")
    everybody = ["e@example.net", "f@example.net", "d@example.net", "a@example.net", "b@example.net", "c@example.net"]
    for limit in range(1, 8):
        found = pages(site, limit)
        assert sum(found, []) == everybody
        assert all(len(page) <= limit for page in found)


def test_messages_are_found_by_what_is_known_of_them(site: Site) -> None:
    send(site, "a@example.net", tags=["order", "vip"], metadata={"order": "7"})
    send(site, "A@example.net", "b@example.net", tags=["orders"])
    old, *_rest = send(site, "c@example.net")
    queue.cancel(Message.objects.filter(public_id=old))
    assert pages(site, 1, to="a@EXAMPLE.net") == [["A@example.net"], ["a@example.net"]]
    assert pages(site, 9, tag="order") == [["a@example.net"]]
    assert pages(site, 9, status="canceled") == [["c@example.net"]]
    assert pages(site, 9, since=(clock.now() + timedelta(hours=1)).isoformat()) == [[]]
    assert sum(pages(site, 2, until=(clock.now() + timedelta(hours=1)).isoformat()), []) != []
    assert sum(pages(site, 1, **{"from": "SHOP@example.com", "tag": "orders"}), []) == ["A@example.net", "b@example.net"]
    assert pages(site, 9, **{"from": "other@example.com"}) == [[]]
    assert pages(site, 9, subject="rde", to="c@example.net") == [["c@example.net"]]
    assert pages(site, 9, subject="tea") == [[]]
    mail = site.get(f"messages/{old}").json()["mail"]
    assert pages(site, 9, mail=mail) == [["c@example.net"]]
    (found,) = site.get("messages", {"tag": "vip"}).json()["messages"]
    assert (found["from"], found["tags"], found["metadata"]) == ("shop@example.com", ["order", "vip"], {"order": "7"})


def test_one_request_looks_through_so_many_mails_for_a_tag_and_the_next_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    send(site, "a@example.net", "b@example.net", tags=["order"])
    for number in range(7):
        send(site, f"c{number}@example.net")
    monkeypatch.setattr(messages, "LOOKED_AT", 3)
    # Of eight mails, each request looks at the next three, and at the one with which the following goes on.
    assert pages(site, 9, tag="order") == [[], [], ["a@example.net", "b@example.net"]]
    assert pages(site, 1, tag="order") == [[], [], ["a@example.net"], ["b@example.net"]]
    assert pages(site, 9, template="none") == [[], [], []]
    assert len(pages(site, 9)) == 1


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 1000}, {"status": "lost"}, {"cursor": "!"}, {"cursor": "W10"}, {"since": "5"}, {"tag": "\0"}]
)
def test_a_search_that_makes_no_sense_is_refused_by_name(site: Site, query: dict[str, Any]) -> None:
    answer = site.get("messages", query)
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, *query)


def test_another_projects_messages_are_none(site: Site) -> None:
    (public_id,) = send(site, "a@example.net")
    other = Site(Project.objects.create(name="Other"))
    assert site.get(f"messages/{public_id}").json()["to"] == "a@example.net"
    for answer in (
        other.get(f"messages/{public_id}"),
        other.post(f"messages/{public_id}/cancel"),
        other.post(f"messages/{public_id}/resend"),
    ):
        assert answer.status_code == 404
    assert other.get("messages").json()["messages"] == []
    assert Message.objects.get().status == "queued"


def test_a_waiting_message_is_withdrawn_once(site: Site) -> None:
    (public_id,) = send(site, "a@example.net")
    first, again = (site.post(f"messages/{public_id}/cancel") for _ in range(2))
    assert (first.status_code, first.json()["status"], again.status_code) == (200, "canceled", 409)
    assert again.json()["type"] == "urn:mailhub:problem:conflict"


def test_a_message_goes_again_to_the_same_or_to_another(site: Site) -> None:
    (public_id,) = send(site, "a@example.net")
    same, other = site.post(f"messages/{public_id}/resend"), site.post(f"messages/{public_id}/resend", {"to": "b@example.net"})
    assert [answer.json()["to"] for answer in (same, other)] == ["a@example.net", "b@example.net"]
    assert len({public_id, same.json()["id"], other.json()["id"]}) == 3
    told = site.get(f"messages/{other.json()['id']}/events").json()["events"]
    assert [(event["type"], event["detail"]) for event in told] == [
        ("queued", f"A copy of the mail to a@example.net, asked for by {site.credential}, 127.0.0.1.")
    ]
    assert site.post(f"messages/{public_id}/resend", {"to": "b@"}).json()["errors"][0]["pointer"] == "#/to"
    Message.objects.get(public_id=public_id).content.__class__.objects.update(raw=None)
    assert site.post(f"messages/{public_id}/resend").status_code == 409


def test_a_message_goes_again_once_however_often_it_is_asked_for_under_one_key(site: Site) -> None:
    Project.objects.update(limit_day=3)
    (public_id,) = send(site, "a@example.net")
    path = f"messages/{public_id}/resend"
    first, again = (site.post(path, {"to": "b@example.net"}, key="again-1") for _time in range(2))
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert Message.objects.count() == 2
    for answer in (site.post(path, {"to": "c@example.net"}, key="again-1"), site.post(path, key="again-1")):
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:mailhub:problem:idempotency-key-reused")
    other = Site(Project.objects.create(name="Other"))
    assert other.post(path, key="again-1").status_code == 404
    # A repetition took nothing of the day's three.
    assert [site.post(path, key=key).status_code for key in ("again-2", "again-3")] == [202, 429]
    assert Message.objects.count() == 3


def test_a_project_sends_nothing_again_from_a_sender_that_it_may_not_use_any_more(site: Site) -> None:
    (public_id,) = send(site, "a@example.net")
    project = Project.objects.get()
    sender = project.senders.get()
    project.senders.clear()
    answer = site.post(f"messages/{public_id}/resend")
    assert (answer.status_code, "may not send from shop@example.com" in answer.json()["detail"]) == (403, True)
    Project.objects.update(from_policy="force", default_sender=sender)
    assert site.post(f"messages/{public_id}/resend").status_code == 202
    sender.disable()
    assert site.post(f"messages/{public_id}/resend").status_code == 403


def test_a_key_of_a_mail_is_none_for_a_copy_of_it(site: Site) -> None:
    answer = site.post("messages", MAIL, key="order-1")
    public_id = answer.json()["messages"][0]["id"]
    assert site.post(f"messages/{public_id}/resend", key="order-1").status_code == 409
    assert Message.objects.count() == 1


def test_events_are_told_in_their_order(site: Site) -> None:
    (public_id,) = send(site, "a@example.net")
    message, now = Message.objects.get(), clock.now()
    for type_, moment in (("bounced", now), ("sent", now - timedelta(seconds=5))):
        Event.objects.create(message=message, type=type_, at=moment, detail="250 OK")
    path = f"messages/{public_id}/events"
    assert [event["type"] for event in site.get(path).json()["events"]] == ["sent", "bounced"]
    first = site.get(path, {"limit": 1}).json()
    second = site.get(path, {"limit": 1, "cursor": first["next"]}).json()
    assert [event["type"] for page in (first, second) for event in page["events"]] == ["sent", "bounced"]
    assert second["next"] is None
    assert site.get(path, {"cursor": cursor(2**62, 1)}).json()["errors"][0]["parameter"] == "cursor"


def test_templates_tell_what_has_to_be_given(site: Site) -> None:
    samples.load()
    listed = site.get("templates").json()["templates"]
    assert {template["key"] for template in listed} >= {"order-confirmation"}
    (one,) = [each for each in site.get("templates/order-confirmation").json()["languages"] if each["language"] == "ja"]
    assert one["version"] == 1
    assert set(one["variables"]) >= {"name"}
    assert site.get("templates/none").status_code == 404
    page = site.get("templates", {"limit": 1}).json()
    further = site.get("templates", {"limit": 9, "cursor": page["next"]}).json()
    assert page["templates"] + further["templates"] == listed
    assert further["next"] is None


def test_statistics_count_what_became_of_the_messages(site: Site) -> None:
    Project.objects.update(limit_day=10)
    first, *_rest = send(site, "a@example.net", "b@example.net")
    site.post(f"messages/{first}/cancel")
    figures = site.get("statistics").json()
    assert (figures["messages"], figures["by_status"]) == (2, {"queued": 1, "canceled": 1})
    assert [(limit["name"], limit["left"]) for limit in figures["limits"]] == [("day", 8)]
    assert site.get("statistics", {"since": "2020-01-01T00:00:00Z"}).status_code == 422


@postgresql_only
def test_statistics_read_the_projects_own_mails_and_nobody_elses(site: Site) -> None:
    send(site, "a@example.net")
    with connection.cursor() as cursor, CaptureQueriesContext(connection) as context:
        site.get("statistics")
        (sql,) = [query["sql"] for query in context.captured_queries if "COUNT" in query["sql"] and "delivery_message" in query["sql"]]
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN (COSTS OFF) {sql}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "using delivery_message_content" in plan and "Seq Scan" not in plan, plan


def test_suppressions_hold_for_the_project_or_for_everybody(site: Site) -> None:
    own = site.post("suppressions", {"email": "A@Example.net", "detail": "asked by telephone"})
    assert (own.status_code, own.json()["holds_for"]) == (201, "project")
    assert site.post("suppressions", {"email": "a@example.net", "holds_for": "everybody"}).json()["holds_for"] == "everybody"
    other = Site(Project.objects.create(name="Other"))
    assert [row["holds_for"] for row in other.get("suppressions").json()["suppressions"]] == ["everybody"]
    assert len(site.get("suppressions/a@example.net").json()["suppressions"]) == 2
    assert [row["holds_for"] for row in site.get("suppressions", {"holds_for": "project"}).json()["suppressions"]] == ["project"]
    assert [len(site.get("suppressions", {"reason": reason}).json()["suppressions"]) for reason in ("manual", "bounce")] == [2, 0]
    assert site.post("suppressions/a@example.net", method="DELETE").status_code == 204
    assert site.post("suppressions/a@example.net", method="DELETE").status_code == 404
    Suppression.objects.update(reason=Suppression.Reason.COMPLAINT)
    assert site.post("suppressions/a@example.net?holds_for=everybody", method="DELETE").status_code == 409
    assert site.get("suppressions", {"limit": 1}).json()["next"] is None


def test_contacts_are_added_and_changed_and_join_lists_with_their_consent(site: Site) -> None:
    news = MailingList.objects.create(name="News")
    first = site.post("contacts", {"email": "Taro@example.jp", "name": "Taro", "attributes": {"city": "京都"}})
    again = site.post("contacts", {"email": "taro@example.jp", "language": "ja"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert (again.json()["name"], again.json()["language"], again.json()["attributes"]) == ("Taro", "ja", {"city": "京都"})
    bad = site.post("contacts", {"email": "taro@example.jp", "attributes": {"for": 1}})
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "#/attributes")
    (listed,) = site.get("lists").json()["lists"]
    Contact.objects.create(email="nobody@example.jp")
    consent = {"email": "taro@example.jp", "basis": "opt_in", "source": "sign-up form", "text": "News, monthly", "ip_address": "192.0.2.1"}
    assert site.post(f"lists/{listed['id']}/subscribe", {**consent, "ip_address": "x"}).status_code == 422
    joined = site.post(f"lists/{listed['id']}/subscribe", consent).json()
    assert [(row["name"], row["status"]) for row in joined["subscriptions"]] == [("News", "subscribed")]
    assert Consent.objects.get().ip_address == "192.0.2.1"
    on_it = {"list": listed["id"]}
    assert [row["email"] for row in site.get("contacts", on_it).json()["contacts"]] == ["taro@example.jp"]
    assert site.get("contacts", {**on_it, "email": "nobody@example.jp"}).json()["contacts"] == []
    assert site.get("contacts", {**on_it, "status": "unsubscribed"}).json() == {"contacts": [], "next": None}
    left = site.post(f"lists/{listed['id']}/unsubscribe", {"email": "taro@example.jp"}).json()
    assert left["subscriptions"][0]["status"] == "unsubscribed"
    assert Subscription.objects.get(list=news).status == "unsubscribed"
    assert Contact.objects.count() == len(site.get("contacts").json()["contacts"]) == 2
    site.post(f"lists/{listed['id']}/subscribe", {**consent, "email": "nobody@example.jp"})
    site.post(f"lists/{listed['id']}/subscribe", consent)
    first = site.get("contacts", {**on_it, "limit": 1}).json()
    second = site.get("contacts", {**on_it, "limit": 1, "cursor": first["next"]}).json()
    assert [row["email"] for page in (first, second) for row in page["contacts"]] == ["nobody@example.jp", "taro@example.jp"]
    assert second["next"] is None
    assert site.get("contacts", {"list": first["contacts"][0]["id"]}).json()["errors"][0]["parameter"] == "list"
