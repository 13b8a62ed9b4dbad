from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from email import message_from_bytes, policy
from typing import Any

import pytest

from mailhub.lib import clock, signing
from mailhub.relays.base import RelayDown, Reply
from mailhub.relays.models import Relay
from mailhub.relays.providers import memory
from mailhub.watching import alerts, sources, tasks, troubles
from mailhub.watching.models import Alert, Channel, Trouble
from tests.watching.listener import Listener

pytestmark = pytest.mark.django_db
Kind = Trouble.Kind


def break_(number: int = 1, **fields: Any) -> Trouble | None:
    return troubles.report(
        Kind.LISTING, f"192.0.2.{number} zen", {"address": f"192.0.2.{number}", "list": "zen", "reason": "127.0.0.2"}, **fields
    )


def mails(relay: Relay) -> list[Any]:
    return [message_from_bytes(envelope.data, policy=policy.default) for envelope in memory.taken[relay.pk]]


def hooked(listener: Listener, kind: str, **fields: Any) -> Channel:
    return Channel.objects.create(name=kind, kind=kind, url=listener.url, secret=signing.new_secret(), **fields)


def test_what_is_newly_broken_is_told_once_and_that_it_is_good_again_once(relays: tuple[Relay, Relay], channel: Channel) -> None:
    assert break_()
    assert break_() is None
    tasks.tell(channel.pk)
    tasks.tell(channel.pk)
    assert [mail["Subject"] for mail in mails(relays[0])] == ["[MailHub] 192.0.2.1 is on the blocklist zen"]
    assert troubles.clear(Kind.LISTING, "192.0.2.1 zen")
    assert not troubles.clear(Kind.LISTING, "192.0.2.1 zen")
    tasks.tell(channel.pk)
    assert [mail["Subject"] for mail in mails(relays[0])][1:] == ["[MailHub] Good again: 192.0.2.1 is on the blocklist zen"]
    assert [step.deed for step in Trouble.objects.get().steps.all()] == ["opened", "alerted", "closed", "alerted"]
    assert break_()
    tasks.tell(channel.pk)
    assert len(mails(relays[0])) == 3


def test_a_channel_that_is_made_later_or_out_of_use_is_not_told(relays: tuple[Relay, Relay], channel: Channel) -> None:
    Channel.objects.update(active=False)
    break_()
    Channel.objects.update(active=True)
    troubles.clear(Kind.LISTING, "192.0.2.1 zen")
    assert not Alert.objects.exists()


def test_a_mail_says_the_cause_the_next_step_and_where_to_look_in_the_channels_language(
    relays: tuple[Relay, Relay], channel: Channel
) -> None:
    break_()
    tasks.tell(channel.pk)
    text = mails(relays[0])[0].get_content()
    trouble = Trouble.objects.get()
    for words in (
        "The list answers: 127.0.0.2",
        "ask the list to take it off",
        f"http://127.0.0.1:8000/admin/watching/trouble/{trouble.pk}/",
    ):
        assert words in text


def test_a_mail_goes_around_the_relay_in_trouble(relays: tuple[Relay, Relay], channel: Channel) -> None:
    first, second = relays
    break_(relay=first.pk)
    tasks.tell(channel.pk)
    assert (len(mails(first)), len(mails(second))) == (0, 1)


def test_a_mail_takes_the_next_relay_when_one_fails_and_only_those_who_lack_it_get_it_again(
    relays: tuple[Relay, Relay], channel: Channel
) -> None:
    first, second = relays
    Channel.objects.update(to="ops@tea.example\nboss@tea.example")
    down = RelayDown(Reply(421, "", "closing"))
    memory.script[first.pk] += [down]
    memory.script[second.pk] += [Reply(250, "2.0.0", "OK"), down]
    memory.script[first.pk] += [down]
    break_()
    assert tasks.tell(channel.pk) == 0
    channel.refresh_from_db()
    assert "boss@tea.example: Second" in channel.problem and "ops@tea.example" not in channel.problem
    Alert.objects.update(due_at=clock.now())
    assert tasks.tell(channel.pk) == 1
    assert [envelope.rcpt_to for relay in relays for envelope in memory.taken[relay.pk]] == ["boss@tea.example", "ops@tea.example"]
    channel.refresh_from_db()
    assert channel.problem == ""


def test_an_inbox_is_no_way_to_anybody(relays: tuple[Relay, Relay], channel: Channel) -> None:
    Relay.objects.update(do_not_send=True)
    break_()
    assert tasks.tell(channel.pk) == 0
    channel.refresh_from_db()
    assert channel.problem == "ops@tea.example: No relay takes mail at the moment."


def test_more_than_a_channel_wants_an_hour_are_told_in_one(relays: tuple[Relay, Relay], channel: Channel) -> None:
    Channel.objects.update(most=3)
    for number in range(1, 9):
        break_(number)
    assert tasks.tell(channel.pk) == 8
    subjects = [mail["Subject"] for mail in mails(relays[0])]
    assert len(subjects) == 3 and subjects[2] == "[MailHub] 6 more alerts in this hour"
    assert "192.0.2.8 is on the blocklist zen" in mails(relays[0])[2].get_content()
    break_(9)
    break_(10)
    assert tasks.tell(channel.pk) == 0
    Alert.objects.filter(sent_at__isnull=False).update(sent_at=clock.now() - timedelta(minutes=61))
    assert tasks.tell(channel.pk) == 2
    assert len(mails(relays[0])) == 5


