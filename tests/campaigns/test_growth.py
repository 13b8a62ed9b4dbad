"""What is noted of lists day by day agrees with their subscriptions, however these come and go."""

from __future__ import annotations

import io
import random
from datetime import date, timedelta

import pytest
from django.utils import timezone

from campaigns import growth, imports, subscriptions, tasks
from campaigns.imports import Terms
from campaigns.models import Contact, Growth, MailingList, Subscription
from tests.campaigns.conftest import FORM, Join


def noted(mailing_list: MailingList, since: date | None = None) -> tuple[int, int, int]:
    """subscribed, joined, left"""
    found = MailingList.objects.with_growth(since or timezone.localdate()).get(pk=mailing_list.pk)
    return (found.subscribed, found.joined, found.left)


def take_in(text: str, mailing_list: MailingList) -> None:
    imports.read(io.BytesIO(text.encode()), "fair.csv", Terms(mailing_list, "opt_in", "fair", "I agree", None))


def test_who_joins_and_who_leaves_is_noted_once(news: MailingList, offers: MailingList, join: Join) -> None:
    assert noted(news) == (0, 0, 0)
    hana = join("hana@example.net", news, offers)
    join("hana@example.net", news)
    join("taro@example.net", news)
    assert (noted(news), noted(offers)) == ((2, 2, 0), (1, 1, 0))
    for _time in range(2):
        subscriptions.unsubscribe(hana, [news, offers], FORM)
    assert (noted(news), noted(offers)) == ((1, 2, 1), (0, 1, 1))
    join("hana@example.net", news)
    assert noted(news) == (2, 3, 1)


def test_of_an_import_those_are_noted_who_were_not_on_the_list(news: MailingList, join: Join) -> None:
    join("hana@example.net", news)
    subscriptions.unsubscribe(join("gone@example.net", news), [news], FORM)
    silent = Contact.objects.create(email="silent@example.net")
    Subscription.objects.create(contact=silent, list=news, changed_at=timezone.now())
    growth.recount(news)
    before = noted(news)
    text = "email\nhana@example.net\ngone@example.net\nsilent@example.net\nnew@example.net\n"
    take_in(text, news)
    assert noted(news) == (before[0] + 1, before[1] + 1, before[2])
    take_in(text, news)
    assert noted(news)[0] == before[0] + 1


def test_who_is_deleted_has_left(news: MailingList, join: Join) -> None:
    subscriptions.forget(join("hana@example.net", news))
    assert noted(news) == (0, 1, 1)
    assert growth.audit() == []


def test_days_are_told_apart(news: MailingList, join: Join) -> None:
    today = timezone.localdate()
    old = join("old@example.net", news)
    Growth.objects.update(day=today - timedelta(days=40))
    join("new@example.net", news)
    subscriptions.unsubscribe(old, [news], FORM)
    assert noted(news) == (1, 1, 1)
    assert noted(news, today - timedelta(days=40)) == (1, 2, 1)
    weeks = growth.weeks(news)
    assert len(weeks) == growth.WEEKS
    assert (weeks[-1].joined, weeks[-1].left) == (1, 1)
    assert sum(week.joined for week in weeks) == 2
    (joining,) = (week for week in weeks[:-1] if week.joined)
    assert joining.start <= today - timedelta(days=40) < joining.start + timedelta(weeks=1)


def test_counting_anew_comes_to_the_same_subscribers(news: MailingList, offers: MailingList, join: Join) -> None:
    subscriptions.unsubscribe(join("gone@example.net", news, offers), [news], FORM)
    join("hana@example.net", news)
    for each in (news, offers):
        growth.recount(each)
    assert (noted(news), noted(offers)) == ((1, 2, 1), (1, 1, 0))


def test_lists_that_count_otherwise_are_told_and_put_right(
    news: MailingList, offers: MailingList, join: Join, caplog: pytest.LogCaptureFixture
) -> None:
    join("hana@example.net", news, offers)
    assert tasks.audit() == []
    Growth.objects.filter(list=news).update(joined=5)
    assert tasks.audit() == [news.pk]
    assert "(5, 1)" in caplog.text
    assert noted(news) == (1, 1, 0)
    assert tasks.audit() == []


@pytest.mark.parametrize("seed", range(5))
def test_whatever_people_do_the_books_balance(news: MailingList, offers: MailingList, join: Join, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    lists = [news, offers]
    for _step in range(40):
        address = f"p{chance.randrange(6)}@example.net"
        some = chance.sample(lists, chance.choice([1, 2]))
        contact = Contact.objects.filter(email=address).first()
        match chance.choice(["join", "join", "leave", "import", "forget"]):
            case "join":
                join(address, *some)
            case "leave" if contact:
                subscriptions.unsubscribe(contact, some, FORM)
            case "import":
                people = chance.sample(range(6), 3)
                take_in("email\n" + "".join(f"p{number}@example.net\n" for number in people), some[0])
            case "forget" if contact:
                subscriptions.forget(contact)
        for each in lists:
            subscribed = Subscription.objects.filter(list=each, status="subscribed").count()
            assert noted(each)[0] == subscribed, (seed, each)
