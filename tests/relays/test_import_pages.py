from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.urls import reverse

from mailhub.lib.fields import cipher
from mailhub.relays import accounts, imports, services
from mailhub.relays.models import Quota, Relay, Service

SECRET = "open-sesame-47"
URL = "/admin/relays/relay/import/"
ENV = f"MAIL_HOST=smtp.example.com\nMAIL_PORT=587\nMAIL_USERNAME=shop\nMAIL_PASSWORD={SECRET}\nMAIL_FROM_ADDRESS=shop@example.com\n"
TABLE = (
    "name,host,port,encryption,username,password,per hour\n"
    f"Shop,smtp.example.com,587,starttls,shop,{SECRET},500\n"
    f"News,mx.example.com,465,ssl,news,{SECRET},\n"
)


def text(response: Any) -> str:
    return response.content.decode()  # type: ignore[no-any-return]


def look(client: Client, given: str | SimpleUploadedFile) -> str:
    """The page with what was found."""
    name = "text" if isinstance(given, str) else "file"
    return text(client.post(URL, {name: given}))


def answer(page: str, **changes: Any) -> dict[str, Any]:
    """The page's form as the browser sends it; None takes a field out."""
    found = {}
    for tag in re.findall(
        r"<input [^>]+>", page.split('name="sealed"', 1)[0][-200:] + '<input name="sealed"' + page.split('name="sealed"', 1)[1]
    ):
        kind, name = re.search(r'type="(\w+)"', tag), re.search(r'name="([\w-]+)"', tag)
        value = re.search(r'value="([^"]*)"', tag)
        if name and name[1] != "csrfmiddlewaretoken" and not (kind and kind[1] == "checkbox" and " checked" not in tag):
            found[name[1]] = unescape(value[1]) if value else "on" if kind and kind[1] == "checkbox" else ""
    for select in re.findall(r"<select.*?</select>", page, re.DOTALL):
        name, value = re.search(r'name="((?:service|security)-\d+)"', select), re.search(r'value="([\w-]+)" selected', select)
        if name and value:
            found[name[1]] = value[1]
    return {name: value for name, value in {**found, **changes}.items() if value is not None}


def test_a_relay_is_made_of_what_was_pasted(admin_client: Client) -> None:
    page = look(admin_client, ENV)
    assert "Taken for: Variables" in page and "smtp.example.com:587" in page and "shop@example.com" in page and "given" in page
    response = admin_client.post(URL, answer(page))
    relay = Relay.objects.get()
    assert response["Location"] == reverse("admin:relays_relay_change", args=[relay.pk])
    assert (relay.name, relay.kind, relay.status, relay.secrets) == ("smtp.example.com", "smtp", "active", {"password": SECRET})
    by_hand = {"host": "smtp.example.com", "port": 587, "security": "starttls", "verify_certificate": True, "username": "shop"}
    assert by_hand.items() <= relay.options.items() and "password" not in relay.options
    assert (relay.options["auth_method"], relay.options["patience"], relay.max_connections, relay.first_retry) == ("auto", 30, 5, 60)
    assert not relay.memberships.exists()


def test_no_secret_is_in_a_page_the_session_or_the_history(admin_client: Client) -> None:
    Relay.objects.create(name="News", kind="smtp", options={"host": "old.example.com"})
    page = look(admin_client, TABLE + f"Bad name,not a host,25,starttls,x,{SECRET},\n")
    said = [
        page,
        # A name that is taken, and one given twice, bring the page back.
        text(admin_client.post(URL, answer(page, **{"name-0": "News", "name-1": "News"}))),
        look(admin_client, f"nothing known {SECRET}"),
        look(admin_client, f'{{"smtp": [{{"password": "{SECRET}",,'),
        text(admin_client.post(URL, answer(page, **{"name-1": "News 2"}), follow=True)),
        text(admin_client.get(reverse("admin:relays_relay_changelist"))),
    ]
    assert Relay.objects.count() == 3
    said += [session.session_data + str(session.get_decoded()) for session in Session.objects.all()]
    said += [f"{entry.change_message} {entry}" for entry in LogEntry.objects.all()]
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, options, secrets FROM relays_relay")
        said.append(str(cursor.fetchall()))
    assert LogEntry.objects.count() == 2
    for each in said:
        assert SECRET not in each


