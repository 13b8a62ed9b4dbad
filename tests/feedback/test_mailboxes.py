"""Real mailboxes at a real Dovecot."""

from __future__ import annotations

import imaplib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest
from django.db import OperationalError
from django.test import Client
from django.urls import reverse
from pytest_django.fixtures import Settings

from mailhub.delivery.models import Message, Suppression
from mailhub.feedback import incoming, mailboxes, tasks
from mailhub.feedback.models import IncomingMail, Mailbox
from mailhub.lib import clock, http
from mailhub.lib import tasks as wakes
from mailhub.senders import return_path
from tests.certificates import Authority
from tests.dovecot import PASSWORD, USER, Dovecot
from tests.feedback.test_incoming import bounce
from tests.relays.test_esp import Answer, Server, ok

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def dovecot(authority: Authority) -> Iterator[Dovecot]:
    with Dovecot(authority.issue("localhost")) as server:
        yield server


@pytest.fixture
def server(dovecot: Dovecot, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dovecot]:
    monkeypatch.setattr(http, "public_trust", lambda: authority.trust())
    yield dovecot
    for folder in ("INBOX", "Junk", "Done"):
        if (maildir := dovecot._maildir(folder)).exists():
            for path in [*maildir.glob("new/*"), *maildir.glob("cur/*")]:
                path.unlink()


def returned(message: Message) -> bytes:
    return bounce(returned=f"X-MailHub-ID: {return_path.token(message.public_id)}\n")


def mailbox(server: Dovecot, **fields: Any) -> Mailbox:
    given = {"security": "none", "port": server.imap, **fields}
    return Mailbox.objects.create(
        name="Bounces", host="localhost", username=USER, secrets={"password": given.pop("password", PASSWORD)}, **given
    )


@pytest.mark.parametrize("security", ["none", "starttls", "tls", "pop3", "pop3 starttls"])
def test_a_bounce_is_fetched_recorded_and_gone(server: Dovecot, message: Message, security: str) -> None:
    server.put(returned(message))
    server.put(b"Subject: hello\r\n\r\nNothing of ours.\r\n")
    protocol, port = ("pop3", server.pop3) if "pop3" in security else ("imap", server.imaps if security == "tls" else server.imap)
    box = mailbox(server, protocol=protocol, port=port, security=security.removeprefix("pop3").strip() or "none")
    assert mailboxes.poll(box) == 2
    assert (box.problem, box.failures) == ("", 0)
    message.refresh_from_db()
    assert message.status == Message.Status.BOUNCED
    assert Suppression.objects.get().address == "taro@example.jp"
    assert IncomingMail.objects.filter(mailbox=box, source="mailbox").count() == 2
    assert server.mails() == []
    assert mailboxes.poll(box) == 0