def test_a_call_is_signed_by_standard_webhooks(listener: Listener, relays: tuple[Relay, Relay]) -> None:
    channel = hooked(listener, "call")
    break_(tone=Trouble.Tone.BAD)
    assert tasks.tell(channel.pk) == 1
    (post,) = listener.posts
    # As the specification has it, and not by our own module.
    key = base64.b64decode(channel.secret.removeprefix("whsec_"))
    signed = f"{post.fields['webhook-id']}.{post.fields['webhook-timestamp']}.".encode() + post.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert post.fields["webhook-signature"] == f"v1,{expected}"
    said = json.loads(post.body)
    trouble = Trouble.objects.get()
    assert (said["type"], said["data"]["tone"], said["data"]["title"]) == ("alert.opened", "bad", "192.0.2.1 is on the blocklist zen")
    assert said["data"]["troubles"] == [
        {
            "id": trouble.pk, "kind": "listing", "subject": "192.0.2.1 zen", "state": "opened",
            "opened_at": trouble.opened_at.isoformat(), "about": trouble.about,
        }
    ]  # fmt: skip


def test_slack_gets_its_json_and_no_words_of_its_own(listener: Listener, relays: tuple[Relay, Relay]) -> None:
    channel = hooked(listener, "slack")
    troubles.report(Kind.ENDPOINT, "endpoint 1", {"endpoint": "<!channel> & co", "reason": "410 Gone"})
    assert tasks.tell(channel.pk) == 1
    (post,) = listener.posts
    said = json.loads(post.body)
    assert post.fields["content-type"] == "application/json"
    assert said["text"] == "The webhook “&lt;!channel&gt; &amp; co” is switched off"
    (note,) = said["attachments"]
    assert note["color"] == "warning" and "410 Gone" in note["text"] and note["title_link"].endswith("/change/")


def test_a_channel_that_fails_says_so_is_tried_again_and_is_a_trouble_that_others_are_told(
    listener: Listener, relays: tuple[Relay, Relay], channel: Channel
) -> None:
    listener.status = 500
    chat = hooked(listener, "slack")
    break_()
    assert tasks.tell(chat.pk) == 0
    chat.refresh_from_db()
    assert chat.problem == "The other side answered 500: ok" and chat.failed_at
    troubles.settle([Kind.CHANNEL], sources.channels(clock.now()), clock.now())
    trouble = Trouble.objects.get(kind=Kind.CHANNEL)
    assert [alert.channel for alert in trouble.alerts.all()] == [channel]
    assert alerts.due(clock.now()) == [channel.pk]
    listener.status = 200
    Alert.objects.update(due_at=clock.now())
    assert tasks.tell(chat.pk) == 1
    troubles.settle([Kind.CHANNEL], sources.channels(clock.now()), clock.now())
    trouble.refresh_from_db()
    assert trouble.closed_at
    assert len({post.body for post in listener.posts}) == 1


def test_after_a_day_nobody_wants_to_know_any_more(listener: Listener, relays: tuple[Relay, Relay]) -> None:
    listener.status = 500
    chat = hooked(listener, "slack")
    break_()
    Alert.objects.update(made_at=clock.now() - timedelta(hours=25))
    tasks.tell(chat.pk)
    assert Alert.objects.get().gave_up
    Alert.objects.update(due_at=clock.now())
    assert alerts.due(clock.now()) == []


def test_an_address_inside_a_private_network_is_not_called(listener: Listener, relays: tuple[Relay, Relay], settings: Any) -> None:
    settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = []
    chat = hooked(listener, "slack")
    assert "127.0.0.1 is not a public address." in alerts.test(chat)
    assert listener.posts == []


def test_a_test_alert_is_sent_by_a_button_whatever_was_told_this_hour(
    listener: Listener, relays: tuple[Relay, Relay], admin_client: Any
) -> None:
    chat = hooked(listener, "slack", most=1)
    for _time in range(2):
        page = admin_client.post(f"/admin/watching/channel/{chat.pk}/test/", follow=True)
        assert "A test alert was sent." in page.content.decode()
    assert [json.loads(post.body)["text"] for post in listener.posts] == ["Test alert"] * 2
    listener.status = 403
    page = admin_client.post(f"/admin/watching/channel/{chat.pk}/test/", follow=True)
    assert "The other side answered 403: ok" in page.content.decode()


def test_a_channels_secrets_are_written_and_not_shown(relays: tuple[Relay, Relay], admin_client: Any) -> None:
    form = {"name": "Chat", "kind": "call", "active": "on", "wants_alerts": "on", "to": "", "sender": "", "language": "ja", "most": "5"}
    missing = admin_client.post("/admin/watching/channel/add/", {**form, "url": "", "secret": ""}).content.decode()
    assert "Enter the URL that is called." in missing and "Enter a secret" in missing
    secret = signing.new_secret()
    url = "https://hooks.example.com/T000/B000"
    assert admin_client.post("/admin/watching/channel/add/", {**form, "url": url, "secret": secret}).status_code == 302
    channel = Channel.objects.get()
    page = admin_client.get(f"/admin/watching/channel/{channel.pk}/change/").content.decode()
    assert url not in page and secret not in page
    assert (
        admin_client.post(f"/admin/watching/channel/{channel.pk}/change/", {**form, "url": "", "secret": "", "most": "7"}).status_code
        == 302
    )
    channel.refresh_from_db()
    assert (channel.url, channel.secret, channel.most) == (url, secret, 7)
    bad = {**form, "kind": "mail", "to": "nobody", "url": "ftp://x", "secret": "short"}
    page = admin_client.post("/admin/watching/channel/add/", {**bad, "name": "Other"}).content.decode()
    for words in ("nobody: ", "Choose the sender of the mails.", "Enter a whole URL", "A secret is “whsec_”"):
        assert words in page
