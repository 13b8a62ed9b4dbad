from __future__ import annotations

import asyncio
from datetime import timedelta
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from mailhub.delivery.models import Batch, Content
from mailhub.lib import clock
from mailhub.relays import limits
from mailhub.relays.base import Deferred, Envelope, Fault, OutcomeUnknown, Refused, RelayDown, Reply, SendError
from mailhub.relays.models import Quota, Relay, Route, RouteMember, Stream
from mailhub.relays.providers import memory
from mailhub.senders import trial
from mailhub.senders.models import DKIMKey, Domain, Sender
from tests.dns_server import DNSServer
from tests.smtp_server import SMTPServer


@pytest.fixture
def sender(db: None) -> Sender:
    return Sender.objects.create(email="shop@tea.example", name="緑茶堂")


@pytest.fixture
def relay(db: None) -> Relay:
    return Relay.objects.create(name="Post", kind="memory")


@pytest.fixture
def viewer(db: None, client: Client) -> Client:
    """May look at everything, and change nothing."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(user)
    return client


def text(response: Any) -> str:
    return response.content.decode()  # type: ignore[no-any-return]


def change(row: Any) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def deed(sender: Sender, name: str) -> str:
    return reverse(f"admin:senders_sender_{name}", args=[sender.pk])


def given(**changes: Any) -> dict[str, Any]:
    """A sender's form as the browser sends it."""
    empty = ("name", "reply_to", "transactional_route", "campaign_route", "pool", "organisation", "postal_address", "contact_point")
    return {**dict.fromkeys(empty, ""), **changes}