def test_read_mails_are_moved_where_that_is_wished_and_other_folders_are_looked_into(server: Dovecot, message: Message) -> None:
    box = mailbox(server, done_folder="Done", folders="Bounced\nINBOX\nJunk")
    with imaplib.IMAP4("127.0.0.1", server.imap) as staff:
        staff.login(USER, PASSWORD)
        staff.create("Junk")
    server.put(returned(message))
    server.put(b"Subject: hello\r\n\r\n", "Junk")
    # A folder that there is not is told, and keeps nobody from the others, or longer than usual.
    assert mailboxes.poll(box) == 2
    assert (box.problem, box.failures) == ("There is no folder “Bounced”.", 0)
    assert (server.mails(), server.mails("Junk"), len(server.mails("Done"))) == ([], [], 2)


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_what_cannot_be_stored_stays_at_the_server(
    server: Dovecot, message: Message, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("no database")

    server.put(returned(message))
    box = mailbox(server, protocol=protocol, port=server.pop3 if protocol == "pop3" else server.imap)
    with monkeypatch.context() as patch:
        patch.setattr(incoming, "take", away)
        assert mailboxes.poll(box) == 0
    assert box.problem == "The mail could not be stored: no database"
    assert len(server.mails()) == 1
    assert mailboxes.poll(box) == 1


def test_a_mail_that_was_stored_and_not_removed_is_recorded_once(server: Dovecot, message: Message) -> None:
    server.put(returned(message))
    box = mailbox(server)
    mailboxes.poll(box)
    server.put(returned(message))
    assert mailboxes.poll(box) == 1
    assert IncomingMail.objects.count() == 1
    assert message.events.filter(type="bounced").count() == 1


def test_a_mail_that_is_too_large_is_passed_over_and_the_others_come(
    server: Dovecot, message: Message, monkeypatch: pytest.MonkeyPatch, admin_client: Client
) -> None:
    monkeypatch.setattr(mailboxes, "LARGEST", 20_000)
    # Those in front take nobody's place.
    monkeypatch.setattr(mailboxes, "MOST", 1)
    server.put(b"Subject: large\r\n\r\n" + b"x" * 30_000)
    server.put(returned(message))
    box = mailbox(server)
    assert [mailboxes.poll(box) for _time in range(5)] == [0, 0, 0, 1, 0]
    assert (list(box.stumbles.values()), box.left) == ([Mailbox.TRIES], 1)
    assert len(server.mails()) == 1
    assert "1 mail stays at the server" in admin_client.get(reverse("admin:feedback_mailbox_changelist")).content.decode()
    # Once somebody has taken it away nothing of it is kept.
    for path in server._maildir("INBOX").glob("*/*.test*"):
        path.unlink()
    mailboxes.poll(box)
    assert (box.stumbles, box.left) == ({}, 0)


def test_mails_that_are_too_large_take_nobodys_place_by_pop3(server: Dovecot, message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "LARGEST", 20_000)
    monkeypatch.setattr(mailboxes, "MOST", 1)
    server.put(b"Subject: large\r\n\r\n" + b"x" * 30_000)
    server.put(returned(message))
    assert mailboxes.poll(mailbox(server, protocol="pop3", port=server.pop3)) == 1
    assert len(server.mails()) == 1


def test_one_looks_into_a_mailbox_at_a_time_and_once_more_for_who_came_meanwhile(
    server: Dovecot, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when several machines are told of the same mail."""
    box = mailbox(server)
    looks: list[int] = []

    def look(_mailbox: Mailbox) -> tuple[int, str]:
        looks.append(len(looks))
        # Two others come while the first is at it.
        return sum(mailboxes.poll(Mailbox.objects.get()) for _other in range(2)) if len(looks) == 1 else 1, ""

    monkeypatch.setattr(mailboxes, "_imap", look)
    assert mailboxes.poll(box) == 1
    assert len(looks) == 2
    box.refresh_from_db()
    assert (box.held_until, box.asked_again) == (None, False)
    # One that was killed holds nobody off for long.
    Mailbox.objects.update(held_until=clock.now() + mailboxes.HELD)
    assert (mailboxes.poll(box), len(looks)) == (0, 2)
    Mailbox.objects.update(held_until=clock.now() - timedelta(seconds=1))
    assert (mailboxes.poll(box), len(looks)) == (1, 3)

    def stopped(_mailbox: Mailbox) -> tuple[int, str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(mailboxes, "_imap", stopped)
    with pytest.raises(KeyboardInterrupt):
        mailboxes.poll(box)
    assert Mailbox.objects.get().held_until is None


def test_a_wrong_password_is_told_and_tried_more_and_more_rarely(server: Dovecot) -> None:
    box = mailbox(server, password="wrong")  # noqa: S106
    waits = []
    for _time in range(3):
        assert mailboxes.poll(box) == 0
        assert box.polled_at and box.next_poll_at
        waits.append(box.next_poll_at - box.polled_at)
    assert "AUTHENTICATIONFAILED" in box.problem
    assert waits == [mailboxes.EVERY * 2, mailboxes.EVERY * 4, mailboxes.EVERY * 8]
    assert "wrong" not in box.problem


def test_a_server_that_does_not_prove_its_name_hears_no_password(server: Dovecot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "public_trust", lambda: Authority().trust())
    box = mailbox(server, security="tls", port=server.imaps)
    mailboxes.poll(box)
    assert "certificate" in box.problem


def test_a_private_address_is_not_connected_to_unless_it_was_allowed(server: Dovecot, settings: Any) -> None:
    settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = []
    box = mailbox(server)
    mailboxes.poll(box)
    assert "is not a public address" in box.problem


def test_each_mailbox_is_looked_into_in_its_time_by_a_task_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[int] = []
    monkeypatch.setattr(wakes, "enqueue", lambda task, pk, *, queue: woken.append(pk))
    rows = {
        name: Mailbox.objects.create(name=name, host="localhost", username=USER, **fields)
        for name, fields in {
            "new": {},
            "due": {"next_poll_at": clock.now()},
            "later": {"next_poll_at": clock.now() + mailboxes.EVERY},
            "paused": {"status": "paused"},
        }.items()
    }
    tasks.poll_mailboxes()
    assert woken == [rows["new"].pk, rows["due"].pk]
    assert tasks.poll(rows["paused"].pk) == 0


def test_a_copy_that_sends_nothing_leaves_the_originals_bounces_where_they_are(
    server: Dovecot, message: Message, settings: Settings
) -> None:
    server.put(returned(message))
    box = mailbox(server)
    settings.MAILHUB_DO_NOT_SEND = True
    assert list(mailboxes.due()) == [] and tasks.poll(box.pk) == 0
    assert len(server.mails()) == 1
    settings.MAILHUB_DO_NOT_SEND = False
    assert tasks.poll(box.pk) == 1


# --------------------------------------------------------------------------------------------------------------------- the admin

ADD = "admin:feedback_mailbox_add"


def given(**changes: Any) -> dict[str, Any]:
    """A mailbox's form as the browser sends it."""
    return {
        "name": "Bounces", "protocol": "imap", "host": "imap.tea.example", "port": "", "security": "tls", "username": USER,
        "login": "password", "password": PASSWORD, "folders": "INBOX", **changes,
    }  # fmt: skip


def test_secrets_are_written_and_never_shown(admin_client: Client) -> None:
    assert admin_client.post(reverse(ADD), given()).status_code == 302
    box = Mailbox.objects.get()
    assert box.secrets == {"password": PASSWORD}
    url = reverse("admin:feedback_mailbox_change", args=[box.pk])
    page = admin_client.get(url).content.decode()
    assert "stored; empty keeps it" in page
    assert f'value="{PASSWORD}"' not in page
    admin_client.post(url, given(password="", host="mail.tea.example"))  # noqa: S106
    box.refresh_from_db()
    assert (box.host, box.secrets) == ("mail.tea.example", {"password": PASSWORD})


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"password": ""}, "password", "Nobody gets into the mailbox without it."),
        ({"login": "oauth"}, "refresh_token", "Nobody gets into the mailbox without it."),
        ({"login": "oauth", "refresh_token": "r"}, "token_url", "OAuth needs an https token URL and a client ID."),
        ({"done_folder": "INBOX"}, "done_folder", "This folder is looked into"),
    ],
)
def test_what_is_missing_is_told_at_its_field(admin_client: Client, changes: dict[str, str], field: str, words: str) -> None:
    response = admin_client.post(reverse(ADD), given(**changes))
    assert any(words in error for error in response.context["adminform"].form.errors[field])


