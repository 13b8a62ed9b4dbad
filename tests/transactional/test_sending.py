from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.db import DataError, connection, transaction
from django.test.utils import CaptureQueriesContext

from mailhub.delivery import prepare, queue
from mailhub.delivery.models import Content, Message
from mailhub.senders.models import Sender
from tests.at_once import at_once
from tests.transactional.conftest import make_template
from transactional import sending
from transactional.models import Project, Submission, Template, TemplateVersion
from transactional.requests import Conflict, Forbidden, Invalid, NotAccepted, Request

RAW = b"From: Tea <shop@example.com>\r\nTo: a@example.net\r\nSubject: =?utf-8?b?5rOo5paH?=\r\n\r\nBody\r\n"


def finished(**changes: object) -> Request:
    return replace(Request(sender="shop@example.com", recipients=["a@example.net"], via=Submission.Via.API, raw=RAW), **changes)


def filled(**changes: object) -> Request:
    asked = Request(
        sender="shop@example.com",
        recipients=["a@example.net"],
        via=Submission.Via.API,
        template="order-confirmation",
        data={"name": "Taro", "order": {"number": 17}},
    )
    return replace(asked, **changes)


def refused(request: Request, error: type[NotAccepted] = Invalid) -> NotAccepted:
    with pytest.raises(error) as caught:
        sending.send(request)
    assert not Content.objects.exists() and not Submission.objects.exists() and not Message.objects.exists()
    assert caught.value.problem
    return caught.value


def test_a_finished_mail_becomes_one_message_a_recipient_with_one_content(project: Project) -> None:
    submission = sending.send(finished(project=project, recipients=["a@example.net", "B@例え.jp", "a@EXAMPLE.net"]))
    content = submission.content
    assert (bytes(content.raw or b""), content.subject, content.from_name, content.from_email) == (RAW, "注文", "Tea", "shop@example.com")
    first, second = content.messages.order_by("id")
    assert (first.address, second.address) == ("a@example.net", "B@xn--r8jz45g.jp")
    assert (first.stream, first.status, first.data) == ("transactional", "queued", {})
    assert first.expires_at - first.created_at == timedelta(days=3)
    assert prepare.Compiled(content).envelope(first).data == RAW


def test_a_template_is_filled_in_for_its_recipient(sender: Sender, template: Template) -> None:
    submission = sending.send(filled())
    (message,) = submission.content.messages.all()
    mail = prepare.Compiled(submission.content).envelope(message).data.decode()
    for line in ("Subject: Order 17", "To: Taro <a@example.net>", "Reply-To: help@example.com", "Auto-Submitted: auto-generated"):
        assert f"{line}\r\n" in mail
    assert "<p>Dear Taro, 17</p>" in mail


def test_later_changes_of_the_template_do_not_touch_accepted_mail(sender: Sender, template: Template) -> None:
    submission = sending.send(filled())
    make_template(language="ja", subject="Changed", source="Changed")
    template.subject = "Changed"
    template.save()
    template.publish(None)
    submission.content.refresh_from_db()
    assert submission.content.subject == "Order {{ order.number }}"


@pytest.mark.parametrize(
    ("language", "setting", "wanted"),
    [("ja", "en", "ja"), ("ja-JP", "en", "ja"), ("JA", "en", "ja"), ("", "ja", "ja"), ("fr", "en-us", "en"), ("fr", "ko", "any")],
)
def test_a_template_comes_in_the_recipients_language_or_the_next_best(
    sender: Sender, template: Template, settings: object, language: str, setting: str, wanted: str
) -> None:
    settings.LANGUAGE_CODE = setting  # type: ignore[attr-defined]
    make_template(language="ja", subject="注文 {{ order.number }}", source="")
    subject = sending.send(filled(language=language)).content.subject
    assert wanted == "any" or subject.startswith({"ja": "注文", "en": "Order"}[wanted])


def test_dates_and_decimals_may_be_given(sender: Sender) -> None:
    make_template(key="dated", subject="{{ on }} {{ price|number(2) }}", source="x", sample={"on": "2026-11-24", "price": 1200.5})
    content = sending.send(filled(template="dated", data={"on": date(2026, 11, 24), "price": Decimal("1200.5")})).content
    mail = prepare.Compiled(content).envelope(content.messages.get()).data
    assert b"Subject: 2026-11-24 1,200.50\r\n" in mail


# ------------------------------------------------------------------------------------------------------------------- refusals


def test_an_unknown_sender_is_refused_with_those_that_can_be_used(sender: Sender) -> None:
    error = refused(finished(sender="other@example.com"), Forbidden)
    assert error.field == "sender" and "other@example.com" in error.problem and "shop@example.com" in error.remedy