def queries(client: Client, url: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


# ------------------------------------------------------------------------------------------------------------------- senders


def test_a_sender_brings_its_domain(admin_client: Client) -> None:
    page = admin_client.post(reverse("admin:senders_sender_add"), given(email="no address"))
    assert "is not a mail address" in text(page) and not Domain.objects.exists()
    admin_client.post(reverse("admin:senders_sender_add"), given(email="news@Tea.Example", name="緑茶堂"))
    sender = Sender.objects.get()
    assert (sender.email, sender.domain.name, sender.status) == ("news@tea.example", "tea.example", "unconfirmed")


def test_another_address_is_another_sender(admin_client: Client, sender: Sender) -> None:
    sender.confirm()
    admin_client.post(change(sender), given(email="ceo@bank.example", name="Green tea"))
    sender.refresh_from_db()
    assert (sender.email, sender.name, sender.status) == ("shop@tea.example", "Green tea", "confirmed")


def test_saving_undoes_no_deed_done_meanwhile(admin_client: Client, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    sender.confirm()
    save = Sender.save

    def late(self: Sender, *args: Any, **kwargs: Any) -> None:
        Sender.objects.get(pk=self.pk).disable()
        save(self, *args, **kwargs)

    monkeypatch.setattr(Sender, "save", late)
    admin_client.post(change(sender), given(name="Green tea"))
    sender.refresh_from_db()
    assert (sender.name, sender.status) == ("Green tea", "disabled")


def test_staff_confirm_and_the_history_tells_who(admin_client: Client, sender: Sender) -> None:
    assert "nobody has shown that the address is yours" in text(admin_client.get(change(sender)))
    assert admin_client.get(deed(sender, "confirm")).status_code == 405
    assert "1 sender may send now." in text(admin_client.post(deed(sender, "confirm"), follow=True))
    sender.refresh_from_db()
    assert sender.status == "confirmed" and sender.confirmed_at
    entry = LogEntry.objects.get()
    assert entry.user.get_username() == "admin" and "Confirmed by admin" in entry.get_change_message()
    assert "Nothing was done" in text(admin_client.post(deed(sender, "confirm"), follow=True))
    assert LogEntry.objects.count() == 1


def test_disabling_asks_first(admin_client: Client, sender: Sender) -> None:
    sender.confirm()
    assert "Disable shop@tea.example?" in text(admin_client.get(deed(sender, "disable")))
    sender.refresh_from_db()
    assert sender.status == "confirmed"
    admin_client.post(deed(sender, "disable"))
    sender.refresh_from_db()
    assert sender.status == "disabled"
    assert "Nothing was done" in text(admin_client.post(deed(sender, "disable"), follow=True))
    page = text(admin_client.get(change(sender)))
    assert "Use it again" in page and deed(sender, "disable") not in page


def test_the_list_confirms_several_and_disables_several_once_it_was_asked(admin_client: Client, sender: Sender) -> None:
    other = Sender.objects.create(email="news@tea.example")
    other.confirm()
    url = reverse("admin:senders_sender_changelist")
    chosen = {"_selected_action": [sender.pk, other.pk]}
    page = text(admin_client.post(url, {**chosen, "action": "confirm"}, follow=True))
    assert "1 sender may send now." in page and "Nothing was done: news@tea.example is confirmed already." in page
    asked = admin_client.post(url, {**chosen, "action": "disable"})
    assert "Disable 2 senders?" in text(asked) and "shop@tea.example" in text(asked)
    assert set(Sender.objects.values_list("status", flat=True)) == {"confirmed"}
    # What the page that asks sends on.
    for field in ('name="action" value="disable"', 'name="sure" value="1"', f'name="_selected_action" value="{other.pk}"'):
        assert field in text(asked), field
    page = text(admin_client.post(url, {**chosen, "action": "disable", "sure": "1"}, follow=True))
    assert "2 senders are disabled." in page
    assert set(Sender.objects.values_list("status", flat=True)) == {"disabled"}


def test_the_page_tells_how_mail_leaves_and_what_campaigns_lack(admin_client: Client, sender: Sender) -> None:
    page = text(admin_client.get(change(sender)))
    assert page.count("no route: it waits") == 2
    assert "until this is filled in: organisation, postal address, contact for complaints." in page
    Route.objects.create(name="Orders", default_for=Stream.TRANSACTIONAL)
    own = Route.objects.create(name="Letters")
    Sender.objects.update(campaign_route=own, organisation="緑茶堂", postal_address="Uji", contact_point=" ")
    page = text(admin_client.get(change(sender)))
    assert "Orders" in page and "no route: it waits" not in page
    assert "until this is filled in: contact for complaints." in page
    assert "Act on Regulation of Transmission of Specified Electronic Mail" in page


def test_the_list_of_senders_takes_a_bounded_number_of_queries(admin_client: Client, sender: Sender) -> None:
    url = reverse("admin:senders_sender_changelist")
    route = Route.objects.create(name="Letters")
    Sender.objects.update(campaign_route=route)
    page = text(admin_client.get(url))
    assert "default route" in page and "Letters" in page
    few = queries(admin_client, url)
    for number in range(5):
        Sender.objects.create(email=f"s{number}@d{number}.example", transactional_route=route)
    # The filter by domain shows once there are two.
    assert queries(admin_client, url) <= few + 1


def test_a_sender_that_has_sent_stays(admin_client: Client, sender: Sender) -> None:
    content = Content.objects.create(from_email=sender.email)
    for number in range(5):
        Batch.objects.create(name=f"Batch {number}", content=content, sender=sender)
    url = reverse("admin:senders_sender_delete", args=[sender.pk])
    page = text(admin_client.get(url))
    assert "Batches: “" in page and "and 2 more" in page and "Disable it instead" in page
    admin_client.post(url, {"post": "yes"})
    assert Sender.objects.exists()
    Batch.objects.all().delete()
    admin_client.post(url, {"post": "yes"})
    assert not Sender.objects.exists()


# ------------------------------------------------------------------------------------------------------------------- domains


@pytest.mark.parametrize(("typed", "kept"), [("Tea.Example.", "tea.example"), ("緑茶.example", "xn--vg0am4i.example")])
def test_a_domain_is_added_by_hand(admin_client: Client, typed: str, kept: str) -> None:
    admin_client.post(reverse("admin:senders_domain_add"), {"name": typed})
    assert Domain.objects.get().name == kept
    # The sender's domain is this one.
    Sender.objects.create(email=f"shop@{kept}")
    assert Domain.objects.count() == 1


@pytest.mark.parametrize("name", ["shop@tea.example", "tea example", "-tea.example", "https://tea.example/", "tea..example"])
def test_what_is_no_domain_is_refused(admin_client: Client, name: str) -> None:
    page = text(admin_client.post(reverse("admin:senders_domain_add"), {"name": name}))
    assert "is not a domain. Write it as example.com." in page
    assert not Domain.objects.exists()


def test_a_domain_lists_its_senders_and_goes_after_them(admin_client: Client, sender: Sender) -> None:
    page = text(admin_client.get(change(sender.domain)))
    assert change(sender) in page and "shop@tea.example" in page
    admin_client.post(change(sender.domain), {"name": "other.example"})
    sender.domain.refresh_from_db()
    assert sender.domain.name == "tea.example"
    assert f"?domain__id__exact={sender.domain_id}" in text(admin_client.get(reverse("admin:senders_domain_changelist")))
    url = reverse("admin:senders_domain_delete", args=[sender.domain_id])
    assert "Senders: “緑茶堂 &lt;shop@tea.example&gt;”" in text(admin_client.get(url))
    DKIMKey.make(sender.domain)
    sender.delete()
    assert dict(admin_client.get(url).context["model_count"]) == {"domains": 1, "DKIM keys": 1}
    admin_client.post(url, {"post": "yes"})
    assert not Domain.objects.exists()


# -------------------------------------------------------------------------------------------------------------------- routes


def members(*rows: tuple[Relay, int, int]) -> dict[str, Any]:
    fields: dict[str, Any] = {"members-TOTAL_FORMS": len(rows), "members-INITIAL_FORMS": 0}
    for place, (relay, position, weight) in enumerate(rows):
        fields |= {f"members-{place}-relay": relay.pk, f"members-{place}-position": position, f"members-{place}-weight": weight}
    return fields


def test_a_route_is_made_with_its_relays(admin_client: Client, relay: Relay) -> None:
    spare = Relay.objects.create(name="Spare", kind="memory")
    fields = {"name": "Letters", "default_for": "campaign", **members((relay, 1, 3), (spare, 2, 1))}
    admin_client.post(reverse("admin:relays_route_add"), fields)
    route = Route.objects.get()
    assert [(member.relay.name, member.position, member.weight) for member in route.members.all()] == [("Post", 1, 3), ("Spare", 2, 1)]
    other = admin_client.post(reverse("admin:relays_route_add"), {**fields, "name": "Other"})
    assert "That is “Letters” already. Take it away there first." in text(other)
    admin_client.post(reverse("admin:relays_route_add"), {**fields, "name": "Other", "default_for": ""})
    assert Route.objects.get(name="Other").default_for is None


def test_a_relay_stands_in_a_route_once(admin_client: Client, relay: Relay) -> None:
    fields = {"name": "Letters", "default_for": "", **members((relay, 1, 1), (relay, 2, 1))}
    assert "Please correct the duplicate" in text(admin_client.post(reverse("admin:relays_route_add"), fields))
    assert not Route.objects.exists()


def way(page: str) -> list[str]:
    """The picture of a route in words: a line for each step, "*" where mail goes now."""
    lines = []
    for step in page.split('<ol class="way">')[1].split("</ol>")[0].split("<li")[1:]:
        words = " ".join(part.split(">")[-1].strip() for part in step.split("<") if part.split(">")[-1].strip())
        lines.append(("* " if step.startswith(' class="serves"') else "") + words)
    return lines


def test_the_picture_shows_which_way_mail_goes_now(admin_client: Client, relay: Relay) -> None:
    route = Route.objects.create(name="Letters", default_for=Stream.CAMPAIGN)
    second, third = Relay.objects.create(name="Second", kind="memory"), Relay.objects.create(name="Third", kind="memory")
    for member, position, weight in ((relay, 1, 3), (second, 1, 1), (third, 2, 1)):
        RouteMember.objects.create(route=route, relay=member, position=position, weight=weight)
    url = reverse("admin:relays_route_changelist")
    for place in (url, change(route)):
        page = text(admin_client.get(place))
        assert way(page) == ["* Post 75 % Second 25 %", "Third"]
        assert "default for campaigns" in page
    second.pause()
    assert way(text(admin_client.get(url))) == ["* Post 100 % Second paused", "Third"]
    relay.rest(timezone.timedelta(minutes=1), "why")
    assert way(text(admin_client.get(url))) == ["Post 75 % resting Second 25 % paused", "* Third"]
    third.pause()
    assert not any(line.startswith("*") for line in way(text(admin_client.get(url))))


def test_a_route_names_the_senders_that_use_it_in_a_bounded_number_of_queries(admin_client: Client, relay: Relay) -> None:
    route = Route.objects.create(name="Letters")
    RouteMember.objects.create(route=route, relay=relay)
    url = reverse("admin:relays_route_changelist")
    Sender.objects.create(email="s0@tea.example", campaign_route=route, transactional_route=route)
    few = queries(admin_client, url)
    for number in range(1, 5):
        Sender.objects.create(email=f"s{number}@tea.example", campaign_route=route)
        other = Route.objects.create(name=f"Route {number}")
        RouteMember.objects.create(route=other, relay=relay)
    assert queries(admin_client, url) == few
    page = text(admin_client.get(url))
    assert page.count("s0@tea.example") == 1 and "s2@tea.example" in page and "and 2 more" in page
    assert "s4@tea.example" in text(admin_client.get(change(route)))


def test_a_route_in_use_is_not_deleted(admin_client: Client, sender: Sender, relay: Relay) -> None:
    route = Route.objects.create(name="Letters")
    RouteMember.objects.create(route=route, relay=relay)
    Sender.objects.update(campaign_route=route, transactional_route=route)
    url = reverse("admin:relays_route_delete", args=[route.pk])
    page = text(admin_client.get(url))
    assert page.count("Senders: “") == 1 and "another route" in page
    admin_client.post(url, {"post": "yes"})
    Sender.objects.update(campaign_route=None, transactional_route=None)
    assert Route.objects.exists()
    assert dict(admin_client.get(url).context["model_count"])["routes"] == 1
    admin_client.post(url, {"post": "yes"})
    assert not Route.objects.exists() and Relay.objects.exists()


# --------------------------------------------------------------------------------------------------------- trying a relay out


def trial_of(relay: Relay) -> str:
    return reverse("admin:senders_sender_trial", args=[relay.pk])


def test_a_test_mail_goes_straight_over_the_relay(admin_client: Client, sender: Sender, relay: Relay) -> None:
    sender.confirm()
    Quota.objects.create(relay=relay, limit=10)
    relay.rest(timezone.timedelta(minutes=5), "no connection")
    assert trial_of(relay) in text(admin_client.get(change(relay)))
    form = text(admin_client.get(trial_of(relay)))
    assert 'value="admin@example.com"' in form
    page = text(admin_client.post(trial_of(relay), {"sender": sender.pk, "to": "Taro@EXAMPLE.net"}))
    assert "The relay accepted it." in page and "250 2.0.0 kept in memory" in page
    (envelope,) = memory.taken[relay.pk]
    assert (envelope.mail_from, envelope.rcpt_to) == ("shop@tea.example", "Taro@example.net")
    assert envelope.data.isascii() and envelope.data.endswith(b"\r\n") and b"\n" not in envelope.data.replace(b"\r\n", b"")
    mail = message_from_bytes(envelope.data, policy=default)
    assert mail["From"] == "緑茶堂 <shop@tea.example>" and "Post" in mail["Subject"] and mail["Message-ID"].endswith("@tea.example>")
    relay.refresh_from_db()
    assert relay.resting_until is None
    assert limits.left(relay, clock.now())[0].used == 1
    assert "Taro@example.net" in LogEntry.objects.get().get_change_message()


def test_a_test_mail_is_signed_like_others(sender: Sender, relay: Relay) -> None:
    DKIMKey.make(sender.domain).sign_from_now_on()
    trial.send(relay, sender, "taro@example.net")
    assert memory.taken[relay.pk][0].data.startswith(b"DKIM-Signature: ")


def test_a_relay_entered_in_the_admin_is_tried_over_a_socket(admin_client: Client, sender: Sender) -> None:
    sender.confirm()
    with SMTPServer(users={"shop": "open-sesame"}, auth_needs_tls=False) as server:
        entered = {
            "name": "Local", "max_connections": 5, "first_retry": 60, "host": "127.0.0.1", "port": server.port, "security": "none",
            "username": "shop", "password": "open-sesame", "auth_method": "auto", "allow_insecure_auth": "on",
            "messages_per_connection": 100, "connection_age": 300, "patience": 30, "final_timeout": 60,
            "quotas-TOTAL_FORMS": 0, "quotas-INITIAL_FORMS": 0, "plans-TOTAL_FORMS": 0, "plans-INITIAL_FORMS": 0,
        }  # fmt: skip
        assert admin_client.post(reverse("admin:relays_relay_add") + "?kind=smtp", entered).status_code == 302
        relay = Relay.objects.get()
        given = {"sender": sender.pk, "to": "taro@example.net"}
        page = text(admin_client.post(trial_of(relay), given))
        assert "The relay accepted it." in page, page
        (mail,) = server.mails
        assert (mail.user, mail.mail_from, mail.rcpt_to) == ("shop", "shop@tea.example", ("taro@example.net",))
        assert "緑茶堂" in str(message_from_bytes(mail.data, policy=default)["From"])
        server.users = {"shop": "another"}
        page = text(admin_client.post(trial_of(relay), given))
        assert "The relay could not be used." in page and "535" in page and "open-sesame" not in page
    assert "The relay could not be used." in text(admin_client.post(trial_of(relay), given))


REPLY = Reply(550, "5.7.1", "not from here")


@pytest.mark.parametrize(
    ("error", "words", "used"),
    [
        (Refused(REPLY, Fault.RECIPIENT), "The relay works, but refuses this recipient.", 0),
        (Refused(REPLY, Fault.SENDER), "The relay refuses this sender.", 0),
        (Refused(REPLY, Fault.CONTENT), "The relay refuses the mail.", 0),
        (Deferred(REPLY), "The relay refuses the mail for now.", 0),
        (RelayDown(REPLY), "The relay could not be used.", 0),
        (OutcomeUnknown(REPLY), "The connection ended before the relay answered", 1),
    ],
)
def test_what_goes_wrong_is_told_in_words(
    admin_client: Client, sender: Sender, relay: Relay, error: SendError, words: str, used: int
) -> None:
    sender.confirm()
    Quota.objects.create(relay=relay, limit=10)
    memory.script[relay.pk].append(error)
    page = text(admin_client.post(trial_of(relay), {"sender": sender.pk, "to": "taro@example.net"}))
    assert words in page and "550 5.7.1 not from here" in page
    assert words in LogEntry.objects.get().get_change_message()
    # What surely has not left does not count.
    assert limits.left(relay, clock.now())[0].used == used


def test_a_relay_that_never_answers_is_waited_for_no_longer_than_the_page(
    admin_client: Client, sender: Sender, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(self: Any, envelope: Envelope) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    sender.confirm()
    monkeypatch.setattr(trial, "PATIENCE", 0.05)
    monkeypatch.setattr(memory.MemorySession, "send", silent)
    page = text(admin_client.post(trial_of(relay), {"sender": sender.pk, "to": "taro@example.net"}))
    assert "The relay gave no answer" in page


def test_a_used_up_quota_holds_for_test_mails_too(admin_client: Client, sender: Sender, relay: Relay) -> None:
    sender.confirm()
    Quota.objects.create(relay=relay, limit=1)
    given = {"sender": sender.pk, "to": "taro@example.net"}
    admin_client.post(trial_of(relay), given)
    assert "quota is used up" in text(admin_client.post(trial_of(relay), given))
    assert len(memory.taken[relay.pk]) == 1


def test_only_confirmed_senders_and_real_addresses_are_tried(admin_client: Client, sender: Sender, relay: Relay) -> None:
    page = text(admin_client.post(trial_of(relay), {"sender": sender.pk, "to": "taro@example.net"}))
    assert "Select a valid choice" in page
    sender.confirm()
    assert "is not a mail address" in text(admin_client.post(trial_of(relay), {"sender": sender.pk, "to": "taro"}))
    assert not memory.taken[relay.pk] and not LogEntry.objects.exists()


# ---------------------------------------------------------------------------------------------------------------- permissions


def test_who_may_only_look_sees_no_forms(viewer: Client, sender: Sender, relay: Relay) -> None:
    route = Route.objects.create(name="Letters")
    page = text(viewer.get(change(sender)))
    assert "shop@tea.example" in page and deed(sender, "confirm") not in page and 'name="_save"' not in page
    assert trial_of(relay) not in text(viewer.get(change(relay)))
    assert 'name="members-0' not in text(viewer.get(change(route)))
    for url in (deed(sender, "confirm"), deed(sender, "disable"), trial_of(relay)):
        assert viewer.post(url, {"sender": sender.pk, "to": "a@example.net"}).status_code == 403
    assert viewer.get(deed(sender, "disable")).status_code == 403
    for action in ("confirm", "disable"):
        chosen = {"action": action, "_selected_action": [sender.pk], "sure": "1"}
        viewer.post(reverse("admin:senders_sender_changelist"), chosen)
    sender.refresh_from_db()
    assert sender.status == "unconfirmed" and not memory.taken[relay.pk]


def test_strangers_are_sent_to_the_log_in(client: Client, sender: Sender, relay: Relay) -> None:
    for url in (deed(sender, "confirm"), deed(sender, "disable"), trial_of(relay), change(sender), change(sender.domain)):
        for method in (client.get, client.post):
            response = method(url)
            assert response.status_code == 302 and "/login/" in response["Location"]


def test_pages_obey_our_policy(admin_client: Client, sender: Sender, relay: Relay) -> None:
    route = Route.objects.create(name="Letters", default_for=Stream.CAMPAIGN)
    RouteMember.objects.create(route=route, relay=relay)
    places = [reverse(f"admin:{name}_changelist") for name in ("senders_sender", "senders_domain", "relays_route")]
    places += [reverse(f"admin:{name}_add") for name in ("senders_sender", "senders_domain", "relays_route")]
    places += [change(sender), change(sender.domain), change(route), deed(sender, "disable"), trial_of(relay)]
    for url in places:
        response = admin_client.get(url)
        assert response.status_code == 200
        for inline in (" style=", "<style", " onclick", "javascript:"):
            assert inline not in text(response), (url, inline)


def test_pages_with_nothing_on_them_open(admin_client: Client) -> None:
    for name in ("senders_sender", "senders_domain", "relays_route"):
        assert admin_client.get(reverse(f"admin:{name}_changelist")).status_code == 200


# ------------------------------------------------------------------------------------------------------------------- domains


def domain_deed(domain: Domain, name: str, *more: int) -> str:
    return reverse(f"admin:senders_domain_{name}", args=[domain.pk, *more])


def test_a_domain_that_was_not_looked_up_says_so(admin_client: Client, sender: Sender) -> None:
    assert "have not been looked up yet" in text(admin_client.get(change(sender.domain)))
    assert "not looked up" in text(admin_client.get(reverse("admin:senders_domain_changelist")))


def test_a_domains_page_says_what_to_publish(admin_client: Client, sender: Sender, dns_server: DNSServer) -> None:
    page = text(admin_client.post(domain_deed(sender.domain, "check"), follow=True))
    assert "Something is to be done: SPF" in page
    assert "v=spf1 ~all" in page
    assert "No DMARC policy holds for the domain." in page
    assert '<span class="badge wrong">' in text(admin_client.get(reverse("admin:senders_domain_changelist")))


def test_a_key_is_made_published_and_signs(admin_client: Client, sender: Sender, dns_server: DNSServer) -> None:
    page = text(admin_client.post(domain_deed(sender.domain, "make_key"), {"algorithm": "rsa-sha256"}, follow=True))
    key = DKIMKey.objects.get()
    record = key.record()
    assert record.value.replace("+", "&#x2B;") in page or record.value in page
    assert f"&quot;{record.strings[1]}&quot;" in page
    page = text(admin_client.post(domain_deed(sender.domain, "sign", key.pk), follow=True))
    assert "every signature would fail" in page
    dns_server.add(record.name, "TXT", " ".join(f'"{string}"' for string in record.strings))
    page = text(admin_client.post(domain_deed(sender.domain, "sign", key.pk), follow=True))
    assert "signed with it from now on" in page
    key.refresh_from_db()
    assert key.status == DKIMKey.Status.SIGNING


def test_a_key_is_retired_after_a_question(admin_client: Client, sender: Sender, dns_server: DNSServer) -> None:
    key = DKIMKey.make(sender.domain)
    key.sign_from_now_on()
    url = domain_deed(sender.domain, "retire", key.pk)
    assert "leaves unsigned" in text(admin_client.get(url))
    key.refresh_from_db()
    assert key.status == DKIMKey.Status.SIGNING
    page = text(admin_client.post(url, follow=True))
    key.refresh_from_db()
    assert key.status == DKIMKey.Status.RETIRED
    assert "Leave its record in the DNS for a week" in page
    assert "retired already" in text(admin_client.post(url, follow=True))


def test_an_unknown_algorithm_makes_no_key(admin_client: Client, sender: Sender) -> None:
    assert admin_client.post(domain_deed(sender.domain, "make_key"), {"algorithm": "rsa-sha1"}).status_code == 400
    assert not DKIMKey.objects.exists()


@pytest.mark.parametrize("name", ["check", "make_key", "sign", "retire"])
def test_who_may_only_look_changes_no_domain(viewer: Client, sender: Sender, name: str) -> None:
    key = DKIMKey.make(sender.domain)
    more = [key.pk] if name in ("sign", "retire") else []
    assert viewer.post(domain_deed(sender.domain, name, *more), {"algorithm": "rsa-sha256"}).status_code == 403
    assert "Look the records up now" not in text(viewer.get(change(sender.domain)))
    assert DKIMKey.objects.count() == 1


# ----------------------------------------------------------------------------------------------------------- testing a connection


def test_a_connection_is_tested_step_by_step(admin_client: Client, sender: Sender) -> None:
    with SMTPServer() as server:
        options = {"host": "127.0.0.1", "port": server.port, "security": "none"}
        relay = Relay.objects.create(name="Post", kind="smtp", options=options)
        url = reverse("admin:senders_sender_connection", args=[relay.pk])
        assert url in text(admin_client.get(change(relay)))
        assert "Goes as far as a mail would" in text(admin_client.get(url))
        page = text(admin_client.post(url, {"sender": sender.pk}))
        assert "The server lets us in and takes mail from this sender." in page
        assert "MAIL FROM:&lt;shop@tea.example&gt;" in page
        assert server.mails == []
    page = text(admin_client.post(url, {"sender": sender.pk}))
    assert "The machine is there, but no mail server listens on that port." in page


def test_who_may_not_change_relays_tests_no_connection(viewer: Client, relay: Relay) -> None:
    assert viewer.get(reverse("admin:senders_sender_connection", args=[relay.pk])).status_code == 403


def test_a_resting_relay_says_what_its_reason_means(admin_client: Client, relay: Relay) -> None:
    relay.rest(timedelta(minutes=5), "535 5.7.8 Username and Password not accepted")
    assert "User name or password is wrong." in text(admin_client.get(change(relay)))
