from __future__ import annotations

import ast
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import translation

from mailhub.lib import clock
from mailhub.relays import blocklists, destinations, shipped_names, warmup
from mailhub.relays.models import OTHER, Destination, KnownDomain, Parking, Relay, ResponseRule, Slowdown

pytestmark = pytest.mark.django_db

LISTS = ("destination", "responserule", "parking", "slowdown")


@pytest.fixture
def relay() -> Relay:
    return Relay.objects.create(name="Post", kind="memory")


@pytest.fixture
def parked(relay: Relay) -> Parking:
    now = clock.now()
    return Parking.objects.create(
        relay=relay,
        destination_id="gmail",
        since=now,
        until=now + timedelta(hours=1),
        allowance=10,
        reason=ResponseRule.objects.get(key="gmail-suspicious").name,
        reply="421 4.7.0 Our system has detected that this message is suspicious",
    )


@pytest.fixture
def slowed(relay: Relay) -> Slowdown:
    now, rule = clock.now(), ResponseRule.objects.get(key="gmail-rate")
    return Slowdown.objects.create(
        relay=relay, destination_id="gmail", rule=rule, rate=10, per="minute", since=now, until=now + timedelta(hours=1), reply=rule.sample
    )


def text(response: Any) -> str:
    return response.content.decode()  # type: ignore[no-any-return]


def list_of(name: str) -> str:
    return reverse(f"admin:relays_{name}_changelist")


def form_of(row: Any, client: Client) -> dict[str, Any]:
    """What the browser would send if nothing were changed."""
    page = client.get(reverse(f"admin:relays_{row._meta.model_name}_change", args=[row.pk]))
    form = page.context["adminform"].form
    given = {name: form[name].value() for name in form.fields}
    return {name: value for name, value in given.items() if value is not None and value is not False}


def save(row: Any, client: Client, **changes: Any) -> Any:
    url = reverse(f"admin:relays_{row._meta.model_name}_change", args=[row.pk])
    return client.post(url, {**form_of(row, client), **changes}, follow=True)


# ------------------------------------------------------------------------------------------------- destinations and their domains


def test_a_destinations_domains_and_figures_are_edited_as_lines(admin_client: Client) -> None:
    destination = Destination.objects.get(pk="docomo")
    assert "docomo.ne.jp" in form_of(destination, admin_client)["listed_domains"]
    save(destination, admin_client, listed_domains="docomo.ne.jp\nShop.Example.\n", mx_suffixes=".docomo.ne.jp\n", connections=3)
    destination.refresh_from_db()
    assert (destination.connections, destination.suffixes) == (3, ["docomo.ne.jp"])
    assert destinations.of(["shop.example", "mopera.net"]) == {"shop.example": "docomo", "mopera.net": OTHER}


@pytest.mark.parametrize("field", ["listed_domains", "mx_suffixes"])
def test_what_is_no_domain_is_refused_at_its_field(admin_client: Client, field: str) -> None:
    before = KnownDomain.objects.count()
    response = save(Destination.objects.get(pk="docomo"), admin_client, **{field: "docomo.ne.jp\nnonsense!"})
    assert "“nonsense!” is not a domain" in str(response.context["adminform"].form.errors[field])
    assert KnownDomain.objects.count() == before


def test_a_destination_that_nobody_edited_is_not_taken_for_edited(admin_client: Client) -> None:
    """So that it goes on following new versions of MailHub."""
    save(Destination.objects.get(pk="docomo"), admin_client)
    row, shipped = Destination.objects.get(pk="docomo"), destinations.shipped()[0]["docomo"]
    assert sorted(row.domains.values_list("domain", flat=True)) == shipped.pop("domains")
    assert {name: getattr(row, name) for name in shipped} == shipped


def test_a_destination_cannot_be_deleted_since_mail_that_waits_names_it(admin_client: Client) -> None:
    assert admin_client.post(reverse("admin:relays_destination_delete", args=["gmail"])).status_code == 403


# ------------------------------------------------------------------------------------------------------------------- reply rules


def test_the_list_of_rules_shows_each_with_its_sample_reply_and_what_follows(admin_client: Client) -> None:
    page = text(admin_client.get(list_of("responserule") + "?q=unusual"))
    assert "421 4.7.28 Gmail has detected an unusual rate" in page
    assert "10 a minute" in page and "for 30 min" in page and "2 within 60 min" in page


def test_a_saved_rule_is_tried_on_its_sample(admin_client: Client) -> None:
    rule = ResponseRule.objects.get(key="gmail-tls")
    assert "Tried: the sample reply meets this rule." in text(save(rule, admin_client))


def test_a_rule_that_another_comes_before_is_told_so(admin_client: Client) -> None:
    rule = ResponseRule.objects.get(key="gmail-tls")
    page = text(save(rule, admin_client, pattern="421", sample="421 4.7.28 an unusual rate", position=99))
    assert "The sample reply meets “Gmail sees an unusual rate of mail” first" in page


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"pattern": "("}, "pattern"), ({"sample": "250 fine"}, "sample"), ({"action": "slow", "rate": "", "connections": ""}, "rate")],
)
def test_a_rule_that_could_not_work_is_refused_at_its_field(admin_client: Client, changes: dict[str, str], field: str) -> None:
    response = save(ResponseRule.objects.get(key="gmail-tls"), admin_client, **changes)
    assert field in response.context["adminform"].form.errors
    assert ResponseRule.objects.get(key="gmail-tls").sample.startswith("421 4.7.29")


