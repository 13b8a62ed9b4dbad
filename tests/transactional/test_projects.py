"""What a project may, whichever door its mail comes by."""

from __future__ import annotations

import email
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client as Browser
from django.urls import reverse

from mailhub.delivery import events, suppressions
from mailhub.delivery.models import Content, Message, Suppression
from mailhub.lib import clock
from mailhub.lib.api import USUAL, Scope
from mailhub.relays.models import Stream
from mailhub.senders.models import Sender
from tests.transactional.api import Site
from tests.transactional.listener import Client, Listener, hand_in, issue
from transactional import limits, retention, sending
from transactional.models import Credential, Intake, Project, Submission, Template
from transactional.requests import Draft, Forbidden, Invalid, Limited, Request

MAIL = b"Received: from x\r\nFrom: =?utf-8?b?57eR?= <me@site.example>\r\nSubject: Order\r\nDKIM-Signature: v=1; x\r\n\r\nThank you.\r\n"


def raw(project: Project, **fields: Any) -> Request:
    asked = {"sender": "me@site.example", "recipients": ["a@example.net"], "via": Submission.Via.SMTP, "raw": MAIL, "project": project}
    return Request(**{**asked, **fields})


# ----------------------------------------------------------------------------------------------------------------- From policy


@pytest.fixture
def forcing(project: Project, sender: Sender) -> Project:
    project.from_policy, project.default_sender = Project.FromPolicy.FORCE, sender
    project.save()
    return project


def test_a_forced_from_keeps_its_name_and_gets_the_answers(forcing: Project) -> None:
    mail = email.message_from_bytes(bytes(sending.send(raw(forcing)).content.raw or b""))
    assert (mail["From"], mail["Reply-To"]) == ("=?utf-8?b?57eR?= <shop@example.com>", "me@site.example")
    assert mail.keys() == ["Received", "From", "Reply-To", "Subject"]
    assert mail.get_payload() == "Thank you.\r\n"


def test_a_forced_from_leaves_a_reply_to_alone(forcing: Project) -> None:
    content = sending.send(raw(forcing, raw=b"Reply-To: b@example.net\r\n" + MAIL)).content
    assert email.message_from_bytes(bytes(content.raw or b"")).get_all("Reply-To") == ["b@example.net"]


def test_the_forced_sender_itself_is_not_touched(forcing: Project) -> None:
    own = MAIL.replace(b"me@site.example", b"shop@example.com")
    assert bytes(sending.send(raw(forcing, sender="shop@example.com", raw=own)).content.raw or b"") == own


def test_a_from_that_may_be_used_is_kept_and_another_replaced_by_the_default(forcing: Project) -> None:
    other = Sender.objects.create(email="other@example.com", name="Other")
    other.confirm()
    forcing.senders.add(other)
    forcing.from_policy = Project.FromPolicy.DEFAULT
    draft = Draft(text="x", to=[("", "a@example.net")])
    for given, used in (("other@example.com", "other@example.com"), ("me@site.example", "shop@example.com")):
        content = sending.send(raw(forcing, sender=given, raw=b"", draft=draft)).content
        assert content.from_email == used
        assert ("Reply-To: me@site.example" in bytes(content.raw or b"").decode()) is (used != given)


def test_without_a_confirmed_default_sender_nothing_is_forced(forcing: Project, sender: Sender) -> None:
    sender.disable()
    with pytest.raises(Forbidden, match="default sender"):
        sending.send(raw(forcing))


@pytest.mark.django_db(transaction=True)
def test_the_smtp_door_obeys_policy_limits_and_networks(listener: Listener, credential: Credential, sender: Sender) -> None:
    Project.objects.update(from_policy=Project.FromPolicy.FORCE, default_sender=sender, limit_minute=2)
    other = issue(credential.project, networks=["192.0.2.0/24"])
    with Client(listener.tls_port, tls=True) as client:
        client.hear()
        client.say("EHLO web1.example")
        assert client.log_in(other[0].prefix, other[1]).startswith("535 ")
        assert client.log_in(credential.prefix, credential.secret).startswith("235 ")
        # It was let in before the limit was lowered, and meets the new one.
        replies = [hand_in(client, MAIL.replace(b"Received: from x\r\n", b""), sender="me@site.example")[:9] for _ in range(3)]
    assert replies == ["250 2.0.0", "250 2.0.0", "451 4.7.1"]
    assert set(Content.objects.values_list("from_email", flat=True)) == {"shop@example.com"}


