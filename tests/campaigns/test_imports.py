from __future__ import annotations

import io
import uuid
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from campaigns import audience, imports, launch, subscriptions
from campaigns.imports import Terms, Unreadable
from campaigns.models import Campaign, Consent, Contact, Import, MailingList, Subscription
from mailhub.lib import addresses
from tests.campaigns.conftest import FORM, Join


@pytest.fixture
def terms(news: MailingList, django_user_model: Any) -> Terms:
    return Terms(list=news, basis="opt_in", source="trade fair", text="I agree", by=django_user_model.objects.create_user("staff"))


def read(text: str | bytes, terms: Terms, name: str = "fair.csv") -> Import:
    return imports.read(io.BytesIO(text if isinstance(text, bytes) else text.encode()), name, terms)


def unreadable(text: str | bytes, terms: Terms) -> str:
    with pytest.raises(Unreadable) as caught:
        read(text, terms)
    assert not Contact.objects.exists() and not Import.objects.exists() and not Consent.objects.exists()
    return str(caught.value)


def counts(result: Import) -> tuple[int, ...]:
    """rows, created, updated, subscribed, unsubscribed, rejected"""
    return (result.rows, result.created, result.updated, result.subscribed, result.unsubscribed, result.rejected)


def test_contacts_come_with_their_attributes_consent_and_subscription(terms: Terms, news: MailingList) -> None:
    result = read("email,name,language,city,Postal code\nHana@Example.NET,花,ja-JP,京都,611-0021\ntaro@例え.jp,Taro,,,\n", terms)
    assert counts(result) == (2, 2, 0, 2, 0, 0)
    hana, taro = Contact.objects.order_by("email")
    assert (hana.email, hana.name, hana.language) == ("hana@example.net", "花", "ja")
    assert hana.attributes == {"city": "京都", "Postal_code": "611-0021"}
    assert (taro.email, taro.name, taro.language, taro.attributes) == ("taro@xn--r8jz45g.jp", "Taro", "", {})
    assert hana.public_id != taro.public_id
    subscription = Subscription.objects.get(contact=hana)
    assert (subscription.list, subscription.status) == (news, "subscribed")
    consent = subscription.consent
    assert consent is not None
    assert (consent.basis, consent.source, consent.text, consent.recorded_by, consent.contact, consent.list) == (
        "opt_in", "trade fair (fair.csv:2)", "I agree", terms.by, hana, news,
    )  # fmt: skip


def test_imported_contacts_get_the_campaign(terms: Terms, campaign: Campaign) -> None:
    read("email,city\nhana@example.net,京都\n", terms)
    batch = launch.launch(campaign, None)
    audience.expand(batch.pk)
    assert batch.messages.get().data["city"] == "京都"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932"])
def test_japanese_files_are_read_in_their_encoding(terms: Terms, encoding: str) -> None:
    result = read("メールアドレス,氏名,言語,都市\r\nhana@example.net,髙橋 花,日本語,京都①\r\n".encode(encoding), terms)
    contact = Contact.objects.get()
    assert (contact.name, contact.language, contact.attributes) == ("髙橋 花", "ja", {"都市": "京都①"})
    assert result.encoding == ("Shift_JIS" if encoding == "cp932" else "UTF-8")


@pytest.mark.parametrize(
    "text", ["email;name\na@example.net;A\n", "E-Mail\tname\ra@example.net\tA", '"email","name"\n\n"a@example.net","A"\n\n']
)
def test_semicolons_tabs_quotes_and_empty_lines_are_understood(terms: Terms, text: str) -> None:
    assert counts(read(text, terms)) == (1, 1, 0, 1, 0, 0)
    assert Contact.objects.get().name == "A"


def test_rows_that_cannot_be_used_are_listed_and_the_others_taken(terms: Terms) -> None:
    result = read(
        "name,email,language,city\n"
        "A,a@example.net,en,x\n"
        "B,no address,en,x\n"
        "C,,en,x\n"
        "D,d@example.net,klingon,x\n"
        "E,e@example.net,en,x,y\n"
        f"F,f@example.net,en,{'x' * 1001}\n"
        '"G\nH",g@example.net,en,x\n'
        "I,A@example.net,en,x\n"
        "J,j@example.net\n",
        terms,
    )
    assert counts(result) == (9, 2, 0, 2, 0, 7)
    assert [(line, column, value[:20]) for line, column, value, _reason in result.rejections] == [
        (3, "email", "no address"),
        (4, "email", ""),
        (5, "language", "klingon"),
        (6, "", "y"),
        (7, "city", "x" * 20),
        (8, "name", "G\nH"),
        (10, "email", "a@example.net"),
    ]
    reasons = [reason for *_place, reason in result.rejections]
    assert all(reasons) and "line 2" in reasons[-1] and "en, ja" in reasons[2]
    assert sorted(Contact.objects.values_list("email", flat=True)) == ["a@example.net", "j@example.net"]


def test_known_contacts_learn_what_is_new_and_lose_nothing(terms: Terms, news: MailingList, join: Join) -> None:
    known = join("hana@example.net", news, name="花", city="京都", points="1")
    consent = Subscription.objects.get().consent
    result = read("email,name,city,points\nhana@example.net,,,2\nnew@example.net,N,,\n", terms)
    assert counts(result) == (2, 1, 1, 1, 0, 0)
    known.refresh_from_db()
    assert (known.name, known.attributes) == ("花", {"city": "京都", "points": "2"})
    assert Subscription.objects.get(contact=known).consent == consent
    assert Consent.objects.filter(contact=known).count() == 1
    read("email,name\nhana@example.net,Hana\n", terms)
    known.refresh_from_db()
    assert (known.name, known.attributes) == ("Hana", {"city": "京都", "points": "2"})