def test_a_mail_without_a_sender_is_refused(sender: Sender) -> None:
    assert refused(finished(sender="")).field == "sender"
    assert refused(finished(sender="nobody")).field == "sender"


def test_only_confirmed_senders_send(sender: Sender) -> None:
    sender.disable()
    assert "disabled" in refused(finished(), Forbidden).problem


def test_a_project_sends_from_its_own_senders_only(sender: Sender, project: Project) -> None:
    other = Sender.objects.create(email="secret@example.com")
    other.confirm()
    error = refused(finished(sender="secret@example.com", project=project), Forbidden)
    assert "Tea shop" in error.problem and "shop@example.com" in error.remedy
    assert "secret" not in refused(finished(sender="x@example.com", project=project), Forbidden).remedy


@pytest.mark.parametrize(
    ("recipients", "field"),
    [([], "recipients"), (["a@example.net", "nobody"], "recipients[1]"), ([""], "recipients[0]"), (["a@b.jp\r\nRCPT TO:<c@d.jp>"], "recipients[0]")],
)  # fmt: skip
def test_bad_recipients_are_named(sender: Sender, recipients: Sequence[str], field: str) -> None:
    """nodemailer GHSA-c7w3-x93f-qmm8: SMTP commands came in through envelope addresses."""
    assert refused(finished(recipients=recipients)).field == field


def test_too_many_recipients_are_refused(sender: Sender) -> None:
    assert refused(finished(recipients=[f"a{n}@example.net" for n in range(1001)])).field == "recipients"


@pytest.mark.parametrize(
    "raw",
    [
        RAW.replace(b"Body", b"a\0b"),
        RAW.replace(b"a@example", "件名".encode("shift_jis")),
        RAW.replace(b"Body\r\n", b"Body\n"),
        RAW + b".\n",
        RAW + b"\n.\r\nMAIL FROM:<evil@example.com>\r\n",
        RAW + b"\r.\r\n",
        RAW + b"no end",
        RAW + b"x" * 999 + b"\r\n",
        RAW.replace(b"shop@", b"other@"),
        RAW.replace(b"From: ", b"From: other@example.com, "),
        b"From: other@example.com\r\n" + RAW,
        b"From : other@example.com\r\n" + RAW,
        b"From other@example.com\r\n" + RAW,
        RAW.replace(b"Subject", b"no field\r\nFrom: other@example.com\r\nSubject"),
        RAW.replace(b"From: Tea <shop@example.com>\r\n", b""),
        RAW.replace(b"Tea <shop@example.com>", b'"shop@example.com" <other@example.com>'),
    ],
)
def test_finished_mail_that_could_deceive_a_hop_is_refused(sender: Sender, raw: bytes) -> None:
    """CVE-2023-51764 to -51766 (SMTP smuggling), and From addresses that are not the sender's."""
    error = refused(finished(raw=raw))
    assert error.field == "raw" and error.remedy


def test_a_mail_that_says_nothing_or_two_things_is_refused(sender: Sender) -> None:
    assert refused(finished(raw=b"")).field == "template"
    assert refused(finished(template="order-confirmation")).field == "template"


def test_an_unknown_template_is_refused_with_those_there_are(sender: Sender, template: Template) -> None:
    assert "order-confirmation" in refused(filled(template="oder-confirmation")).remedy


def test_missing_values_are_named(sender: Sender, template: Template) -> None:
    assert "“order”" in refused(filled(data={"name": "Taro"})).problem
    assert "“order.number”" in refused(filled(data={"name": "Taro", "order": {}})).problem


@pytest.mark.parametrize(
    "data",
    [
        {"name": "Taro\r\nBcc: x@example.com", "order": {"number": 1}},
        {"name": "Taro", "order": {"number": "1\u2028Bcc: x@example.com"}},
        {"name": "a\0b", "order": {"number": 1}},
        {"name": "\ud800", "order": {"number": 1}},
        {"name": "Taro", "order": {"number": float("nan")}},
        {"name": "Taro", "order": {"number": object()}},
        {"name": "x" * 500_001, "order": {"number": 1}},
        ["name"],
    ],
)
def test_data_that_cannot_be_mailed_is_refused(sender: Sender, template: Template, data: object) -> None:
    assert refused(filled(data=data)).field == "data"


def test_a_backslash_is_no_nul(sender: Sender, template: Template) -> None:
    sending.send(filled(data={"name": "C:\\u0000", "order": {"number": 1}}))


def test_a_template_that_fails_is_refused(sender: Sender, template: Template) -> None:
    TemplateVersion.objects.update(html="{% for %}")
    assert refused(filled()).field == "template"
    TemplateVersion.objects.update(html="{{ 1 / 0 }}")
    assert refused(filled()).field == "template"


