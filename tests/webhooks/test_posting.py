"""What is posted to whom, when it is tried again, and that nothing is lost or told twice on the way."""

from __future__ import annotations

from datetime import timedelta

import pytest
from anymail.signals import EventType, RejectReason
from django.db import connection
from pytest_django import DjangoAssertNumQueries
from pytest_django.fixtures import Settings

from mailhub.delivery.models import Event, Message
from mailhub.lib import clock
from mailhub.lib.states import WrongState
from mailhub.senders.models import Sender
from mailhub.supervisor import Posting
from mailhub.webhooks import log, outbox, posting, tasks
from mailhub.webhooks.models import Delivery, Endpoint
from tests.delivery import world
from tests.installation import free_ports, until
from tests.webhooks.conftest import happen
from tests.webhooks.receiver import Heard, Receiver
from transactional.models import Project, Submission

pytestmark = pytest.mark.django_db


def later(endpoint: Endpoint) -> None:
    """The wait after a failure is over."""
    Endpoint.objects.filter(pk=endpoint.pk).update(next_attempt_at=clock.now() - timedelta(seconds=1))
    posting.post_due()
    endpoint.refresh_from_db()


def log_of(endpoint: Endpoint) -> list[tuple[str, int, int | None]]:
    return list(endpoint.deliveries.order_by("first_event", "pk").values_list("status", "count", "response_status"))


