"""What staff do with webhooks."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from pytest_django.fixtures import Settings

from mailhub.delivery.models import Event, Message
from mailhub.webhooks import posting
from mailhub.webhooks.models import Delivery, Endpoint
from tests.webhooks.conftest import happen
from tests.webhooks.receiver import Receiver
from transactional.models import Project

pytestmark = pytest.mark.django_db
LIST = "/admin/webhooks/endpoint/"


def page(endpoint: Endpoint, deed: str = "change") -> str:
    return f"{LIST}{endpoint.pk}/{deed}/"


def said(response: Any) -> str:
    return re.sub(r"\s+", " ", response.content.decode())


@pytest.fixture
def person(client: Client) -> Callable[..., Client]:
    def person(*codenames: str) -> Client:
        user = User.objects.create_user("taro", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(user)
        return client

    return person


def test_the_list_counts_what_waits_and_not_what_was_taken(admin_client: Client) -> None:
    for name, states in (("Busy", ["pending", "pending", "delivered", "refused"]), ("Idle", ["delivered"])):
        endpoint = Endpoint.objects.create(name=name, url="https://shop.example/mail/")
        Delivery.objects.bulk_create(Delivery(endpoint=endpoint, status=state) for state in states)
    changelist = admin_client.get(LIST).context_data["cl"]
    assert {endpoint.name: endpoint.pending for endpoint in changelist.result_list} == {"Busy": 2, "Idle": 0}


def test_a_webhook_is_added_and_its_secret_shown_to_be_passed_on(admin_client: Client) -> None:
    project = Project.objects.create(name="Tea shop")
    form = {"name": "Shop", "url": "https://shop.example/mail/", "project_ref": project.pk, "types": ["bounced", "delivered"]}
    added = admin_client.post(f"{LIST}add/", form, follow=True)
    endpoint = Endpoint.objects.get()
    assert (endpoint.url, endpoint.project_ref, endpoint.types) == ("https://shop.example/mail/", project.pk, ["bounced", "delivered"])
    assert added.redirect_chain[-1][0] == page(endpoint)
    assert endpoint.secret not in said(added)
    assert endpoint.secret in said(admin_client.post(page(endpoint, "secret")))
    assert "secret was shown" in LogEntry.objects.latest("pk").get_change_message()
    assert "Tea shop" in said(admin_client.get(LIST))


def test_none_of_the_events_and_no_project_are_all_of_them(admin_client: Client) -> None:
    admin_client.post(f"{LIST}add/", {"name": "All", "url": "https://shop.example/"})
    assert Endpoint.objects.values_list("project_ref", "types").get() == (None, [])
    assert "All mail" in said(admin_client.get(LIST))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://shop.example/", "begins with https://"),
        ("https://", "begins with https://"),
        ("https://shop.example/件名", "ASCII"),
        ("https://user:password@shop.example/", "signature"),
        ("https://10.0.0.1/", "MAILHUB_ALLOW_PRIVATE_ADDRESSES"),
        ("https://[::ffff:10.0.0.1]/", "MAILHUB_ALLOW_PRIVATE_ADDRESSES"),
        ("https://shop.example:port/", "valid URL"),
    ],
)
def test_a_url_that_cannot_be_posted_to_is_refused_with_the_remedy(admin_client: Client, url: str, words: str) -> None:
    assert words in said(admin_client.post(f"{LIST}add/", {"name": "Shop", "url": url}))
    assert not Endpoint.objects.exists()


def test_a_machine_of_the_own_network_may_have_a_plain_name(admin_client: Client) -> None:
    admin_client.post(f"{LIST}add/", {"name": "Shop", "url": "http://web:8000/mail/"})
    assert Endpoint.objects.get().url == "http://web:8000/mail/"


def test_saving_the_form_leaves_alone_what_the_posting_writes(
    admin_client: Client, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = posting.Endpoint.full_clean

    def meanwhile(self: Endpoint, *args: Any, **kwargs: Any) -> None:
        Endpoint.objects.update(cursor=77, tries=3, status="disabled")
        clean(self, *args, **kwargs)

    monkeypatch.setattr(Endpoint, "full_clean", meanwhile)
    admin_client.post(page(endpoint), {"name": "Other", "url": endpoint.url})
    assert Endpoint.objects.values_list("name", "cursor", "tries", "status").get() == ("Other", 77, 3, "disabled")


def test_a_test_event_tells_at_once_what_became_of_it(admin_client: Client, endpoint: Endpoint, receiver: Receiver) -> None:
    assert "answered 204" in said(admin_client.post(page(endpoint, "test"), follow=True))
    receiver.always = 500
    assert "The other side answered 500." in said(admin_client.post(page(endpoint, "test"), follow=True))
    assert len(receiver.heard) == 2


def test_what_waits_is_passed_over_after_a_question(admin_client: Client, endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    receiver.answers = [500]
    happen(message, "sent")
    posting.post_due()
    happen(message, "deferred", "delivered")
    assert "Pass over what waits…" in said(admin_client.get(page(endpoint)))
    asked = said(admin_client.get(page(endpoint, "skip")))
    assert "1 event that was posted and not taken is not posted any more. Of 2 events that have happened since" in asked
    endpoint.refresh_from_db()
    assert endpoint.tries == 1
    assert "nothing that happened before now" in said(admin_client.post(page(endpoint, "skip"), follow=True))
    posting.post_due()
    assert len(receiver.heard) == 1


def test_an_endpoint_is_paused_and_resumed(admin_client: Client, endpoint: Endpoint) -> None:
    admin_client.post(page(endpoint, "pause"))
    assert Endpoint.objects.get().status == "paused"
    assert "Nothing was done" in said(admin_client.post(page(endpoint, "pause"), follow=True))
    admin_client.post(page(endpoint, "resume"))
    assert Endpoint.objects.get().status == "active"


def test_a_disabled_one_says_why_and_what_to_do(admin_client: Client, endpoint: Endpoint, message: Message, receiver: Receiver) -> None:
    receiver.always = 410
    happen(message, "sent")
    posting.post_due()
    words = said(admin_client.get(page(endpoint)))
    assert "The other side answered 410." in words
    assert "resume" in words
    assert "disabled" in said(admin_client.get(LIST))


def test_the_secret_is_changed_after_a_question(admin_client: Client, endpoint: Endpoint) -> None:
    old = endpoint.secret
    assert "for a day" in said(admin_client.get(page(endpoint, "rotate")))
    assert Endpoint.objects.get().secret == old
    words = said(admin_client.post(page(endpoint, "rotate")))
    assert (new := Endpoint.objects.get().secret) != old
    assert new in words
    assert old not in words


def test_the_log_shows_each_post_with_its_answer_and_posts_it_again(
    admin_client: Client, endpoint: Endpoint, message: Message, receiver: Receiver
) -> None:
    receiver.always, receiver.words = 500, "<script>oops</script>"
    happen(message, "sent")
    posting.post_due()
    delivery = Delivery.objects.get()
    assert "500" in said(admin_client.get("/admin/webhooks/delivery/"))
    words = said(admin_client.get(f"/admin/webhooks/delivery/{delivery.pk}/change/"))
    assert "&lt;script&gt;oops" in words
    assert "<script>oops" not in words
    receiver.always = 204
    assert "answered 204" in said(admin_client.post(f"/admin/webhooks/delivery/{delivery.pk}/post/", follow=True))
    assert Delivery.objects.get().status == "delivered"
    assert not posting.is_due()
    Event.objects.all().delete()
    assert "forgotten" in said(admin_client.post(f"/admin/webhooks/delivery/{delivery.pk}/post/", follow=True))
    found = said(admin_client.get("/admin/webhooks/delivery/", {"q": str(delivery.public_id)}))
    assert str(delivery.public_id) in found
    assert admin_client.get("/admin/webhooks/delivery/", {"q": "nonsense"}).status_code == 200


@pytest.mark.parametrize("deed", ["pause", "resume", "test", "secret"])
def test_deeds_are_for_posts_alone(admin_client: Client, endpoint: Endpoint, deed: str) -> None:
    assert admin_client.get(page(endpoint, deed)).status_code == 405


@pytest.mark.parametrize("deed", ["pause", "resume", "test", "skip", "secret", "rotate"])
def test_who_may_only_look_does_nothing_and_sees_no_secret(
    person: Callable[..., Client], endpoint: Endpoint, receiver: Receiver, deed: str, settings: Settings
) -> None:
    client = person("view_endpoint", "view_delivery")
    assert client.post(page(endpoint, deed)).status_code == 403
    words = said(client.get(page(endpoint)))
    assert endpoint.secret not in words
    assert "Send a test event" not in words
    assert receiver.heard == []


def test_secrets_are_encrypted_anew_with_the_others(endpoint: Endpoint, settings: Settings) -> None:
    endpoint.rotate()
    before = Endpoint.objects.values_list("secret", "old_secret").get()
    new = Fernet.generate_key().decode()
    settings.MAILHUB_ENCRYPTION_KEYS = [new, *settings.MAILHUB_ENCRYPTION_KEYS]
    call_command("rotate_keys", stdout=StringIO())
    settings.MAILHUB_ENCRYPTION_KEYS = [new]
    assert Endpoint.objects.values_list("secret", "old_secret").get() == before