def test_nobody_who_unsubscribed_is_subscribed_again(terms: Terms, news: MailingList, join: Join) -> None:
    gone = join("gone@example.net", news)
    subscriptions.unsubscribe(gone, [news], FORM)
    silent = Contact.objects.create(email="silent@example.net")
    Subscription.objects.create(contact=silent, list=news, changed_at=silent.created_at)
    result = read("email,name\ngone@example.net,Gone\nsilent@example.net,\n", terms)
    assert counts(result) == (2, 0, 2, 1, 1, 0)
    subscription = Subscription.objects.get(contact=gone)
    assert (subscription.status, subscription.consent) == ("unsubscribed", None)
    assert Consent.objects.filter(contact=gone).count() == 2
    silent_now = Subscription.objects.get(contact=silent)
    assert silent_now.consent and silent_now.consent.source == "trade fair (fair.csv:3)"


def test_the_same_file_twice_changes_nothing(terms: Terms) -> None:
    text = "email,name\na@example.net,A\nb@example.net,B\n"
    read(text, terms)
    assert counts(read(text, terms)) == (2, 0, 2, 0, 0, 0)
    assert (Contact.objects.count(), Consent.objects.count(), Subscription.objects.count(), Import.objects.count()) == (2, 2, 2, 2)


def test_a_crash_leaves_nothing_half_done(terms: Terms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "SUBSCRIPTIONS", "SELECT * FROM no_such_table WHERE 1 IN (%s, %s, %s)")
    with pytest.raises(Exception, match="no_such_table"), transaction.atomic():
        read("email\na@example.net\n", terms)
    assert not Contact.objects.exists() and not Consent.objects.exists()
    monkeypatch.undo()
    assert counts(read("email\na@example.net\n", terms)) == (1, 1, 0, 1, 0, 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "email"),
        ("name,city\nA,B\n", "name, city"),
        ("email,mail\na@example.net,b@example.net\n", "More than one column"),
        ("email,if\n", "“if”"),
        ("email,unsubscribe_url\n", "“unsubscribe_url”"),
        ("email,1st\n", "“1st”"),
        ('email,name\na@example.net,"A\nb@example.net,B\n', "quotation mark"),
        ("email\n" + "x" * 100_001, "Line 2"),
        ("email\na@example.net\0\n", "NUL"),
        (b"email\n\x81", "UTF-8"),
        (b"PK\x03\x04\x14\x00", "Excel"),
        (",".join(["email", *(f"c{number}" for number in range(100))]), "columns"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_as_a_whole(terms: Terms, text: str | bytes, words: str) -> None:
    assert words in unreadable(text, terms)


def test_what_is_too_large_is_refused(terms: Terms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "MOST_ROWS", 2)
    assert "2 rows" in unreadable("email\na@example.net\nb@example.net\nc@example.net\n", terms)
    monkeypatch.setattr(imports, "MOST_BYTES", 10)
    assert "MB" in unreadable("email\na@example.net\n", terms)


def test_only_the_first_of_many_rejections_are_listed(terms: Terms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "MOST_LISTED", 3)
    result = read("email\n" + "bad\n" * 5 + "a@example.net\n" * 5, terms)
    assert (result.rejected, len(result.rejections), result.created) == (9, 3, 1)


ODD = st.text(alphabet="ab.-+_@0ABé'\" ", min_size=1, max_size=30)


@given(st.one_of(ODD, st.builds("{}@{}".format, ODD, ODD), st.emails()))
def test_the_quick_way_to_an_address_agrees_with_the_thorough_one(text: str) -> None:
    if imports.ORDINARY.fullmatch(text.lower()):
        assert addresses.key(addresses.normalise(text)) == text.lower()


def test_contacts_cannot_have_attributes_that_templates_cannot_say() -> None:
    with pytest.raises(ValidationError):
        Contact(email="a@example.net", attributes={"first name": "A"}).clean()
    with pytest.raises(ValidationError):
        Contact(email="a@example.net", attributes={"unsubscribe_url": "A"}).clean()
    Contact(email="a@example.net", attributes={"都市": "京都"}).clean()


@pytest.mark.django_db(transaction=True)
def test_many_rows_are_read_in_pieces(terms: Terms) -> None:
    lines = (f"p{number}@example.net,Name {number},{number % 7}" for number in range(12_000))
    result = read("email,name,group\n" + "\n".join(lines), terms)
    assert counts(result) == (12_000, 12_000, 0, 12_000, 0, 0)
    assert Contact.objects.get(email="p11999@example.net").attributes == {"group": "1"}
    with connection.cursor() as cursor, pytest.raises(Exception, match="staged"):
        cursor.execute("SELECT * FROM staged")


@pytest.mark.django_db(transaction=True)
def test_contacts_get_identifiers_as_others_have_them(terms: Terms) -> None:
    read("email\n" + "".join(f"p{number}@example.net\n" for number in range(50)), terms)
    found = list(Contact.objects.values_list("public_id", flat=True))
    assert len(set(found)) == 50
    assert {identifier.variant for identifier in found} == {uuid.RFC_4122}
    assert {identifier.version for identifier in found} == {7 if connection.vendor == "postgresql" else 4}
