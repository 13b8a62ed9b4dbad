from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from django.db import connection
from django.utils import timezone

from campaigns import audience, launch, subscriptions, tasks
from campaigns.models import Campaign, Consent, Contact, LeftOut, MailingList, Subscription
from mailhub.delivery import prepare, workers
from mailhub.delivery.models import Batch, Message, Suppression
from tests.campaigns.conftest import FORM, Join

postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'")


def without_consent(email: str, *lists: MailingList) -> Contact:
    contact = Contact.objects.create(email=email)
    for each in lists:
        Subscription.objects.create(contact=contact, list=each, changed_at=timezone.now())
    return contact


def launched(campaign: Campaign) -> Batch:
    return launch.launch(campaign, None)


def addresses(batch: Batch) -> list[str]:
    return sorted(batch.messages.values_list("address", flat=True))


def reasons(campaign: Campaign) -> dict[str, str]:
    return dict(campaign.left_out.values_list("contact__email", "reason"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of three, so that a handful of contacts is several."""
    monkeypatch.setattr(audience, "FIRST", 3)
    monkeypatch.setattr(audience, "CHUNK", {"postgresql": 3, "sqlite": 3})


def people(join: Join, count: int, *lists: MailingList) -> list[Contact]:
    return [join(f"person{number:03}@example.net", *lists) for number in range(count)]


def test_everybody_with_consent_gets_one_message_with_their_data(campaign: Campaign, news: MailingList, join: Join) -> None:
    contact = join("hana@example.net", news, name="花", city="京都", email_="x")
    batch = launched(campaign)
    audience.expand(batch.pk)
    (message,) = batch.messages.all()
    assert (message.address, message.recipient_ref, message.status, message.stream) == (
        "hana@example.net", contact.pk, "queued", "campaign",
    )  # fmt: skip
    assert message.data == {"city": "京都", "email_": "x", "email": "hana@example.net", "name": "花", "language": ""}
    assert (message.content, message.sender, message.attempts, message.lease) == (batch.content, campaign.sender, 0, None)
    assert message.expires_at > message.created_at and message.next_attempt_at <= timezone.now()
    batch.refresh_from_db()
    assert (batch.waiting, batch.filled, batch.status) == (1, True, "running")
    mail = prepare.Compiled(batch.content).envelope(message).data
    assert f"List-Unsubscribe: <{message.unsubscribe_url}>".encode() in mail


def test_each_message_knows_whose_servers_it_goes_to(campaign: Campaign, news: MailingList, join: Join) -> None:
    for email in ("a@gmail.com", "b@docomo.ne.jp", "c@tea.example"):
        join(email, news)
    batch = launched(campaign)
    audience.expand(batch.pk)
    assert dict(batch.messages.values_list("address", "destination_id")) == {
        "a@gmail.com": "gmail",
        "b@docomo.ne.jp": "docomo",
        "c@tea.example": "other",
    }


@postgresql
def test_public_ids_of_a_chunk_lie_side_by_side(campaign: Campaign, news: MailingList, join: Join) -> None:
    for number in range(3):
        join(f"p{number}@example.net", news)
    audience.expand(launched(campaign).pk)
    found = [message.public_id for message in Message.objects.all()]
    assert {each.version for each in found} == {7} and len(set(found)) == 3
    assert len({each.hex[:12] for each in found}) == 1
    assert abs(int(found[0].hex[:12], 16) / 1000 - time.time()) < 3600


def test_an_attribute_does_not_replace_the_address(campaign: Campaign, news: MailingList, join: Join) -> None:
    contact = join("hana@example.net", news, name="花")
    Contact.objects.filter(pk=contact.pk).update(attributes={"email": "other@example.net", "name": "X"})
    batch = launched(campaign)
    audience.expand(batch.pk)
    assert batch.messages.get().data == {"email": "hana@example.net", "name": "花", "language": ""}


def test_a_contact_of_several_lists_gets_one_mail(campaign: Campaign, news: MailingList, offers: MailingList, join: Join) -> None:
    campaign.lists.add(offers)
    join("a@example.net", news, offers)
    join("b@example.net", offers)
    batch = launched(campaign)
    audience.expand(batch.pk)
    assert addresses(batch) == ["a@example.net", "b@example.net"]


def test_who_is_left_out_stands_there_with_the_weightiest_reason(
    campaign: Campaign, news: MailingList, offers: MailingList, join: Join
) -> None:
    campaign.lists.add(offers)
    other = MailingList.objects.create(name="Other")
    join("fine@example.net", news)
    without_consent("silent@example.net", news)
    subscriptions.unsubscribe(join("gone@example.net", news), [news], FORM)
    bad = join("bad@example.net", news)
    Suppression.objects.create(address=bad.email, reason="bounce")
    complained = subscriptions.unsubscribe(join("spam@example.net", news), [news], FORM)
    assert complained == [news]
    Suppression.objects.create(address="spam@example.net", scope="campaign", reason="complaint")
    # Left one list, without consent on the other; left one, agreed to the other.
    torn = without_consent("torn@example.net", offers)
    subscriptions.subscribe(torn, [news], Consent.Basis.OPT_IN, FORM)
    subscriptions.unsubscribe(torn, [news], FORM)
    subscriptions.unsubscribe(join("half@example.net", news, offers), [news], FORM)
    join("stranger@example.net", other)
    before = audience.count(campaign)
    batch = launched(campaign)
    audience.expand(batch.pk)
    assert addresses(batch) == ["fine@example.net", "half@example.net"]
    assert reasons(campaign) == {
        "silent@example.net": "no_consent",
        "gone@example.net": "unsubscribed",
        "torn@example.net": "unsubscribed",
        "bad@example.net": "suppressed",
        "spam@example.net": "suppressed",
    }
    assert (before.recipients, before.left_out) == (2, {"no_consent": 1, "unsubscribed": 2, "suppressed": 2})


@pytest.mark.usefixtures("small")
def test_chunks_of_several_lists_meet_everybody_once(campaign: Campaign, news: MailingList, offers: MailingList, join: Join) -> None:
    campaign.lists.add(offers)
    contacts = [join(f"p{number:02}@example.net", *([news] if number % 3 else [offers, news])) for number in range(20)]
    contacts += [join(f"q{number:02}@example.net", offers) for number in range(7)]
    assert sorted(contact.email for contact in audience.recipients(campaign)) == sorted(contact.email for contact in contacts)
    batch = launched(campaign)
    audience.expand(batch.pk)
    assert addresses(batch) == sorted(contact.email for contact in contacts)
    batch.refresh_from_db()
    assert (batch.waiting, batch.filled) == (27, True)


@pytest.mark.usefixtures("small")
@pytest.mark.django_db(transaction=True)
def test_an_expansion_that_dies_between_or_within_chunks_neither_skips_nor_doubles(
    campaign: Campaign, news: MailingList, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    contacts = people(join, 11, news)
    without_consent("silent@example.net", news)
    batch = launched(campaign)
    beats = iter([True])

    def die_at_the_second() -> bool:
        return next(beats)

    monkeypatch.setattr(workers, "beat", die_at_the_second)
    with pytest.raises(StopIteration):
        audience.expand(batch.pk)
    assert batch.messages.count() == 6

    def die(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(audience, "_count_in", die)  # after the rows, before the cursor
        with pytest.raises(KeyboardInterrupt):
            audience.expand(batch.pk)
    assert batch.messages.count() == 6
    monkeypatch.setattr(workers, "beat", lambda: True)
    audience.expand(batch.pk)
    audience.expand(batch.pk)
    assert addresses(batch) == [contact.email for contact in contacts]
    assert reasons(campaign) == {"silent@example.net": "no_consent"}
    batch.refresh_from_db()
    assert (batch.waiting, batch.filled) == (11, True)


@pytest.mark.usefixtures("small")
@pytest.mark.django_db(transaction=True)
def test_two_expansions_at_once_share_the_work(campaign: Campaign, news: MailingList, join: Join) -> None:
    contacts = people(join, 40, news)
    batch = launched(campaign)
    failures = []

    def expand() -> None:
        try:
            audience.expand(batch.pk)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=expand) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert addresses(batch) == [contact.email for contact in contacts]
    batch.refresh_from_db()
    assert (batch.waiting, batch.filled) == (40, True)


@pytest.mark.usefixtures("small")
@pytest.mark.django_db(transaction=True)
def test_who_unsubscribes_while_the_audience_grows_gets_nothing(campaign: Campaign, news: MailingList, join: Join) -> None:
    contacts = people(join, 40, news)
    batch = launched(campaign)
    start = threading.Barrier(2)
    failures = []

    def run(work: object) -> None:
        try:
            start.wait()
            work()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001
            failures.append(error)
        finally:
            connection.close()

    def leave() -> None:
        for contact in reversed(contacts):
            subscriptions.unsubscribe(contact, [news], FORM)

    threads = [threading.Thread(target=run, args=[work]) for work in (leave, lambda: audience.expand(batch.pk))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert not Message.objects.filter(status="queued").exists()
    made = Counter(Message.objects.values_list("status", flat=True))
    assert made["suppressed"] + campaign.left_out.filter(reason="unsubscribed").count() == 40
    batch.refresh_from_db()
    assert (batch.waiting, batch.suppressed, batch.filled) == (0, made["suppressed"], True)


@pytest.mark.usefixtures("small")
@pytest.mark.django_db(transaction=True)
def test_a_worker_that_must_stop_hands_the_rest_on(
    campaign: Campaign, news: MailingList, join: Join, monkeypatch: pytest.MonkeyPatch, asked: list[tuple[str, tuple[int, ...]]]
) -> None:
    people(join, 8, news)
    batch = launched(campaign)
    asked.clear()
    monkeypatch.setattr(workers, "beat", lambda: False)
    audience.expand(batch.pk)
    assert batch.messages.count() == 3
    assert ("campaigns.tasks.expand", (batch.pk,)) in asked


@pytest.mark.usefixtures("small")
def test_a_canceled_batch_grows_no_further_and_a_paused_one_does(campaign: Campaign, news: MailingList, join: Join) -> None:
    people(join, 8, news)
    batch = launched(campaign)
    assert audience.grow(campaign, 3)
    campaign.pause()
    assert audience.grow(campaign, 3)
    assert batch.messages.count() == 6
    campaign.cancel()
    assert not audience.grow(campaign, 3)
    assert batch.messages.count() == 6


@pytest.mark.django_db(transaction=True)
def test_what_is_canceled_while_it_grows_takes_nothing_in(
    campaign: Campaign, news: MailingList, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(join, 4, news)
    batch = launched(campaign)
    insert = "_insert_select" if connection.vendor == "postgresql" else "_insert"
    original = getattr(audience, insert)

    def cancel_then_insert(*args: object) -> object:
        made = original(*args)
        Batch.objects.filter(pk=batch.pk).update(status="canceled")
        return made

    monkeypatch.setattr(audience, insert, cancel_then_insert)
    audience.expand(batch.pk)
    assert not batch.messages.exists()


def test_a_batch_ends_when_everybody_has_left_meanwhile(campaign: Campaign, news: MailingList, join: Join) -> None:
    contact = join("a@example.net", news)
    batch = launched(campaign)
    subscriptions.unsubscribe(contact, [news], FORM)
    audience.expand(batch.pk)
    batch.refresh_from_db()
    assert (batch.status, batch.filled, batch.total) == ("done", True, 0)
    assert batch.finished_at


@postgresql
@pytest.mark.django_db(transaction=True)
def test_the_walk_uses_its_index_on_a_large_list(campaign: Campaign, news: MailingList, offers: MailingList, join: Join) -> None:
    MailingList.objects.bulk_create(MailingList(name=f"Other {number}") for number in range(6))
    consent = subscriptions._record(join("a@example.net"), news, "opt_in", FORM)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO campaigns_contact (public_id, email, name, language, attributes, created_at)"
            " SELECT gen_random_uuid(), 'c' || n || '@example.net', '', '', '{}', now() FROM generate_series(1, 20000) n"
        )
        cursor.execute(
            "INSERT INTO campaigns_subscription (contact_id, list_id, status, consent_id, changed_at)"
            " SELECT c.id, l.id, 'subscribed', %s, now() FROM campaigns_contact c, campaigns_mailinglist l",
            [consent.pk],
        )
        cursor.execute(
            "INSERT INTO delivery_suppression (address, scope, reason, detail, created_at)"
            " SELECT 's' || n || '@example.net', 'all', 'bounce', '', now() FROM generate_series(1, 20000) n"
        )
        cursor.execute("VACUUM ANALYZE campaigns_contact, campaigns_subscription, delivery_suppression")
    lists = [news.pk, offers.pk]
    # From the middle of two among several lists.
    middle = Contact.objects.order_by("pk")[10_000].pk
    bound = Subscription.objects.filter(list=news, contact_id__gt=middle).order_by("contact_id").values_list("contact_id")[499:500]
    plan = bound.explain()
    assert "Index Only Scan using campaigns_subscription_walk" in plan and "Sort" not in plan
    upto = audience._bound(lists, middle, 500)
    plan = audience._judged(lists, middle, upto).explain()
    assert "campaigns_subscription_walk" in plan, plan
    assert "Seq Scan" not in plan, plan


def test_a_lost_wake_up_is_found_by_the_tick(
    campaign: Campaign, news: MailingList, join: Join, asked: list[tuple[str, tuple[int, ...]]]
) -> None:
    join("a@example.net", news)
    batch = launched(campaign)
    asked.clear()
    tasks.tick()
    assert asked == []
    Campaign.objects.update(filling_at=timezone.now() - tasks.SILENCE * 2)
    tasks.tick()
    tasks.tick()
    assert asked == [("campaigns.tasks.expand", (batch.pk,))]
    tasks.expand(batch.pk)
    Campaign.objects.update(filling_at=timezone.now() - tasks.SILENCE * 2)
    asked.clear()
    tasks.tick()
    assert asked == []
    assert not LeftOut.objects.exists()
