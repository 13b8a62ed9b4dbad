from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from pytest_django import Settings

from mailhub.delivery import erasure, events, queue, suppressions
from mailhub.delivery.models import Attempt, Event, Lease, Message, Suppression
from mailhub.lib import addresses, clock
from mailhub.relays.models import Relay
from mailhub.senders.models import Sender
from tests.delivery.world import hold, make_batch, make_content, post, states

Status = Message.Status
SOON = timedelta(days=1)


def bounce(message: Message, words: str = "550 5.1.1 User unknown", type: str = "bounced", **fields: Any) -> Event:
    Message.objects.filter(pk=message.pk, status=Status.QUEUED, batch=None).update(status=Status.SENT, settled_at=clock.now())
    event = events.record(message, type, at=clock.now(), detail=words, **fields)
    assert event
    return event


def claimed(relay: Relay) -> list[str]:
    Lease.objects.update(connections=0)
    return sorted(message.address for message in queue.claim(hold(relay), 50))


# ------------------------------------------------------------------------------------------------------------ how long, how wide


def test_one_that_has_run_out_is_renewed_by_the_next_bounce(relay: Relay, sender: Sender) -> None:
    ended = clock.now() - SOON
    Suppression.objects.create(address="taro@example.net", scope="campaign", reason="soft", detail="552", expires_at=ended)
    message = post(sender, "taro@example.net")[0]
    event = bounce(message)
    row = Suppression.objects.get()
    assert (row.reason, row.scope, row.detail, row.event, row.expires_at) == ("bounce", "all", "550 5.1.1 User unknown", event, None)
    assert row.created_at > ended
    post(sender, "taro@example.net")
    assert claimed(relay) == []


@pytest.mark.parametrize(
    ("held", "report", "becomes"),
    [
        # A dead address is dead for good.
        ({"reason": "soft", "expires_at": SOON}, "bounced", {"reason": "bounce", "scope": "all", "expires_at": None}),
        ({"reason": "manual", "expires_at": SOON}, "bounced", {"reason": "manual", "scope": "all", "expires_at": None}),
        ({"reason": "manual", "scope": "all"}, "bounced", {"reason": "manual", "scope": "all", "expires_at": None}),
        ({"reason": "unsubscribe", "scope": "campaign"}, "complained", {"reason": "unsubscribe", "scope": "all", "expires_at": None}),
    ],
)
def test_what_is_held_grows_and_never_shrinks(
    relay: Relay, sender: Sender, held: dict[str, Any], report: str, becomes: dict[str, Any]
) -> None:
    if "expires_at" in held:
        held = {**held, "expires_at": clock.now() + held["expires_at"]}
    Suppression.objects.create(address="taro@example.net", **held)
    bounce(post(sender, "taro@example.net")[0], type=report)
    row = Suppression.objects.get()
    assert {name: getattr(row, name) for name in becomes} == becomes


def test_one_that_has_run_out_keeps_nothing_back(relay: Relay, sender: Sender) -> None:
    Suppression.objects.create(address="a@example.net", expires_at=clock.now() - SOON)
    Suppression.objects.create(address="b@example.net", expires_at=clock.now() + SOON)
    post(sender, "a@example.net", "b@example.net")
    assert claimed(relay) == ["a@example.net"]


def test_a_projects_own_hold_for_its_mail_alone(relay: Relay, sender: Sender) -> None:
    Suppression.objects.create(address="taro@example.net", project=7)
    ours = post(sender, "taro@example.net", source_ref=7)[0]
    theirs = post(sender, "taro@example.net", source_ref=8)[0]
    batch = make_batch(sender, "taro@example.net")
    assert claimed(relay) == ["taro@example.net"] * 2
    assert states(ours, theirs, batch.messages.get()) == ["suppressed", "claimed", "claimed"]


@pytest.mark.parametrize(("stops", "scope"), [("all", "all"), ("campaign", "campaign")])
def test_a_complaint_stops_what_the_installation_says(relay: Relay, sender: Sender, settings: Settings, stops: str, scope: str) -> None:
    settings.MAILHUB_COMPLAINTS_STOP = stops
    bounce(make_batch(sender, "taro@example.net").messages.get(), "", "complained")
    assert Suppression.objects.get().scope == scope


# ------------------------------------------------------------------------------------------------------------------- soft ones


FULL = "552 5.2.2 Mailbox full"


def test_a_mailbox_that_takes_nothing_again_and_again_is_suppressed_for_a_time(relay: Relay, sender: Sender, settings: Settings) -> None:
    settings.MAILHUB_SOFT_BOUNCES, settings.MAILHUB_SOFT_SUPPRESSION_DAYS = 3, 90
    messages = [post(sender, "Taro@Example.net" if n % 2 else "taro@example.net")[0] for n in range(3)]
    for message in messages[:2]:
        # Again about the same mail is no more.
        bounce(message, FULL)
        bounce(message, FULL)
    # Not the mailbox's fault.
    other = post(sender, "taro@example.net")[0]
    bounce(other, "550 5.7.1 Blocked by Spamhaus")
    assert not Suppression.objects.exists()
    event = bounce(messages[2], FULL)
    row = Suppression.objects.get()
    assert (row.address, row.reason, row.scope, row.event) == ("taro@example.net", "soft", "all", event)
    assert row.expires_at and timedelta(days=89) < row.expires_at - clock.now() < timedelta(days=91)


