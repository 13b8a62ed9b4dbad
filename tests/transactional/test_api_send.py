from __future__ import annotations

import base64
import email
import json
from datetime import timedelta
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext

from mailhub.delivery import prepare
from mailhub.delivery.models import Message
from mailhub.lib import clock
from mailhub.lib.api import Scope
from tests.transactional.api import Site
from transactional.api.access import Rates
from transactional.models import Credential, Submission, Template

MAIL: dict[str, Any] = {"from": "shop@example.com", "to": ["a@example.net"], "subject": "Order", "text": "Thank you."}


def sent(answer: HttpResponse) -> EmailMessage:
    """The mail of the first recipient, as it will leave."""
    assert answer.status_code == 202, answer.content
    message = Message.objects.get(public_id=answer.json()["messages"][0]["id"])
    return email.message_from_bytes(prepare.Compiled(message.content).envelope(message).data, policy=default)  # type: ignore[return-value]


def test_a_mail_is_queued_for_each_recipient(site: Site) -> None:
    answer = site.post("messages", {**MAIL, "to": ["a@example.net", {"email": "b@EXAMPLE.net", "name": "B"}], "bcc": ["c@example.net"]})
    body = answer.json()
    assert [row["to"] for row in body["messages"]] == ["a@example.net", "b@example.net", "c@example.net"]
    assert {row["status"] for row in body["messages"]} == {"queued"}
    mail = sent(answer)
    assert (mail["From"], mail["To"], mail["Bcc"]) == ("緑茶堂 <shop@example.com>", "a@example.net, B <b@example.net>", None)
    assert mail.get_content() == "Thank you.\r\n"
    submission = Submission.objects.get()
    assert str(submission.content.public_id) == body["id"]
    assert submission.via == Submission.Via.API


def test_all_that_a_mail_may_have_arrives_in_it(site: Site) -> None:
    picture, paper = b"\x89PNG\r\n\x1a\n\0picture", "領収書".encode() * 100
    mail = sent(
        site.post(
            "messages",
            {
                "from": "Tea & Co. <shop@example.com>",
                "to": ["山田太郎 <a@example.net>"],
                "cc": ["b@example.net"],
                "reply_to": ["help@example.net"],
                "subject": "ご注文 {{ no placeholder }}",
                "html": '<p>ありがとう</p><img src="cid:logo">',
                "headers": {"X-Shop": "7", "Auto-Submitted": "no"},
                "attachments": [
                    {
                        "filename": "logo.png",
                        "content": base64.b64encode(picture).decode(),
                        "content_type": "image/png",
                        "content_id": "logo",
                    },
                    {"filename": "領収書 1.pdf", "content": base64.b64encode(paper).decode(), "content_type": "application/pdf"},
                ],
                "tags": ["order"],
                "metadata": {"order": "7"},
            },
        )
    )
    assert mail["Subject"] == "ご注文 {{ no placeholder }}"
    assert (mail["To"], mail["Cc"], mail["Reply-To"]) == ("山田太郎 <a@example.net>", "b@example.net", "help@example.net")
    assert (mail["X-Shop"], mail["Auto-Submitted"]) == ("7", "no")
    assert mail.get_body(("plain",)).get_content().strip() == "ありがとう"  # type: ignore[union-attr]
    assert "cid:logo" in mail.get_body(("html",)).get_content()  # type: ignore[union-attr]
    (beside,) = mail.iter_attachments()
    assert (beside.get_filename(), beside.get_content()) == ("領収書 1.pdf", paper)
    (shown,) = [part for part in mail.walk() if part["Content-ID"]]
    assert (shown["Content-ID"], shown.get_content()) == ("<logo>", picture)
    submission = Submission.objects.get()
    assert (submission.labels, submission.metadata) == (["order"], {"order": "7"})