# ---------------------------------------------------------------------------------------------------------------------- limits


def test_no_more_is_accepted_than_the_minute_and_the_day_allow(forcing: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def travel(moment: str) -> None:
        # PostgreSQL's clock is not ours to set.
        monkeypatch.setattr(clock, "now", lambda: datetime.fromisoformat(moment))

    forcing.limit_minute, forcing.limit_day = 3, 4
    travel("2026-01-15T10:00:30+00:00")
    first = sending.send_all([raw(forcing) for _ in range(5)])
    assert [isinstance(outcome, Limited) for outcome in first] == [False, False, False, True, True]
    assert first[3].retry_after == 31  # type: ignore[union-attr]
    travel("2026-01-15T10:01:00+00:00")
    second = sending.send_all([raw(forcing) for _ in range(2)])
    assert [isinstance(outcome, Limited) for outcome in second] == [False, True]
    assert second[1].retry_after > 3600  # type: ignore[union-attr]
    travel("2026-01-16T00:00:00+00:00")
    sending.send(raw(forcing))
    limits.prune(clock.now())
    assert set(Intake.objects.values_list("taken", flat=True)) == {1}


def test_every_recipient_counts_and_what_can_never_fit_is_told_so(forcing: Project) -> None:
    forcing.limit_minute = 3
    people = [f"a{number}@example.net" for number in range(4)]
    with pytest.raises(Invalid, match="more recipients"):
        sending.send(raw(forcing, recipients=people))
    sending.send(raw(forcing, recipients=people[:2]))
    with pytest.raises(Limited):
        sending.send(raw(forcing, recipients=people[:2]))
    sending.send(raw(forcing, recipients=people[:1]))


def test_a_repeated_request_takes_nothing_of_the_limit(forcing: Project) -> None:
    forcing.limit_minute = 1
    first, again = (sending.send(raw(forcing, idempotency_key="k")) for _ in range(2))
    assert first == again


def test_the_api_tells_of_limits(site: Site) -> None:
    Project.objects.update(limit_minute=1)
    mail = {"from": "shop@example.com", "to": ["a@example.net"], "text": "x"}
    first, second = (site.post("messages", mail) for _ in range(2))
    assert '"mails-minute";q=1;w=60' in first["RateLimit-Policy"]
    assert '"mails-minute";r=0;t=' in first["RateLimit"]
    assert (second.status_code, int(second["Retry-After"]) > 0) == (429, True)


# ------------------------------------------------------------------------------------------------------- retention, and the admin


def test_a_projects_mails_are_forgotten_sooner_where_it_says_so(project: Project, sender: Sender) -> None:
    private = Project.objects.create(name="Clinic", keep_bodies_days=2)
    private.senders.add(sender)
    own = MAIL.replace(b"me@site.example", b"shop@example.com")
    mails = [sending.send(raw(each, sender="shop@example.com", raw=own)).content for each in (project, private)]
    Message.objects.update(status=Message.Status.SENT)
    Content.objects.update(created_at=clock.now() - timedelta(days=3))
    retention.prune()
    for content in mails:
        content.refresh_from_db()
    assert [content.raw is None for content in mails] == [False, True]


def test_staff_set_what_a_project_may(admin_client: Browser, project: Project, sender: Sender) -> None:
    page = reverse("admin:transactional_project_change", args=[project.pk])
    filled = {
        "name": "Tea shop",
        "stream": "transactional",
        "senders": [sender.pk],
        "from_policy": "force",
        "limit_minute": "60",
        "limit_day": "",
        "suppression_scope": "project",
        "keep_bodies_days": "",
    }
    assert "needs a sender" in admin_client.post(page, filled).content.decode()
    assert "30 days at most" in admin_client.post(page, {**filled, "default_sender": sender.pk, "keep_bodies_days": "31"}).content.decode()
    assert admin_client.post(page, {**filled, "default_sender": sender.pk}).status_code == 302
    project.refresh_from_db()
    assert (project.from_policy, project.default_sender, project.limit_minute) == ("force", sender, 60)
    assert project.suppression_scope == "project"


@pytest.mark.parametrize("event", ["complained", "bounced"])
@pytest.mark.parametrize("scope", Project.SuppressionScope)
def test_a_complaint_stops_the_projects_mail_alone_where_it_says_so(project: Project, scope: str, event: str) -> None:
    Project.objects.update(suppression_scope=scope)
    draft = Draft(text="Thank you.", to=[("", "a@example.net")])
    submission = sending.send(raw(project, sender="shop@example.com", raw=b"", draft=draft))
    events.record(submission.content.messages.get(), event, at=clock.now(), detail="550 5.1.1 User unknown", kind="hard")
    # A dead address is dead for everybody.
    own = scope == "project" and event == "complained"
    assert Suppression.objects.values_list("project", "scope").get() == (project.pk if own else 0, "all")
    blocked = suppressions.blocked(Stream.TRANSACTIONAL, [("a@example.net", project.pk), ("a@example.net", project.pk + 1)])
    assert ("a@example.net", project.pk) in blocked
    assert (("a@example.net", project.pk + 1) in blocked) is not own


def test_staff_say_what_a_key_may_and_from_where(admin_client: Browser, project: Project) -> None:
    page = reverse("admin:transactional_project_issue", args=[project.pk])
    filled = {"name": "web", "kind": "api_key", "scopes": ["send"], "networks": "192.0.2.7, 2001:db8::/32\n198.51.100.9/24"}
    shown = admin_client.get(page).content.decode()
    assert shown.count("checked") == 1 + len(USUAL)
    assert "[]" not in shown
    assert "is no IP address" in admin_client.post(page, {**filled, "networks": "example.com"}).content.decode()
    assert "what the key may do" in admin_client.post(page, {**filled, "scopes": []}).content.decode()
    assert admin_client.post(page, filled).status_code == 302
    key = Credential.objects.get()
    assert (key.scopes, key.networks) == ([Scope.SEND], ["192.0.2.7/32", "2001:db8::/32", "198.51.100.0/24"])
    assert [key.is_for(client) for client in ("192.0.2.7", "192.0.2.8", "::ffff:192.0.2.7", "2001:db8::1", "")] == [
        True,
        False,
        True,
        True,
        False,
    ]
    assert "192.0.2.7/32" in admin_client.get(reverse("admin:transactional_project_change", args=[project.pk])).content.decode()


# -------------------------------------------------------------------------------------------------------------------- switched off


@pytest.mark.parametrize(
    ("muted", "sent"),
    [
        ("", True),
        ("\n \nwordpress update", True),
        ("Another\n  thank YOU ", False),
        ("news", False),
        ("new", True),
    ],
)
def test_a_project_switches_off_kinds_of_its_mail(project: Project, sender: Sender, muted: str, sent: bool) -> None:
    Project.objects.update(muted=muted)
    project.refresh_from_db()
    draft = Draft(subject="We thank you", text="...", to=[("", "a@example.net")])
    made = sending.send(
        raw(project, sender="shop@example.com", raw=b"", draft=draft, tags=["news", "order"], recipients=["a@example.net"] * 2)
    )
    message = made.content.messages.get()
    told = list(message.events.values_list("type", flat=True))
    assert (message.status, told) == (("queued", []) if sent else ("suppressed", ["rejected"]))
    assert ("switched off" in message.reply) is not sent


def test_a_template_is_switched_off_by_its_key(site: Site, project: Project, template: Template) -> None:
    Project.objects.update(muted=template.key)
    asked = {"from": "shop@example.com", "to": ["a@example.net"], "template": template.key, "variables": template.sample}
    answer = site.post("messages", asked)
    assert answer.json()["messages"][0]["status"] == "suppressed"
    assert not Suppression.objects.exists()


def test_a_line_that_would_stand_in_most_subjects_is_refused(project: Project) -> None:
    project.muted = "order\nx"
    with pytest.raises(ValidationError) as error:
        project.clean()
    assert set(error.value.message_dict) == {"muted"}
