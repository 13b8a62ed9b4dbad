from __future__ import annotations

from collections.abc import Sequence

import pytest
from django.db import DatabaseError

from mailhub.relays.base import Envelope, Reply
from mailhub.relays.models import InboxMail, Relay
from mailhub.relays.providers import inbox
from tests.relays.contract import Contract, envelope, hand_over


@pytest.mark.django_db
class TestInbox(Contract):
    kind = "inbox"
    decisions = frozenset({"down"})

    @pytest.fixture
    def relay(self, monkeypatch: pytest.MonkeyPatch) -> Relay:
        self.monkeypatch = monkeypatch
        return Relay.objects.create(name="sandbox", kind="inbox")

    def arrange(self, decision: str, relay: Relay) -> None:
        """A database that does not take the mail is the relay's trouble, and not the mail's."""

        def fail(relay: int, mail: Envelope) -> None:
            self.monkeypatch.setattr(inbox, "keep", keep)
            raise DatabaseError("disk full")

        keep = inbox.keep
        self.monkeypatch.setattr(inbox, "keep", fail)

    def taken(self, relay: Relay) -> Sequence[tuple[str, str, bytes]]:
        return [(mail.mail_from, mail.rcpt_to, bytes(mail.data)) for mail in relay.inbox.order_by("id")]

    def test_a_mail_handed_over_twice_is_kept_twice(self, relay: Relay) -> None:
        hand_over(relay.provider(), envelope(3), envelope(3))
        assert list(InboxMail.objects.values_list("message", flat=True)) == [3, 3]

    def test_addresses_and_subjects_longer_than_their_columns_are_cut(self, relay: Relay) -> None:
        long = b"Subject: " + b"\r\n ".join([b"word" * 15] * 40) + b"\r\n\r\n.\r\n"
        [reply] = hand_over(relay.provider(), envelope(rcpt_to=f"{'a' * 400}@example.net", data=long))
        assert isinstance(reply, Reply)
        mail = InboxMail.objects.get()
        assert (len(mail.rcpt_to), len(mail.subject)) == (320, 1000)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (b"Subject: Hello\r\n", "Hello"),
        (b"Subject: =?utf-8?b?5rOo5paH56K66KqN?=\r\n", "注文確認"),
        (b"Subject: =?iso-2022-jp?b?GyRCQ21KOBsoQg==?=\r\n", "注文"),
        (b"Subject: one\r\n two\r\n", "one two"),
        (b"X-Other: no subject\r\n", ""),
        (b"Subject: =?no-such-charset?b?AAAA?=\r\n", ""),
    ],
)
def test_a_subject_is_read_as_people_see_it(field: bytes, words: str) -> None:
    found = inbox.subject(b"From: a@example.com\r\n" + field + b"\r\nbody\r\nSubject: not this\r\n")
    assert words in found
    assert "not this" not in found
    assert found.isprintable()