@pytest.mark.parametrize("what", ["success", "long ago", "never"])
def test_soft_bounces_are_forgiven(relay: Relay, sender: Sender, settings: Settings, what: str) -> None:
    settings.MAILHUB_SOFT_BOUNCES = 0 if what == "never" else 2
    bounce(post(sender, "taro@example.net")[0], FULL)
    if what == "success":
        delivered = post(sender, "taro@example.net")[0]
        Message.objects.filter(pk=delivered.pk).update(status="sent", settled_at=clock.now())
        events.record(delivered, "delivered", at=clock.now())
    elif what == "long ago":
        Event.objects.update(at=clock.now() - timedelta(days=settings.MAILHUB_SOFT_BOUNCE_DAYS + 1))
    bounce(post(sender, "taro@example.net")[0], FULL)
    assert not Suppression.objects.exists()


def test_who_unsubscribed_for_good_is_not_made_to_return_by_a_full_mailbox(relay: Relay, sender: Sender, settings: Settings) -> None:
    settings.MAILHUB_SOFT_BOUNCES = 1
    Suppression.objects.create(address="taro@example.net", scope="campaign", reason="unsubscribe")
    bounce(post(sender, "taro@example.net")[0], FULL)
    row = Suppression.objects.get()
    assert (row.scope, row.reason, row.expires_at) == ("campaign", "unsubscribe", None)


# ------------------------------------------------------------------------------------------------------------------- by hand


def test_addresses_are_entered_for_a_project_and_for_a_time(db: None) -> None:
    until = clock.now() + SOON
    Suppression.objects.create(address="old@example.net", expires_at=clock.now() - SOON, reason="soft")
    Suppression.objects.create(address="brief@example.net", expires_at=clock.now() + SOON / 2)
    added = suppressions.add(["old@example.net", "new@example.net", "brief@example.net"], "all", "phone", project=0, until=until)
    assert ([row.address for row in added.new], added.widened, added.known) == (["new@example.net"], 2, 0)
    assert set(Suppression.objects.values_list("address", "expires_at")) == {
        ("old@example.net", until), ("new@example.net", until), ("brief@example.net", until),
    }  # fmt: skip
    assert suppressions.add(["new@example.net"], "all", "", project=7).new[0].project == 7


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a@example.net\nb@example.net\n", ["a@example.net", "b@example.net"]),
        ("name,email,since\nA,A@example.net,2026\nB,b@example.net,2025\n", ["a@example.net", "b@example.net"]),
        ("アドレス;理由\na@example.net;期限切れ\n", ["a@example.net"]),
        ('\ufeff"a@example.net","550 5.1.1 x@y.example"\n', ["a@example.net"]),
    ],
)
def test_files_of_other_services_are_read(text: str, found: list[str]) -> None:
    assert suppressions.read_file(text.encode()) == found


def test_a_file_without_addresses_or_with_bad_ones_says_so(db: None) -> None:
    for data in (b"\0\1\2", b"a,b\nc,d\n", b"email\nnot an address\n"):
        with pytest.raises(ValidationError):
            suppressions.read_file(data)


# -------------------------------------------------------------------------------------------------------------------- erasure


def test_who_is_erased_leaves_nothing_but_a_hash_that_still_blocks(relay: Relay, sender: Sender, settings: Settings) -> None:
    content = make_content(sender, text="Dear Taro")
    gone = bounce(post(sender, "taro@example.net", data={"name": "Taro"})[0], "550 5.1.1 <taro@example.net>: User unknown")
    waiting = post(sender, "TARO@example.net")[0]
    other = post(sender, "hana@example.net")[0]
    Attempt.objects.create(
        message=gone.message, number=1, outcome="refused", reply="no taro@example.net", started_at=clock.now(), finished_at=clock.now()
    )
    assert erasure.erase("Taro@example.net") == 2
    row = Suppression.objects.get()
    assert row.erased and "taro" not in row.address and row.reason == "bounce" and row.detail == ""
    for message in Message.objects.exclude(pk=other.pk):
        assert "taro" not in message.address.lower() + str(message.data).lower() + message.reply
        assert message.address.endswith("@erased.invalid")
    assert not any(
        "taro@" in words for words in [*Event.objects.values_list("detail", flat=True), *Attempt.objects.values_list("reply", flat=True)]
    )
    assert states(waiting) == ["canceled"]
    other.refresh_from_db()
    assert other.address == "hana@example.net" and content
    # Somebody brings the address back.
    post(sender, "taro@example.net")
    assert claimed(relay) == ["hana@example.net"]
    # The hash holds though the key is a former one by now.
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "new"
    post(sender, "taro@example.net")
    assert claimed(relay) == []
    assert suppressions.of("taro@example.net") == [row]
    assert erasure.erase("nobody@example.net") == 0


def test_who_is_erased_without_a_suppression_is_none(relay: Relay, sender: Sender) -> None:
    post(sender, "taro@example.net")
    erasure.erase("taro@example.net")
    assert not Suppression.objects.exists()
    assert addresses.key("A@b.example") == "a@b.example"