def test_several_come_in_at_once_with_their_limits_or_not_at_all(admin_client: Client) -> None:
    page = look(admin_client, TABLE)
    admin_client.post(URL, answer(page, **{"name-1": ""}))
    assert not Relay.objects.exists()
    response = admin_client.post(URL, answer(page))
    assert response["Location"] == reverse("admin:relays_relay_changelist")
    assert list(Relay.objects.values_list("name", flat=True)) == ["News", "Shop"]
    assert list(Quota.objects.values_list("relay__name", "limit", "period")) == [("Shop", 500, "hour")]


def test_what_is_not_ticked_stays_out(admin_client: Client) -> None:
    page = look(admin_client, TABLE)
    admin_client.post(URL, answer(page, **{"take-0": None, "name-0": "News"}))
    assert [relay.name for relay in Relay.objects.all()] == ["News"]
    assert "no account is chosen" in text(admin_client.post(URL, answer(page, **{"take-0": None, "take-1": None})))


def test_what_is_there_already_is_marked_and_not_ticked(admin_client: Client) -> None:
    admin_client.post(URL, answer(look(admin_client, ENV)))
    page = look(admin_client, ENV.replace("smtp.example", "SMTP.example"))
    assert "“smtp.example.com” is the same" in page and "take-0" not in answer(page)
    admin_client.post(URL, answer(page, **{"take-0": "on"}))
    assert sorted(relay.name for relay in Relay.objects.all()) == ["SMTP.example.com", "smtp.example.com"]


def test_the_same_account_with_two_passwords_is_ticked_once(admin_client: Client) -> None:
    page = look(admin_client, f"host,username,password\nh.example.com,a,{SECRET}\nh.example.com,a,other\n")
    assert "It stands above already." in page and {"take-0"} == {name for name in answer(page) if name.startswith("take")}


def test_what_does_not_validate_names_the_field_and_cannot_be_taken(admin_client: Client) -> None:
    page = look(admin_client, f"host,port,encryption,username,password\nbad host,99999,none,shop,{SECRET}\nfine.example.com,,,,\n")
    assert "Server:" in page and "is no host name" in page and "Port:" in page and "Encryption:" in page and "disabled" in page
    admin_client.post(URL, answer(page, **{"take-0": "on"}))
    assert not Relay.objects.exists()
    admin_client.post(URL, answer(page))
    assert [relay.options["host"] for relay in Relay.objects.all()] == ["fine.example.com"]


def test_a_missing_password_is_asked_for(admin_client: Client) -> None:
    page = look(admin_client, ENV.replace(f"MAIL_PASSWORD={SECRET}\n", ""))
    assert 'name="secret-0-password"' in page
    again = text(admin_client.post(URL, answer(page)))
    assert "A user name needs a password." in again and not Relay.objects.exists()
    # What was entered is kept while something else is put right.
    third = text(admin_client.post(URL, answer(again, **{"secret-0-password": SECRET, "name-0": ""})))
    assert SECRET not in third and 'name="secret-0-password"' not in third
    admin_client.post(URL, answer(third, **{"name-0": "Shop"}))
    assert Relay.objects.get().secrets == {"password": SECRET}


def test_a_password_that_could_be_read_on_its_way_is_refused_until_there_is_encryption(admin_client: Client) -> None:
    page = look(admin_client, f"host,port,encryption,username,password\nh.example.com,25,none,shop,{SECRET}\n")
    assert "Without encryption the password could be read" in page
    assert "Encryption:" in text(admin_client.post(URL, answer(page))) and not Relay.objects.exists()
    admin_client.post(URL, answer(page, **{"security-0": "starttls"}))
    assert Relay.objects.get().options["security"] == "starttls"


def test_a_key_makes_a_relay_of_its_service(admin_client: Client) -> None:
    page = look(admin_client, f"MAIL_MAILER=postmark\nPOSTMARK_TOKEN={SECRET}\n")
    assert "Postmark" in page and SECRET not in page
    admin_client.post(URL, answer(page))
    relay = Relay.objects.get()
    assert (relay.kind, relay.name, relay.secrets) == ("postmark", "Postmark", {"server_token": SECRET})
    assert "is of the same kind" in look(admin_client, "MAIL_MAILER=postmark\nPOSTMARK_TOKEN=another\n")