def test_staff_look_into_a_mailbox_pause_and_resume_it(admin_client: Client, server: Dovecot, message: Message) -> None:
    server.put(returned(message))
    box = mailbox(server)
    url = reverse("admin:feedback_mailbox_changelist")

    def do(action: str) -> str:
        return admin_client.post(url, {"action": action, "_selected_action": box.pk}, follow=True).content.decode()

    assert "1 mail was fetched" in do("look_now")
    do("pause")
    box.refresh_from_db()
    assert box.status == Mailbox.Status.PAUSED
    assert "paused already" in do("pause")
    do("resume")
    box.refresh_from_db()
    assert box.status == Mailbox.Status.ACTIVE
    Mailbox.objects.update(secrets={"password": "wrong"})
    assert "AUTHENTICATIONFAILED" in do("look_now")
    assert "does not work" in admin_client.get(url).content.decode()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (ok({"access_token": "fresh", "expires_in": 3600}), "user=bounces\1auth=Bearer fresh\1\1"),
        (ok({"error": "invalid_grant", "error_description": "Token has been revoked."}, 400), "Token has been revoked."),
        (ok({"error": "invalid_client"}, 401), "invalid_client"),
        (ok("<html>", 502, Content_Type="text/html"), "HTTP 502"),
        (ok({}), "HTTP 200"),
    ],
)
def test_an_access_token_is_bought_for_the_refresh_token_and_what_is_said_instead_is_told(answer: Answer, found: str) -> None:
    with Server(lambda request: answer) as web:
        given = Mailbox(username=USER, token_url=web.url, client_id="id", secrets={"refresh_token": "r", "client_secret": "s"})
        try:
            said = mailboxes._bearer(given)
        except mailboxes.Failed as failure:
            said = str(failure)
        [request] = web.requests
    assert found.replace("bounces", USER) in said
    assert dict(parse_qsl(request.text)) == {"grant_type": "refresh_token", "refresh_token": "r", "client_id": "id", "client_secret": "s"}