@pytest.mark.parametrize("more", [{}, {"attachments": [{"filename": "a.txt", "content": "aGk=", "content_type": "text/plain"}]}])
def test_a_template_is_filled_in(site: Site, template: Template, more: dict[str, Any]) -> None:
    asked = {"from": "shop@example.com", "to": ["Taro <a@example.net>"], "template": template.key}
    mail = sent(site.post("messages", {**asked, "variables": {"name": "Taro", "order": {"number": "R-1"}}, **more}))
    assert mail["Subject"] == "Order R-1"
    assert "Dear Taro, R-1" in mail.get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert len(list(mail.iter_attachments())) == len(more)
    refusal = site.post("messages", {**asked, **more})
    assert (refusal.status_code, refusal.json()["errors"][0]["pointer"]) == (422, "#/variables")


@pytest.mark.parametrize("opens", [True, False])
def test_opens_and_clicks_are_tracked_where_the_site_asks_for_it(site: Site, opens: bool) -> None:
    html = '<p title="{{ a }}">{{ b }} {% c %}</p><a href="https://shop.example/7">Look</a>'
    asked = {**MAIL, "to": ["Taro <a@example.net>"], "subject": "{{ d }}", "html": html, "headers": {"X-Shop": "7"}, "track_clicks": True}
    mail = sent(site.post("messages", {**asked, "track_opens": opens}))
    said = mail.get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert ('width="1"' in said) is opens
    assert "https://shop.example/7" not in said
    assert '<p title="{{ a }}">{{ b }} {% c %}</p>' in said
    assert (mail["Subject"], mail["To"], mail["X-Shop"]) == ("{{ d }}", "Taro <a@example.net>", "7")
    assert site.post("messages", {**asked, "headers": {"Bcc": "x"}}).status_code == 422


def test_a_mail_for_later_waits_until_then(site: Site) -> None:
    later = clock.now() + timedelta(days=5)
    site.post("messages", {**MAIL, "send_at": later.isoformat()})
    message = Message.objects.get()
    assert message.next_attempt_at == later
    assert message.expires_at > later


