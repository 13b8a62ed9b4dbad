from __future__ import annotations

import re

import pytest
from django.core.exceptions import ValidationError

from mailhub.relays import destinations, replies
from mailhub.relays.models import OTHER, Destination, KnownDomain, ResponseRule

pytestmark = pytest.mark.django_db

DESTINATIONS, RULES = destinations.shipped()


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    destinations.forget()


# ----------------------------------------------------------------------------------------------------------------- what is shipped


@pytest.mark.parametrize("key", DESTINATIONS)
def test_a_shipped_destination_is_in_order_and_says_where_its_figures_are_from(key: str) -> None:
    destination = Destination.objects.get(pk=key)
    destination.full_clean()
    assert destination.source and destination.as_of
    for suffix in destination.suffixes:
        assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", suffix)
    for domain in destination.domains.all():
        domain.full_clean()
        assert domain.domain == domain.domain.lower()


def test_the_carriers_of_japan_have_figures_that_are_labelled_as_our_own() -> None:
    for key in ("docomo", "au", "softbank"):
        carrier = Destination.objects.get(pk=key)
        assert carrier.confidence == "own" and "MailHub" in carrier.source
        assert (carrier.connections, carrier.messages_per_connection, carrier.rate, carrier.per) == (2, 100, 5, "second")


def test_what_belongs_to_no_group_has_no_limits() -> None:
    other = Destination.objects.get(pk=OTHER)
    assert not any((other.connections, other.messages_per_connection, other.rate, other.tls_required, other.suffixes))


@pytest.mark.parametrize("key", RULES)
def test_a_shipped_rule_is_the_first_that_fits_its_sample(key: str) -> None:
    rule = ResponseRule.objects.get(key=key)
    rule.full_clean()
    assert rule.source and rule.as_of
    # As the reply comes out of the SMTP client.
    code, _space, text = rule.sample.partition(" ")
    reply = replies.read(int(code), [text.encode()])
    rules = ResponseRule.objects.filter(destination=rule.destination)
    assert [each.key for each in rules.order_by("position") if each.expression.search(str(reply))][0] == key


def test_rules_are_as_specific_as_their_names_say() -> None:
    def first(destination: str, reply: str) -> str:
        rules = ResponseRule.objects.filter(destination=destination).order_by("position")
        return next((rule.key for rule in rules if rule.expression.search(reply)), "")

    assert first("microsoft", "550 5.7.515 Access denied, sending domain a.example does not meet ...") == "microsoft-authentication"
    assert first("gmail", "550 5.1.1 The email account that you tried to reach does not exist.") == ""
    assert first("gmail", "452 4.2.2 The email account that you tried to reach is over quota.") == ""
    assert first("yahoo", "421 4.7.0 [TS04] Messages from 192.0.2.7 temporarily deferred") == "yahoo-ts04"
    assert first("yahoo_jp", "550 5.1.1 Unknown user") == ""


def test_to_load_again_changes_nothing() -> None:
    def rows() -> list[list[dict[str, object]]]:
        return [list(model.objects.order_by("pk").values()) for model in (Destination, KnownDomain, ResponseRule)]

    before = rows()
    destinations.load()
    assert rows() == before


def test_what_staff_have_edited_stays_and_the_rest_follows_a_new_version(monkeypatch: pytest.MonkeyPatch) -> None:
    Destination.objects.filter(pk="gmail").update(connections=2)
    destinations.enter(Destination.objects.get(pk="docomo"), ["docomo.ne.jp"])
    ResponseRule.objects.filter(key="gmail-rate").update(active=False)
    newer, rules = destinations.shipped()
    newer["gmail"]["connections"] = 9
    newer["gmail"]["domains"] = ["gmail.com", "newmail.example"]
    newer["docomo"]["rate"] = 9
    newer["au"]["rate"] = 9
    newer["au"]["domains"] = ["ezweb.ne.jp", "au-new.example"]
    newer["later"] = {**newer["au"], "name": "Later", "domains": ["later.example"]}
    rules["gmail-rate"]["rate"] = rules["gmail-ptr"]["lasts"] = 77
    monkeypatch.setattr(destinations, "shipped", lambda: (newer, rules))
    destinations.load()
    assert Destination.objects.get(pk="gmail").connections == 2
    assert not KnownDomain.objects.filter(domain="newmail.example").exists()
    docomo, au = Destination.objects.get(pk="docomo"), Destination.objects.get(pk="au")
    assert docomo.rate == 5 and [domain.domain for domain in docomo.domains.all()] == ["docomo.ne.jp"]
    assert au.rate == 9 and [domain.domain for domain in au.domains.all()] == ["au-new.example", "ezweb.ne.jp"]
    assert [domain.domain for domain in Destination.objects.get(pk="later").domains.all()] == ["later.example"]
    assert ResponseRule.objects.get(key="gmail-rate").rate == 10
    assert ResponseRule.objects.get(key="gmail-ptr").lasts == 77