# ---------------------------------------------------------------------------------------------------------------- idempotency


def test_the_same_request_again_is_answered_alike_and_sends_nothing(project: Project, template: Template) -> None:
    first = sending.send(filled(project=project, idempotency_key="k1"))
    project.senders.clear()
    assert sending.send(filled(project=project, idempotency_key="k1")) == first
    assert Message.objects.count() == 1


def test_the_same_key_for_another_mail_is_a_conflict(project: Project, template: Template) -> None:
    sending.send(filled(project=project, idempotency_key="k1"))
    for change in ({"recipients": ["b@example.net"]}, {"data": {"name": "B", "order": {"number": 1}}}, {"language": "ja"}):
        with pytest.raises(Conflict) as caught:
            sending.send(filled(project=project, idempotency_key="k1", **change))
        assert caught.value.field == "idempotency_key"
    assert Message.objects.count() == 1


def test_a_key_belongs_to_its_project(project: Project, template: Template) -> None:
    other = Project.objects.create(name="Other")
    other.senders.set(project.senders.all())
    for owner in (project, other, None):
        sending.send(filled(project=owner, idempotency_key="k1"))
    assert Message.objects.count() == 3


def test_mails_without_a_key_are_all_sent(project: Project) -> None:
    sending.send(finished(project=project))
    sending.send(finished(project=project))
    assert Message.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_the_same_key_twice_at_once_makes_one_mail(project: Project) -> None:
    answers = at_once(4, lambda: sending.send(finished(project=project, idempotency_key="k1")).pk)
    assert answers == [Submission.objects.get().pk] * 4
    assert Message.objects.count() == 1 and Content.objects.count() == 1


# --------------------------------------------------------------------------------------------------------------- transactions


@pytest.mark.django_db(transaction=True)
def test_what_was_accepted_is_committed(sender: Sender) -> None:
    sending.send(finished())
    seen: list[int] = []

    def look() -> None:
        seen.append(Message.objects.count())
        connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [1]


@pytest.mark.django_db(transaction=True)
def test_a_rollback_of_the_caller_takes_the_mail_back(sender: Sender) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        sending.send(finished())
        raise RuntimeError
    assert not Message.objects.exists()


# ------------------------------------------------------------------------------------------------------------- several at once


def test_of_several_each_is_accepted_or_told_why_not(project: Project, template: Template) -> None:
    outcomes = sending.send_all([
        finished(project=project, recipients=["a@example.net", "b@example.net"]),
        finished(project=project, sender="other@example.com"),
        filled(project=project),
        filled(project=project, data={}),
    ])  # fmt: skip
    first, stranger, second, hollow = outcomes
    assert isinstance(first, Submission) and isinstance(second, Submission)
    assert isinstance(stranger, Forbidden) and stranger.field == "sender"
    assert isinstance(hollow, Invalid) and hollow.field == "data"
    assert [message.address for message in first.content.messages.order_by("pk")] == ["a@example.net", "b@example.net"]
    assert second.content.messages.get().data == {"name": "Taro", "order": {"number": 17}}
    assert Content.objects.count() == Submission.objects.count() == 2
    # By which each project gets its fair part of what waits.
    assert set(Message.objects.values_list("source_ref", flat=True)) == {project.pk}


def test_more_of_them_cost_no_more_statements(project: Project) -> None:
    def statements(count: int) -> int:
        with CaptureQueriesContext(connection) as seen:
            sending.send_all([finished(project=project) for _ in range(count)])
        return len(seen)

    statements(1)
    assert statements(40) <= statements(2)


def test_the_same_key_twice_among_several_makes_one_mail(project: Project) -> None:
    keyed = finished(project=project, idempotency_key="k1")
    first, second, other, conflict = sending.send_all(
        [keyed, keyed, finished(project=project), replace(keyed, recipients=["b@example.net"])]
    )
    assert first == second != other and isinstance(other, Submission)
    assert isinstance(conflict, Conflict)
    assert Submission.objects.count() == Content.objects.count() == Message.objects.count() == 2


def test_what_the_database_cannot_hold_is_nothing_to_the_others(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue = queue.enqueue

    def particular(messages: Sequence[Message]) -> None:
        if any(message.address == "bad@example.net" for message in messages):
            raise DataError("no")
        enqueue(messages)

    monkeypatch.setattr(queue, "enqueue", particular)
    bad, good = sending.send_all([finished(project=project, recipients=["bad@example.net"]), finished(project=project)])
    assert isinstance(bad, Invalid) and isinstance(good, Submission)
    assert Content.objects.get() == good.content and Message.objects.get().content == good.content