@pytest.mark.parametrize(
    ("change", "status", "pointer"),
    [
        ({"from": "other@example.com"}, 403, "#/from"),
        ({"to": ["a@example.net", "b@"]}, 422, "#/to/1"),
        ({"to": ["no address at all, indeed"]}, 422, "#/to/0"),
        ({"to": []}, 422, "#/to"),
        ({"cc": ["c@example.net", "d@-"]}, 422, "#/cc/1"),
        ({"bcc": ["d@-"]}, 422, "#/bcc/0"),
        ({"reply_to": ["d@-"]}, 422, "#/reply_to/0"),
        ({"too": ["a@example.net"]}, 422, "#/too"),
        ({"text": ""}, 422, "#/text"),
        ({"subject": "two\nlines"}, 422, "#/subject"),
        ({"headers": {"Bcc": "x@example.net"}}, 422, "#/headers/Bcc"),
        ({"headers": {"X-A/B": "x\r\nBcc: y@example.net"}}, 422, "#/headers/X-A~1B"),
        ({"attachments": [{"content": "???"}]}, 422, "#/attachments/0/content"),
        ({"attachments": [{"content": "aGk=", "content_type": "nonsense"}]}, 422, "#/attachments/0/content_type"),
        ({"attachments": [{"content": "aGk=", "filename": "a\r\nb"}]}, 422, "#/attachments/0/filename"),
        ({"template": "missing", "subject": "", "text": ""}, 422, "#/template"),
        ({"send_at": "2030-01-01"}, 422, "#/send_at"),
        ({"send_at": 1_900_000_000}, 422, "#/send_at"),
        ({"tags": ["a\nb"]}, 422, "#/tags/0"),
        ({"track_opens": "yes"}, 422, "#/track_opens"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_accepted(site: Site, change: dict[str, Any], status: int, pointer: str) -> None:
    answer = site.post("messages", {**MAIL, **change})
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert not Message.objects.exists()


def test_the_same_key_makes_one_mail(site: Site) -> None:
    first, again = (site.post("messages", MAIL, key="order-7") for _ in range(2))
    assert first.json() == again.json()
    other = site.post("messages", {**MAIL, "subject": "Another"}, key="order-7")
    assert (other.status_code, other.json()["type"]) == (409, "urn:mailhub:problem:idempotency-key-reused")
    assert Message.objects.count() == 1


def test_a_batch_has_a_result_for_each_mail(site: Site) -> None:
    mails = [{**MAIL, "to": [f"a{number}@example.net"]} for number in range(3)]
    mails[1]["from"] = "other@example.com"
    first, again = (site.post("messages/batch", {"mails": mails}, key="night") for _ in range(2))
    assert first.status_code == 202
    results = first.json()["results"]
    assert [result["status"] for result in results] == [202, 403, 202]
    assert results[1]["problem"]["errors"][0]["pointer"] == "#/from"
    assert again.json()["results"] == results
    assert site.post("messages/batch", {"mails": mails[1:]}, key="night").status_code == 409
    assert sorted(Message.objects.values_list("address", flat=True)) == ["a0@example.net", "a2@example.net"]


def test_what_is_no_mail_is_nothing_to_the_others_of_a_batch(site: Site) -> None:
    bad = [{**MAIL, "to": ["taro@"]}, {"to": ["a@example.net"]}, {**MAIL, "attachments": [{"content": "?"}]}, {**MAIL, "cco": []}, 5]
    answer = site.post("messages/batch", {"mails": [*bad, MAIL]})
    assert answer.status_code == 202
    results = answer.json()["results"]
    assert [result["status"] for result in results] == [422, 422, 422, 422, 422, 202]
    places = [result["problem"]["errors"][0]["pointer"] for result in results[:-1]]
    assert places == ["#/to/0", "#/from", "#/attachments/0/content", "#/cco", "#"]
    assert Message.objects.count() == 1


def test_a_batch_has_no_more_recipients_than_a_transaction_should(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transactional.api.mails.MOST_RECIPIENTS", 5)
    mails = [{**MAIL, "to": ["a@example.net", "b@example.net"], "bcc": ["c@example.net"]}] * 2
    answer = site.post("messages/batch", {"mails": mails})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "#/mails"
    assert not Message.objects.exists()


def test_a_batch_costs_as_many_statements_as_one_mail(site: Site, template: Template, django_assert_max_num_queries: Any) -> None:
    site.post("messages", MAIL)
    filled = {"from": "shop@example.com", "template": template.key, "variables": {"name": "Taro", "order": {"number": 7}}}
    mails = [{**(filled if n % 2 else MAIL), "to": [f"a{n}@example.net"]} for n in range(100)]
    with django_assert_max_num_queries(25):
        answer = site.post("messages/batch", {"mails": mails}, key="k")
    assert {result["status"] for result in answer.json()["results"]} == {202}


def test_a_key_that_no_template_can_have_is_nothing_to_the_other_mails(site: Site) -> None:
    odd = {"from": "shop@example.com", "to": ["a@example.net"], "template": "a\0b"}
    results = site.post("messages/batch", {"mails": [odd, MAIL]}).json()["results"]
    assert [result["status"] for result in results] == [422, 202]
    assert results[0]["problem"]["errors"][0]["pointer"] == "#/template"


# ---------------------------------------------------------------------------------------------------------------------- access


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer nonsense", "Basic eDp5", "Bearer \0"])
def test_nobody_is_let_in_without_a_key(site: Site, header: str) -> None:
    answer = site.post("messages", MAIL, authorization=header)
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="MailHub"')


def test_a_session_of_the_admin_opens_nothing(site: Site, admin_client: Client) -> None:
    assert admin_client.post("/api/v1/messages", json.dumps(MAIL), content_type="application/json").status_code == 401


def test_a_password_for_smtp_is_no_key(site: Site) -> None:
    Credential.objects.update(kind=Credential.Kind.SMTP)
    assert site.post("messages", MAIL).status_code == 401


def test_an_expired_key_is_none(site: Site) -> None:
    Credential.objects.update(expires_at=clock.now())
    assert site.post("messages", MAIL).status_code == 401


def test_a_key_without_the_scope_may_not(site: Site) -> None:
    Credential.objects.update(scopes=[Scope.MESSAGES_READ])
    answer = site.post("messages", MAIL)
    assert answer.status_code == 403
    assert "send" in answer.json()["detail"]


def test_a_key_is_taken_from_its_networks_alone(site: Site, settings: Any) -> None:
    Credential.objects.update(networks=["192.0.2.0/24"])
    assert site.post("messages", MAIL).status_code == 401
    assert site.post("messages", MAIL, forwarded="192.0.2.7").status_code == 401
    settings.MAILHUB_TRUSTED_PROXIES = settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES.__class__(site.loopback)
    assert site.post("messages", MAIL, forwarded="192.0.2.7").status_code == 202
    assert site.post("messages", MAIL, forwarded="192.0.2.7, 198.51.100.1").status_code == 401


def test_guessing_is_slowed_down(site: Site) -> None:
    answers = [site.post("messages", MAIL, authorization="Bearer mh_guess").status_code for _ in range(8)]
    assert answers[0] == 401
    assert answers[-1] == 429
    # Others who share the address, behind a proxy, are not kept out by that.
    assert site.post("messages", MAIL).status_code == 202


def test_requests_are_limited_and_the_answer_tells_how_many_are_left(site: Site, settings: Any) -> None:
    settings.MAILHUB_API_RATE = 2
    answers = [site.post("messages", MAIL) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert answers[0]["RateLimit-Policy"] == '"requests";q=2;w=60'
    assert answers[0]["RateLimit"].startswith('"requests";r=1;t=')
    assert int(answers[2]["Retry-After"]) > 0


def test_all_processes_together_keep_to_the_rate_of_a_key(site: Site) -> None:
    one, other = Rates(), Rates()
    left = [rates.take(site.credential.pk, 3) for rates in (one, other, one, other, one)]
    assert [round(each) for each in left[:3]] == [2, 1, 0]
    assert max(left[3:]) < 0


def test_a_part_of_a_minute_is_there_again_after_a_part_of_it(site: Site) -> None:
    rates = Rates()
    assert [rates.take(site.credential.pk, 2) >= 0 for _request in range(3)] == [True, True, False]
    Credential.objects.update(requests_at=clock.now() - timedelta(seconds=31))
    assert [Rates().take(site.credential.pk, 2) >= 0 for _request in range(2)] == [True, False]


def test_a_busy_key_is_written_a_hundred_times_a_minute_at_most(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    rates = Rates()
    with CaptureQueriesContext(connection) as asked:
        left = [rates.take(site.credential.pk, 6000) for _request in range(240)]
    assert len([query for query in asked if query["sql"].startswith("UPDATE")]) == 4
    assert round(left[-1]) == 6000 - 240


def test_a_request_that_is_too_large_is_not_read(site: Site) -> None:
    answer = site.client.post(
        "/api/v1/messages", b"", content_type="application/json", headers=site.headers, CONTENT_LENGTH=str(100 * 1024 * 1024)
    )
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:mailhub:problem:too-large")


def test_a_mail_of_megabytes_is_taken(site: Site) -> None:
    large = base64.b64encode(b"x" * 4_000_000).decode()
    assert site.post("messages", {**MAIL, "attachments": [{"filename": "x.bin", "content": large}]}).status_code == 202


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b'"x"', b"[" * 5_000, b'{"from": NaN}'])
def test_what_is_no_request_is_answered_as_a_problem(site: Site, body: bytes) -> None:
    answer = site.client.post("/api/v1/messages", body, content_type="application/json", headers=site.headers)
    assert answer.status_code in (400, 422)
    assert answer["Content-Type"] == "application/problem+json"