def test_a_destination_of_staffs_own_is_left_alone() -> None:
    Destination.objects.filter(pk="au").update(shipped_as="", rate=1)
    destinations.load()
    assert Destination.objects.get(pk="au").rate == 1


# ------------------------------------------------------------------------------------------------------------------- who is where


def test_a_domain_on_a_list_belongs_to_its_destination_and_any_other_to_others() -> None:
    assert destinations.of(["gmail.com", "docomo.ne.jp", "hotmail.co.jp", "yahoo.co.jp", "yahoo.co.uk", "tea.example"]) == {
        "gmail.com": "gmail",
        "docomo.ne.jp": "docomo",
        "hotmail.co.jp": "microsoft",
        "yahoo.co.jp": "yahoo_jp",
        "yahoo.co.uk": "yahoo",
        "tea.example": "other",
    }


@pytest.mark.parametrize(
    ("hosts", "key"),
    [
        (["aspmx.l.google.com", "alt1.aspmx.l.google.com", "aspmx2.googlemail.com"], "gmail"),
        (["ASPMX.L.GOOGLE.COM."], "gmail"),
        (["aspmx.l.google.com", "mx.tea.example"], "other"),
        (["aspmx.l.google.com", "tea-example.mail.protection.outlook.com"], "other"),
        (["tea-example.mail.protection.outlook.com"], "office365"),
        (["tea-example.p-v1.mx.microsoft"], "office365"),
        (["hotmail-com.olc.protection.outlook.com"], "microsoft"),
        (["mx1.mail.yahoo.co.jp", "mx2.mail.yahoo.co.jp"], "yahoo_jp"),
        (["mta5.am0.yahoodns.net"], "yahoo"),
        (["mx01.mail.icloud.com", "mx02.mail.icloud.com"], "icloud"),
        (["eu-smtp-inbound-1.mimecast.com", "eu-smtp-inbound-2.mimecast.com"], "mimecast"),
        (["mfsmax.docomo.ne.jp"], "docomo"),
        (["notgoogle.com"], "other"),
        (["google.com.tea.example"], "other"),
        ([], "other"),
    ],
)
def test_mail_exchangers_tell_the_destination_if_all_of_them_agree(hosts: list[str], key: str) -> None:
    assert destinations.Guide().of(hosts) == key


def test_what_is_learnt_holds_until_it_is_learnt_otherwise_and_never_against_a_list() -> None:
    learn = {"tea.example": "gmail", "gmail.com": "office365", "nowhere.example": "other"}
    destinations.learn(learn)
    assert destinations.of(learn) == {"tea.example": "gmail", "gmail.com": "gmail", "nowhere.example": "other"}
    assert not KnownDomain.objects.filter(domain="nowhere.example").exists()
    destinations.learn({"tea.example": "office365"})
    assert destinations.of(["tea.example"]) == {"tea.example": "office365"}
    destinations.learn({"tea.example": "other", "gmail.com": "other"})
    assert destinations.of(["tea.example", "gmail.com"]) == {"tea.example": "other", "gmail.com": "gmail"}


def test_staff_give_a_destination_its_domains() -> None:
    destinations.learn({"tea.example": "gmail"})
    own = Destination.objects.create(key="teahouse", name="Tea house")
    destinations.enter(own, ["tea.example", "me.com"])
    assert destinations.of(["tea.example", "me.com", "mac.com"]) == {"tea.example": "teahouse", "me.com": "teahouse", "mac.com": "icloud"}
    destinations.enter(own, ["tea.example"])
    assert destinations.of(["me.com"]) == {"me.com": "other"}


# -------------------------------------------------------------------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"pattern": "(("}, "pattern"),
        ({"pattern": "nothing like it"}, "sample"),
        ({"action": "slow"}, "rate"),
        ({"action": "slow", "rate": 1, "scope": "relay"}, "scope"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(fields: dict[str, object], wrong: str) -> None:
    given = {"key": "own", "name": "Own", "pattern": "later", "sample": "450 Later", **fields}
    with pytest.raises(ValidationError) as refused:
        ResponseRule(**given).full_clean()
    assert wrong in refused.value.message_dict
