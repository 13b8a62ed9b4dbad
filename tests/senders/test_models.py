from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from mailhub.lib.states import WrongState
from mailhub.relays.models import Route, Stream
from mailhub.senders.models import Domain, Sender


def test_a_sender_belongs_to_the_domain_of_its_address(db: None) -> None:
    first = Sender.objects.create(email="shop@tea.example")
    second = Sender.objects.create(email="news@tea.example")
    other = Sender.objects.create(email="shop@mail.tea.example")
    assert first.domain == second.domain != other.domain
    assert list(Domain.objects.values_list("name", flat=True)) == ["mail.tea.example", "tea.example"]
    first.email = "shop@coffee.example"
    first.save()
    assert first.domain.name == "coffee.example"


def test_a_domain_with_senders_stays(db: None) -> None:
    sender = Sender.objects.create(email="shop@tea.example")
    with pytest.raises(ProtectedError):
        sender.domain.delete()


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" Shop@Tea.Example ", "Shop@tea.example"),
        ("shop@日本茶.example", "shop@xn--wgv71aj92d.example"),
        ("tea..shop@docomo.ne.jp", "tea..shop@docomo.ne.jp"),
    ],
)
@pytest.mark.parametrize("field", ["email", "reply_to"])
def test_addresses_are_kept_as_they_go_into_envelopes(db: None, field: str, typed: str, kept: str) -> None:
    sender = Sender(**{"email": "shop@tea.example", field: typed})
    sender.full_clean(exclude=["domain"])
    assert getattr(sender, field) == kept


@pytest.mark.parametrize("field", ["email", "reply_to"])
@pytest.mark.parametrize("typed", ["shop", "shop@", "@tea.example", "a b@tea.example", "shop@tea.example, other@tea.example"])
def test_a_bad_address_is_told_with_its_field(db: None, field: str, typed: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Sender(**{"email": "shop@tea.example", field: typed}).full_clean(exclude=["domain"])
    assert list(caught.value.message_dict) == [field]


@pytest.mark.parametrize("character", ["\r", "\n", "\r\n", "\x0b", "\x85", "\u2028"])
def test_a_name_holds_no_line_break(db: None, character: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Sender(email="shop@tea.example", name=f"Shop{character}Bcc: all@example.net").full_clean(exclude=["domain"])
    assert list(caught.value.message_dict) == ["name"]


def test_who_confirms_is_noted_with_the_time(db: None) -> None:
    sender = Sender.objects.create(email="shop@tea.example")
    assert (sender.status, sender.confirmed_at) == ("unconfirmed", None)
    sender.confirm()
    sender.refresh_from_db()
    assert sender.status == "confirmed" and sender.confirmed_at
    with pytest.raises(WrongState):
        sender.confirm()


def test_the_database_has_each_address_once_and_no_other_state(db: None) -> None:
    Sender.objects.create(email="shop@tea.example")
    for change in (lambda: Sender.objects.create(email="shop@tea.example"), lambda: Sender.objects.update(status="perhaps")):
        with pytest.raises(IntegrityError), transaction.atomic():
            change()


def test_the_route_is_the_senders_own_or_else_the_default(db: None) -> None:
    sender = Sender.objects.create(email="shop@tea.example")
    assert sender.route(Stream.CAMPAIGN) is None
    defaults = {stream: Route.objects.create(name=f"default {stream}", default_for=stream) for stream in Stream}
    own = Route.objects.create(name="own")
    assert {stream: sender.route(stream) for stream in Stream} == defaults
    sender.campaign_route = own
    assert sender.route(Stream.CAMPAIGN) == own
    assert sender.route(Stream.TRANSACTIONAL) == defaults[Stream.TRANSACTIONAL]
    sender.transactional_route = own
    assert sender.route(Stream.TRANSACTIONAL) == own


def test_a_route_in_use_stays(db: None) -> None:
    own = Route.objects.create(name="own")
    Sender.objects.create(email="shop@tea.example", campaign_route=own)
    with pytest.raises(ProtectedError):
        own.delete()


def test_it_is_shown_as_readers_see_it(db: None) -> None:
    assert str(Sender(email="shop@tea.example", name="緑茶堂")) == "緑茶堂 <shop@tea.example>"
    assert str(Sender(email="shop@tea.example")) == "shop@tea.example"
    assert str(Domain(name="tea.example")) == "tea.example"