def test_a_known_server_brings_its_service_s_limits_as_its_form_does(admin_client: Client) -> None:
    services.load()
    page = look(admin_client, f"host,port,username,password\nsmtp.gmail.com,587,a@example.com,{SECRET}\n")
    # Two are at this server: the one with the smaller limit comes first.
    assert answer(page)["service-0"] == "gmail"
    admin_client.post(URL, answer(page, **{"service-0": "workspace", "name-0": "Office"}))
    relay = Relay.objects.get()
    assert (relay.spf, relay.options["host"]) == (Service.objects.get(pk="workspace").spf, "smtp.gmail.com")
    assert list(relay.quotas.values_list("limit", "period")) == [(2000, "day")]


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("email-smtp.eu-west-1.amazonaws.com", ["ses"]),
        ("SMTP.eu.mailgun.org", ["mailgun"]),
        ("sv1234.xserver.jp", ["xserver"]),
        ("shop.sakura.ne.jp", ["sakura"]),
        ("smtp.lolipop.jp", ["lolipop-economy", "lolipop-light", "lolipop-standard"]),
        ("smtp.example.com", []),
        ("", []),
    ],
)
def test_services_are_known_by_their_servers(host: str, found: list[str]) -> None:
    known = [Service(pk=key, **fields) for key, fields in services.shipped()[0].items()]
    assert [service.pk for service in accounts.at(host, known)] == found


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp932"])
def test_a_file_serves_as_well(admin_client: Client, encoding: str) -> None:
    page = look(admin_client, SimpleUploadedFile("relays.csv", "名前,サーバー\n店,smtp.example.com\n".encode(encoding)))
    assert answer(page)["name-0"] == "店"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "one of the two"),
        ({"text": "x", "file": SimpleUploadedFile("x", b"x")}, "one of the two"),
        ({"file": SimpleUploadedFile("x", b"x" * (imports.MOST_BYTES + 1))}, "larger than 256 KB"),
        ({"text": "x" * (imports.MOST_BYTES + 1)}, "larger than 256 KB"),
        ({"file": SimpleUploadedFile("x.png", b"\x89PNG\0")}, "no text file"),
        ({"text": "Dear team"}, "Nothing known was found."),
        ({"text": '{"smtp": ['}, "Line 1:"),
        ({"text": "define('WPMS_MAILER', 'gmail');"}, "no kind of relay for “gmail”"),
    ],
)
def test_what_cannot_be_used_is_told_why(admin_client: Client, given: dict[str, Any], words: str) -> None:
    page = text(admin_client.post(URL, given))
    assert words in page and "WP Mail SMTP" in page and 'name="sealed"' not in page


def test_what_is_found_is_kept_for_its_finder_and_for_an_hour(admin_client: Client, admin_user: User) -> None:
    (account,) = imports.read(ENV).accounts
    sealed = accounts.seal([account], admin_user)
    assert accounts.unseal(sealed, admin_user) == [account] and SECRET not in sealed
    other = User.objects.create_superuser("other")
    late = cipher().encrypt_at_time(
        cipher().decrypt(sealed.encode()), int(cipher().extract_timestamp(sealed.encode())) - 2 * accounts.KEPT_FOR
    )
    # Something else that the same keys have encrypted is none.
    strange = cipher().encrypt(json.dumps({"password": SECRET}).encode())
    for tried, user in [
        (sealed, other),
        (late.decode(), admin_user),
        (strange.decode(), admin_user),
        ("rubbish", admin_user),
        ("é", admin_user),
    ]:
        assert accounts.unseal(tried, user) is None
    response = admin_client.post(URL, {"sealed": late.decode(), "take-0": "on", "name-0": "x"}, follow=True)
    assert "Paste the settings again." in text(response) and not Relay.objects.exists()


def test_only_who_may_add_relays_imports(client: Client, db: None) -> None:
    user = User.objects.create_user("staff", is_staff=True)
    client.force_login(user)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_relay", "change_relay"]))
    assert client.get(URL).status_code == client.post(URL, {"text": ENV}).status_code == 403
    assert URL not in text(client.get(reverse("admin:relays_relay_changelist")))
    user.user_permissions.add(Permission.objects.get(codename="add_relay"))
    assert URL in text(client.get(reverse("admin:relays_relay_changelist")))
    page = text(client.post(URL, {"text": ENV}))
    assert client.post(URL, answer(page)).status_code == 302 and Relay.objects.get().name == "smtp.example.com"
