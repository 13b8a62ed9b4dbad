"""Mail that Debian's Postfix accepts and brings back, by each way in: a mailbox at Dovecot, SMTP, the pipe command."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.db import connection
from pytest_django.fixtures import Settings

from mailhub.delivery import engine
from mailhub.delivery.models import Content, Message, Suppression
from mailhub.feedback import mailboxes
from mailhub.feedback.models import IncomingMail, Mailbox
from mailhub.senders.models import Domain
from tests.certificates import Authority
from tests.delivery.world import make_relay, make_route, make_sender, post
from tests.dovecot import PASSWORD, USER, Dovecot
from tests.installation import until
from tests.postfix import USABLE, Postfix
from tests.test_bounced import Bounces
from transactional.smtpd import certificates

pytestmark = [
    pytest.mark.once,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not USABLE, reason="Postfix needs root"),
]

# Local part -> what the receiving server says, the category, and the kind of the event.
CASES = {
    "unknown": ("550 5.1.1 User unknown in virtual mailbox table", "user_unknown", "hard"),
    "full": ("552 5.2.2 Mailbox is full", "mailbox_full", "soft"),
    "rejected": ("554 5.7.1 Your mail looks like spam", "spam", "soft"),
    # Its server says in EHLO that it takes no mail of this size.
    "size": ("", "too_big", "soft"),
}
WAYS = ("mailbox", "smtp", "pipe")


def take_bounce(arguments: list[str], raw: bytes) -> int:
    """As the process does: what it was given, and its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
        try:
            call_command("take_bounce", *arguments)
        except SystemExit as ended:
            return int(str(ended.code))
        finally:
            connection.close()
    return 0


@pytest.fixture
def dovecot() -> Iterator[Dovecot]:
    with Dovecot(Authority().issue("localhost")) as server:
        yield server


@pytest.fixture
def postfix(dovecot: Dovecot, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postfix]:
    path = tmp_path_factory.mktemp("certificate") / "certificate.pem"
    path.write_bytes(certificates.make(["127.0.0.1"]))
    settings.MAILHUB_SMTPD_CERTIFICATE = str(path)
    with Bounces() as listener:
        ways = {
            **{f"{way}.recipient.test": "REFUSING" for way in WAYS},
            "smtp.tea.test": f"smtp:[127.0.0.1]:{listener.port}",
            "pipe.tea.test": "mailhub:",
        }
        refusals = {f"{name}@{way}.recipient.test": reply for name, (reply, *_rest) in CASES.items() for way in WAYS if reply}
        mailbox = ("mailbox.tea.test", dovecot.folder / "mail" / USER, dovecot.owner.pw_uid, dovecot.owner.pw_gid)
        with Postfix(transport=ways, refusals=refusals, mailbox=mailbox, pipe=take_bounce) as server:
            yield server


def test_each_bounce_lands_on_its_recipient_with_the_right_kind(postfix: Postfix, dovecot: Dovecot) -> None:
    options = {"host": "127.0.0.1", "port": postfix.port, "security": "none"}
    relay = make_relay(kind="smtp", options=options, keeps_return_path=True)
    make_route(relay, default_for="transactional")
    sent: dict[tuple[str, str], int] = {}
    for way in WAYS:
        Domain.objects.create(name=f"{way}.shop.test", bounce_address=f"bounces@{way}.tea.test")
        sender = make_sender(f"shop@{way}.shop.test")
        for name in CASES:
            [message] = post(sender, f"{name}@{way}.recipient.test")
            sent[name, way] = message.pk
            if name == "size":
                Content.objects.filter(pk=message.content_id).update(text="Dear reader, " * 1000)
    engine.drain(relay, "transactional")
    # Some are back already.
    assert set(Message.objects.values_list("status", flat=True)) <= {"sent", "bounced"}
    box = Mailbox.objects.create(
        name="Bounces", host="localhost", port=dovecot.imap, security="none", username=USER, secrets={"password": PASSWORD}
    )

    def all_back() -> bool:
        mailboxes.poll(box)
        return Message.objects.filter(status="bounced").count() == len(sent)

    try:
        until(all_back, 60)
    except AssertionError:
        raise AssertionError(f"{list(IncomingMail.objects.values('source', 'status', 'rcpt_to', 'reports'))}\n{postfix.log}") from None
    for (name, way), key in sent.items():
        [event] = Message.objects.get(pk=key).events.filter(type="bounced")
        assert (event.category, event.kind) == CASES[name][1:], (name, way, event.detail)
        mail = IncomingMail.objects.get(message=key)
        assert (mail.source, mail.proof, mail.status) == (way, "return_path", "applied")
    assert set(Suppression.objects.values_list("address", flat=True)) == {f"unknown@{way}.recipient.test" for way in WAYS}
    assert dovecot.mails() == []
    assert IncomingMail.objects.count() == len(sent)