def test_staff_add_rules_of_their_own_and_delete_those_alone(admin_client: Client) -> None:
    given = form_of(ResponseRule.objects.get(key="gmail-tls"), admin_client)
    admin_client.post(reverse("admin:relays_responserule_add"), {**given, "name": "Ours", "pattern": "ours", "sample": "450 ours"})
    own = ResponseRule.objects.get(name="Ours")
    assert own.key.startswith("own-") and not own.shipped_as
    admin_client.post(reverse("admin:relays_responserule_delete", args=[own.pk]), {"post": "yes"})
    assert not ResponseRule.objects.filter(pk=own.pk).exists()
    shipped = ResponseRule.objects.get(key="gmail-tls")
    page = text(admin_client.post(reverse("admin:relays_responserule_delete", args=[shipped.pk]), {"post": "yes"}))
    assert "It comes with MailHub" in page and ResponseRule.objects.filter(pk=shipped.pk).exists()


# ------------------------------------------------------------------------------------------------------------- what is held back


def test_what_is_parked_is_shown_with_its_reason_and_the_reply(admin_client: Client, parked: Parking) -> None:
    page = text(admin_client.get(list_of("parking")))
    for words in ("Gmail", "through Post", "left alone", "all its mail", "Gmail finds the mail suspicious", "421 4.7.0 Our system has"):
        assert words in page
    Parking.objects.update(until=clock.now(), sender_domain="tea.example")
    page = text(admin_client.get(list_of("parking")))
    assert "tried again" in page and "mail from tea.example, 10 at once" in page


def test_what_is_slowed_down_is_shown_with_its_limit_until_it_ends(admin_client: Client, slowed: Slowdown) -> None:
    page = text(admin_client.get(list_of("slowdown")))
    assert "10 a minute" in page and "Gmail sees an unusual rate of mail" in page
    Slowdown.objects.update(until=clock.now() - timedelta(seconds=1))
    assert "10 a minute" not in text(admin_client.get(list_of("slowdown")))


@pytest.mark.parametrize("name", ["parking", "slowdown"])
def test_letting_go_asks_first(admin_client: Client, name: str, parked: Parking, slowed: Slowdown) -> None:
    row: Any = {"parking": parked, "slowdown": slowed}[name]
    chosen = {"action": "let_go", "_selected_action": row.pk}
    page = text(admin_client.post(list_of(name), chosen))
    assert "Let 1 destination go on now?" in page and "through Post" in page
    assert type(row).objects.count() == 1
    page = text(admin_client.post(list_of(name), {**chosen, "confirmed": "1"}, follow=True))
    assert "1 destination gets its mail again." in page
    assert not type(row).objects.exists()
    assert LogEntry.objects.get().change_message == "It goes on at once."


def test_who_may_only_look_lets_nothing_go(client: Client, parked: Parking) -> None:
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(user)
    for name in LISTS:
        assert client.get(list_of(name)).status_code == 200
    client.post(list_of("parking"), {"action": "let_go", "_selected_action": parked.pk, "confirmed": "1"})
    assert Parking.objects.exists()


@pytest.mark.parametrize("name", ["parking", "slowdown"])
def test_where_nothing_is_held_back_the_page_says_that_all_is_well(admin_client: Client, name: str) -> None:
    assert "No server has asked for it" in text(admin_client.get(list_of(name)))


# ------------------------------------------------------------------------------------------------------------------------ words


def test_shipped_names_are_there_for_translators() -> None:
    """All but the names of services, which are the same in every language."""
    shipped, rules = destinations.shipped()
    known = set(shipped_names.NAMES)
    assert {rule["name"] for rule in rules.values()} <= known
    plans = {each["name"] for each in warmup.shipped().values()}
    meanings = {line.split(maxsplit=1)[1] for each in blocklists.shipped().values() for line in each["meanings"].splitlines()}
    assert meanings <= known
    assert known <= {rule["name"] for rule in rules.values()} | {each["name"] for each in shipped.values()} | plans | meanings
    # Where makemessages finds them.
    tree = ast.parse((Path(settings.BASE_DIR) / "mailhub/relays/shipped_names.py").read_text())
    marked = {node.args[0].value for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.args[0], ast.Constant)}
    assert marked == known


def test_a_shipped_name_is_read_in_ones_own_language(parked: Parking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailhub.relays.models.gettext", lambda words: f"«{words}»")
    rule = ResponseRule.objects.get(key="gmail-suspicious")
    assert str(rule) == f"«{rule.name}»" and parked.words == f"«{rule.name}»"
    assert str(Destination.objects.get(pk=OTHER)) == "«All others»"
    with translation.override("ja"):
        assert not str(Destination(name=""))