def test_what_happens_is_posted_in_its_order(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    keys = happen(message, "sent", "deferred", "delivered", "opened")
    assert posting.is_due()
    assert posting.post_due() is False
    (heard,) = receiver.taken
    assert heard.keys == keys
    assert heard.payload["type"] == "events"
    assert [event["type"] for event in heard.payload["data"]] == ["sent", "deferred", "delivered", "opened"]
    assert heard.id == str(Delivery.objects.get().public_id)
    assert log_of(endpoint) == [("delivered", 4, 204)]
    endpoint.refresh_from_db()
    assert (endpoint.cursor, endpoint.lease, endpoint.tries) == (keys[-1], None, 0)
    assert endpoint.succeeded_at
    assert not posting.is_due()


def test_an_event_says_what_the_documentation_promises(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    happen(message, "bounced", detail="550 5.1.1 User unknown", kind="hard", category="user_unknown")
    happen(message, "clicked", detail="https://tea.example/", kind="machine")
    posting.post_due()
    bounced, clicked = receiver.taken[0].payload["data"]
    stored = Event.objects.earliest("pk")
    assert bounced == {
        "event_id": str(stored.pk),
        "type": "bounced",
        "timestamp": outbox.stamp(stored.at),
        "message_id": str(message.public_id),
        "submission_id": str(message.content.public_id),
        "recipient": "taro@example.net",
        "stream": "transactional",
        "reject_reason": "bounced",
        "bounce": "hard",
        "category": "user_unknown",
        "mta_response": "550 5.1.1 User unknown",
        "click_url": None,
        "by_machine": False,
        "tags": [],
        "metadata": {},
    }
    assert (clicked["click_url"], clicked["by_machine"], clicked["mta_response"]) == ("https://tea.example/", True, None)


def test_every_category_and_type_has_a_reason_that_anymail_knows() -> None:
    assert {getattr(RejectReason, name.upper()) for name in outbox.REASONS.values()} == set(outbox.REASONS.values())
    assert set(Event.Type.values) <= {value for name, value in vars(EventType).items() if name.isupper()}


def test_what_was_before_the_endpoint_is_not_told(message: Message, receiver: Receiver) -> None:
    happen(message, "sent")
    endpoint = Endpoint.objects.create(name="New", url=receiver.url)
    receiver.secrets = [endpoint.secret]
    posting.post_due()
    assert receiver.heard == []
    (key,) = happen(message, "delivered")
    posting.post_due()
    assert receiver.keys == [key]


def test_only_what_the_filter_names_is_told(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    Endpoint.objects.update(types=["bounced", "complained"])
    happen(message, "sent")
    posting.post_due()
    assert receiver.heard == []
    assert not Delivery.objects.exists()
    assert not posting.is_due()
    keys = happen(message, "delivered", "bounced", "opened", "complained")
    posting.post_due()
    assert receiver.keys == [keys[1], keys[3]]


def test_a_project_hears_of_its_own_mail_alone(endpoint: Endpoint, sender: Sender, receiver: Receiver) -> None:
    project = Project.objects.create(name="Tea shop")
    Endpoint.objects.update(project_ref=project.pk)
    own, other, campaign = world.post(sender, "a@example.net")[0], world.post(sender, "b@example.net")[0], world.make_batch(sender, 1)
    Submission.objects.create(project=project, content=own.content, via="api", accepted_at=clock.now())
    Submission.objects.create(content=other.content, via="api", accepted_at=clock.now())
    happen(other, "sent")
    (key,) = happen(own, "delivered")
    happen(campaign.messages.get(), "sent")
    posting.post_due()
    assert receiver.keys == [key]
    assert not posting.is_due()


def test_many_events_make_full_posts_and_a_handful_of_queries(
    endpoint: Endpoint,
    message: Message,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    monkeypatch.setattr(outbox, "MOST", 40)
    keys = happen(message, *["opened"] * 100)
    # Keys that other tests have used up are behind it.
    Endpoint.objects.update(cursor=keys[0] - 1)
    with django_assert_max_num_queries(90):
        posting.post_due()
    assert [len(heard.keys) for heard in receiver.taken] == [40, 40, 20]
    assert receiver.keys == keys


def test_a_post_is_no_larger_than_its_receivers_can_be_asked_to_take(
    endpoint: Endpoint, message: Message, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LARGEST", 1_200)
    keys = happen(message, *["delivered"] * 5, detail="2" * 300)
    posting.post_due()
    assert [len(heard.keys) for heard in receiver.taken] == [1, 1, 1, 1, 1]
    assert receiver.keys == keys


# --------------------------------------------------------------------------------------------------------------------- failures


def test_what_was_not_taken_is_posted_again_before_anything_else(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    receiver.answers = [503]
    first = happen(message, "sent")
    before = clock.now()
    posting.post_due()
    endpoint.refresh_from_db()
    assert (endpoint.tries, endpoint.status, log_of(endpoint)) == (1, "active", [("pending", 1, 503)])
    assert "503" in endpoint.problem
    assert endpoint.failing_since
    assert endpoint.next_attempt_at
    assert endpoint.next_attempt_at >= before + posting.FIRST * 0.8
    then = happen(message, "delivered")
    posting.post_due()
    assert len(receiver.heard) == 1, "it is left alone for a while"
    later(endpoint)
    assert receiver.keys == [*first, *then]
    refused, taken, next = receiver.heard
    assert (refused.id, refused.payload) == (taken.id, taken.payload)
    assert next.id != taken.id
    assert (endpoint.tries, endpoint.problem) == (0, "")
    assert not endpoint.failing_since
    assert log_of(endpoint) == [("delivered", 1, 204), ("delivered", 1, 204)]
    assert Delivery.objects.earliest("pk").tries == 2


def test_the_other_side_may_ask_for_a_longer_wait(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    receiver.answers, receiver.fields = [429], {"Retry-After": "3600"}
    happen(message, "sent")
    before = clock.now()
    posting.post_due()
    endpoint.refresh_from_db()
    assert endpoint.next_attempt_at
    assert timedelta(minutes=59) < endpoint.next_attempt_at - before < timedelta(hours=2)


def test_an_endpoint_that_takes_nothing_for_days_is_disabled_and_keeps_its_place(
    endpoint: Endpoint, message: Message, receiver: Receiver
) -> None:
    receiver.always = 500
    keys = happen(message, "sent")
    posting.post_due()
    Endpoint.objects.update(failing_since=clock.now() - posting.GIVE_UP + timedelta(minutes=1))
    later(endpoint)
    assert endpoint.status == "active"
    Endpoint.objects.update(failing_since=clock.now() - posting.GIVE_UP)
    later(endpoint)
    assert endpoint.status == "disabled"
    assert not posting.is_due()
    keys += happen(message, "delivered")
    receiver.always = 204
    endpoint.resume()
    posting.post_due()
    assert receiver.keys == keys


def test_one_that_says_it_is_gone_is_disabled_at_once(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    receiver.answers = [410]
    happen(message, "sent")
    posting.post_due()
    endpoint.refresh_from_db()
    assert endpoint.status == "disabled"
    assert "410" in endpoint.problem


def test_where_nobody_listens_the_reason_is_told(endpoint: Endpoint, message: Message) -> None:
    (port,) = free_ports(1)
    Endpoint.objects.update(url=f"http://127.0.0.1:{port}/")
    happen(message, "sent")
    posting.post_due()
    endpoint.refresh_from_db()
    assert "127.0.0.1" in endpoint.problem
    assert log_of(endpoint) == [("pending", 1, None)]


def test_a_private_address_is_not_posted_to(endpoint: Endpoint, message: Message, receiver: Receiver, settings: Settings) -> None:
    settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = []
    happen(message, "sent")
    posting.post_due()
    endpoint.refresh_from_db()
    assert "not a public address" in endpoint.problem
    assert receiver.heard == []


def test_a_redirect_is_not_followed(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    receiver.answers, receiver.fields = [302], {"Location": receiver.url}
    happen(message, "sent")
    posting.post_due()
    assert len(receiver.heard) == 1
    assert log_of(endpoint) == [("pending", 1, 302)]


def test_one_event_that_is_refused_by_itself_is_found_and_passed_over(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    keys = happen(message, *["opened"] * 9)
    bad = keys[4]
    receiver.always = lambda heard: 422 if bad in heard.keys else 204
    for _try in range(posting.SUSPECT + 2):
        later(endpoint)
        if not posting.is_due() and not endpoint.tries:
            break
    assert receiver.keys == [key for key in keys if key != bad]
    assert [count for status, count, _answer in log_of(endpoint) if status == "refused"] == [1]
    assert Delivery.objects.get(status="refused").first_event == bad
    assert endpoint.status == "active"
    assert len({heard.id for heard in receiver.heard}) == len({tuple(heard.keys) for heard in receiver.heard}), "an id says one thing"


def test_an_endpoint_that_finds_fault_with_everything_loses_nothing(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    keys = happen(message, *["opened"] * 4)
    receiver.always = 400
    for _try in range(12):
        later(endpoint)
    assert endpoint.tries >= 10
    assert not Delivery.objects.exclude(status="pending").exists()
    receiver.always = 204
    for _try in range(5):
        later(endpoint)
    assert sorted(receiver.keys) == keys


def test_of_an_answer_the_beginning_is_kept(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    receiver.answers, receiver.words = [500], "\0件名" * 5_000
    happen(message, "sent")
    posting.post_due()
    delivery = Delivery.objects.get()
    assert len(delivery.response_body) == posting.KEPT
    assert delivery.response_body.startswith("件名")
    assert delivery.seconds is not None


def test_events_that_were_forgotten_before_they_were_taken_are_passed_over(
    endpoint: Endpoint, message: Message, receiver: Receiver
) -> None:
    receiver.answers = [500]
    happen(message, "sent")
    posting.post_due()
    Event.objects.all().delete()
    keys = happen(message, "delivered")
    later(endpoint)
    assert receiver.keys == keys
    assert log_of(endpoint) == [("refused", 1, 500), ("delivered", 1, 204)]


# ----------------------------------------------------------------------------------------------------------------------- sharing


def test_what_was_made_by_a_process_that_died_is_posted_by_the_next(
    endpoint: Endpoint, message: Message, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*args: object) -> None:
        raise RuntimeError("killed")

    keys = happen(message, "sent", "delivered")
    with monkeypatch.context() as patch:
        patch.setattr(posting, "settle", die)
        patch.setattr(posting, "rest", lambda *args: None)
        patch.setattr(posting, "release", lambda endpoint: None)
        posting.post_due()
    assert receiver.keys == keys
    assert posting.post_due() is False
    assert len(receiver.heard) == 1, "the dead one's lease still holds"
    Endpoint.objects.update(leased_until=clock.now() - timedelta(seconds=1))
    posting.post_due()
    assert [heard.keys for heard in receiver.heard] == [keys, keys]
    assert receiver.heard[0].id == receiver.heard[1].id
    assert log_of(endpoint) == [("delivered", 2, 204)]


def test_a_process_whose_lease_was_taken_over_writes_nothing_more(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    (key,) = happen(message, "sent")
    (held,) = posting.lease_due()
    found = outbox.read(key - 1, key, outbox.Filter())
    delivery = posting.keep(held, found)
    Endpoint.objects.update(leased_until=clock.now() - timedelta(seconds=1))
    (other,) = posting.lease_due()
    assert other.lease != held.lease
    with pytest.raises(posting.LeaseLost):
        posting.settle(held, delivery, found, posting.Answer(204, "", "", 0.1))
    with pytest.raises(posting.LeaseLost):
        posting.keep(held, found)
    assert log_of(endpoint) == [("pending", 1, None)]
    posting.release(held)
    assert Endpoint.objects.get().lease == other.lease


def test_staff_who_pause_an_endpoint_are_obeyed_after_the_post_that_is_under_way(
    endpoint: Endpoint, message: Message, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST", 1)
    keys = happen(message, "sent", "delivered")
    settle = posting.settle

    def pausing(*args: object) -> bool:
        Endpoint.objects.get().pause()
        return settle(*args)

    monkeypatch.setattr(posting, "settle", pausing)
    posting.post_due()
    assert receiver.keys == keys[:1]
    assert log_of(endpoint) == [("delivered", 1, 204)]
    assert Endpoint.objects.get().status == "paused"


def test_one_that_does_not_answer_holds_up_no_other(
    endpoint: Endpoint, message: Message, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers only when the other has taken what there was, or not at all."""
    monkeypatch.setattr(outbox, "MOST", 2)
    keys = happen(message, *["opened"] * 6)
    with Receiver() as slow:
        other = Endpoint.objects.create(name="Slow", url=slow.url, cursor=keys[0] - 1)
        slow.secrets = [other.secret]

        def last(heard: Heard) -> int:
            until(lambda: len(receiver.keys) == 6)
            return 204

        slow.answers = [last]
        posting.post_due()
        assert receiver.keys == slow.keys == keys


def test_one_whose_secret_no_key_opens_holds_up_no_other(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    locked = Endpoint.objects.create(name="Locked", url=receiver.url)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE webhooks_endpoint SET secret = 'gAAAA' WHERE id = %s", [locked.pk])
    keys = happen(message, "sent")
    posting.post_due()
    assert receiver.keys == keys
    problem, tries, next_attempt_at = Endpoint.objects.values_list("problem", "tries", "next_attempt_at").get(pk=locked.pk)
    assert "MAILHUB_ENCRYPTION_KEYS" in problem
    assert (tries, bool(next_attempt_at)) == (1, True)


# ----------------------------------------------------------------------------------------------------------------------- by hand


def test_a_test_event_is_told_from_a_real_one(endpoint: Endpoint, receiver: Receiver) -> None:
    assert posting.test(endpoint).taken
    (heard,) = receiver.taken
    assert (heard.payload["type"], heard.payload["data"][0]["metadata"]) == ("test", {"test": "true"})
    assert log_of(endpoint) == [("delivered", 1, 204)]
    receiver.always = 500
    assert not posting.test(endpoint).taken
    assert log_of(endpoint)[-1] == ("refused", 1, 500)
    assert not posting.is_due()


def test_a_post_of_old_is_posted_again_under_its_id(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    keys = happen(message, "sent", "delivered")
    posting.post_due()
    happen(message, "opened")
    assert posting.post_now(Delivery.objects.get()).taken
    first, again = receiver.heard
    assert (first.id, first.payload) == (again.id, again.payload)
    assert again.keys == keys
    receiver.always = 500
    assert not posting.post_now(Delivery.objects.get()).taken
    assert Delivery.objects.get().status == "delivered"


def test_what_was_forgotten_cannot_be_posted_again(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    happen(message, "sent")
    posting.post_due()
    Event.objects.all().delete()
    assert "forgotten" in posting.post_now(Delivery.objects.get()).problem
    assert len(receiver.heard) == 1


def test_a_copy_of_an_installation_posts_nothing(endpoint: Endpoint, message: Message, receiver: Receiver, settings: Settings) -> None:
    settings.MAILHUB_DO_NOT_SEND = True
    happen(message, "sent")
    tasks.tick()
    tasks.post_webhooks()
    assert "MAILHUB_DO_NOT_SEND" in posting.test(endpoint).problem
    assert receiver.heard == []


# ----------------------------------------------------------------------------------------------------------------- the rest of it


def test_while_a_secret_is_changed_both_sign(endpoint: Endpoint, receiver: Receiver) -> None:
    old = endpoint.secret
    new = endpoint.rotate()
    for secrets in ([old], [new]):
        receiver.secrets = secrets
        assert posting.test(Endpoint.objects.get()).taken
    Endpoint.objects.update(old_secret_until=clock.now())
    receiver.secrets = [old]
    assert not posting.test(Endpoint.objects.get()).taken
    assert receiver.unsigned == 1


def test_a_secret_is_ciphertext_in_the_database(endpoint: Endpoint) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM webhooks_endpoint")
        assert "whsec_" not in cursor.fetchone()[0]


def test_a_tick_wakes_the_posting_only_when_there_is_something(
    endpoint: Endpoint, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr("mailhub.lib.tasks.enqueue", lambda task, *ids, queue: asked.append((task, queue)))
    tasks.tick()
    assert asked == []
    happen(message, "sent")
    tasks.tick()
    assert asked == [("mailhub.webhooks.tasks.post_webhooks", "maintenance")]


def test_a_slice_that_ends_too_soon_asks_to_be_called_again(
    endpoint: Endpoint, message: Message, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("mailhub.lib.tasks.enqueue", lambda task, *ids, queue: asked.append(task))
    happen(message, "sent")
    with monkeypatch.context() as patch:
        patch.setattr(posting, "SLICE", -1.0)
        tasks.post_webhooks()
    assert asked == ["mailhub.webhooks.tasks.post_webhooks"]
    assert receiver.heard == []
    tasks.post_webhooks()
    assert len(asked) == len(receiver.heard) == 1


def test_a_supervisor_posts_until_it_is_asked_to_stop(endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    happen(message, "sent")
    Posting().round()
    assert len(receiver.taken) == 1
    happen(message, "delivered")
    stopping = Posting()
    stopping.over = True
    stopping.round()
    assert len(receiver.heard) == 1


@pytest.mark.parametrize("status", ["active", "paused", "disabled"])
def test_what_waits_is_passed_over_and_what_happens_next_is_told(
    endpoint: Endpoint, message: Message, receiver: Receiver, status: str
) -> None:
    receiver.answers = [500]
    happen(message, "sent")
    posting.post_due()
    happen(message, "deferred", "deferred")
    Endpoint.objects.filter(pk=endpoint.pk).update(status=status)
    assert posting.skip(endpoint) == (1, 2)
    assert log_of(endpoint) == [("refused", 1, 500)]
    endpoint.refresh_from_db()
    assert (endpoint.status, endpoint.tries) == (status, 1 if status == "disabled" else 0)
    if status != "active":
        endpoint.resume()
    happen(message, "delivered")
    posting.post_due()
    assert [event["type"] for event in receiver.taken[-1].payload["data"]] == ["delivered"]


def test_who_posts_while_what_waits_is_passed_over_writes_nothing_more(endpoint: Endpoint, message: Message) -> None:
    happen(message, "sent")
    (held,) = posting.lease_due()
    posting.skip(endpoint)
    with pytest.raises(posting.LeaseLost):
        posting.pending(held)


def test_the_log_is_forgotten_in_time_but_for_what_still_waits(endpoint: Endpoint) -> None:
    for status, days in [("delivered", 8), ("delivered", 6), ("refused", 8), ("refused", 31), ("pending", 99)]:
        delivery = Delivery.objects.create(endpoint=endpoint, status=status)
        Delivery.objects.filter(pk=delivery.pk).update(created_at=clock.now() - timedelta(days=days))
    assert log.forget() == 2
    assert sorted(Delivery.objects.values_list("status", flat=True)) == ["delivered", "pending", "refused"]


@pytest.mark.parametrize("source", Endpoint.Status)
@pytest.mark.parametrize("verb", ["pause", "resume", "disable"])
def test_an_endpoint_moves_as_its_table_says(db: None, source: str, verb: str) -> None:
    target = {"pause": "paused", "resume": "active", "disable": "disabled"}[verb]
    endpoint = Endpoint.objects.create(name="A", url="https://a.example/", status=source)
    arguments = ["gone"] if verb == "disable" else []
    if target in Endpoint.MOVES[source]:
        getattr(endpoint, verb)(*arguments)
        assert Endpoint.objects.get().status == target
    else:
        with pytest.raises(WrongState):
            getattr(endpoint, verb)(*arguments)
        assert Endpoint.objects.get().status == source
