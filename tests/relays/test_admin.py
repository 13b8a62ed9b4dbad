from __future__ import annotations

import sys
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django import forms
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.core.signals import got_request_exception
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.debug import ExceptionReporter
from pytest_django import Settings

from mailhub.delivery.models import Content, Lease, Message
from mailhub.lib import clock
from mailhub.relays import limits, providers
from mailhub.relays.forms import RelayForm
from mailhub.relays.models import DedicatedIP, InboxMail, IPPool, Quota, Relay, Route, RouteMember, Stream
from mailhub.relays.providers.memory import Memory
from mailhub.senders.models import Sender

SECRET = "open-sesame-47"


class AskingForm(forms.Form):
    host = forms.CharField(label="server")
    port = forms.IntegerField(initial=587)
    mode = forms.ChoiceField(choices=[("tls", "TLS from the start"), ("none", "no encryption")])
    user = forms.CharField(required=False)
    password = forms.CharField(required=False)
    key = forms.CharField(widget=forms.Textarea)
    rarely = frozenset({"mode"})

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("user") and not given.get("password"):
            raise ValidationError({"password": "A user needs a password."})
        return given


class Asking(Memory):
    """A kind of relay that wants to know things, two of them secret."""

    label = _("Asking server")
    options_form = AskingForm
    secret_options = frozenset({"password", "key"})


@pytest.fixture(autouse=True)
def asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(providers.REGISTRY, "asking", f"{Asking.__module__}.Asking")
    monkeypatch.setattr(providers, "load", lambda kind: Asking if kind == "asking" else Memory)


@pytest.fixture
def relay(db: None) -> Relay:
    return Relay.objects.create(
        name="Post",
        kind="asking",
        options={"host": "smtp.example.com", "port": 587, "mode": "tls", "user": "taro"},
        secrets={"password": SECRET, "key": "line one\nline two"},
    )


@pytest.fixture
def viewer(db: None, client: Client) -> Client:
    """May look at everything but what mails say, and change nothing."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_").exclude(codename="view_body"))
    client.force_login(user)
    return client


def text(response: Any) -> str:
    return response.content.decode()  # type: ignore[no-any-return]


def change(row: Any) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def deed(relay: Relay, name: str) -> str:
    return reverse(f"admin:relays_relay_{name}", args=[relay.pk])


def given(**changes: Any) -> dict[str, Any]:
    """A relay's form as the browser sends it, its quotas left alone."""
    return {
        "name": "Post",
        "max_connections": 5,
        "first_retry": 60,
        "pool": "",
        "host": "smtp.example.com",
        "port": 587,
        "mode": "tls",
        "user": "taro",
        "password": "",
        "key": "",
        "quotas-TOTAL_FORMS": 0,
        "quotas-INITIAL_FORMS": 0,
        "plans-TOTAL_FORMS": 0,
        "plans-INITIAL_FORMS": 0,
        **changes,
    }


# ------------------------------------------------------------------------------------------------------------ adding a relay


def test_adding_begins_with_the_kind(admin_client: Client) -> None:
    for query in ("", "?kind=pigeon"):
        page = text(admin_client.get(reverse("admin:relays_relay_add") + query))
        assert "Asking server" in page and '"?kind=asking"' in page
        assert 'name="name"' not in page


def test_a_relay_added_beside_another_form_stays_in_its_window(admin_client: Client) -> None:
    page = text(admin_client.get(reverse("admin:relays_relay_add") + "?_to_field=id&_popup=1"))
    link = page.split('class="panel" href="')[1].split('"')[0]
    assert "_popup=1" in link and 'id="nav-sidebar"' not in page
    form = text(admin_client.get(reverse("admin:relays_relay_add") + link.replace("&amp;", "&")))
    assert 'name="_popup" value="1"' in form and 'name="max_connections"' in form


def test_rare_fields_are_folded_away(admin_client: Client, relay: Relay) -> None:
    rarely = text(admin_client.get(change(relay))).split("Rarely needed")[1]
    assert 'name="mode"' in rarely and 'name="host"' not in rarely


def test_the_kind_s_own_fields_stand_in_the_form(admin_client: Client) -> None:
    page = text(admin_client.get(reverse("admin:relays_relay_add") + "?kind=asking"))
    for name in ("name", "max_connections", "host", "port", "mode", "user", "password", "key"):
        assert f'name="{name}"' in page, name
    assert 'value="587"' in page and ">Server" in page
    assert "remove_" not in page


def test_what_is_secret_is_stored_apart(admin_client: Client) -> None:
    response = admin_client.post(reverse("admin:relays_relay_add") + "?kind=asking", given(password=SECRET, key="a\nb"))
    assert response.status_code == 302
    relay = Relay.objects.get()
    assert (relay.kind, relay.status) == ("asking", "active")
    assert relay.options == {"host": "smtp.example.com", "port": 587, "mode": "tls", "user": "taro"}
    assert relay.secrets == {"password": SECRET, "key": "a\nb"}
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM relays_relay")
        assert SECRET not in cursor.fetchone()[0]


def test_mistakes_in_both_halves_are_told_at_once(admin_client: Client) -> None:
    response = admin_client.post(
        reverse("admin:relays_relay_add") + "?kind=asking", given(name="", host="", password="", key="x", max_connections=0)
    )
    page = text(response)
    assert response.status_code == 200 and not Relay.objects.exists()
    assert "Please correct the errors below." in page and "A user needs a password." in page
    assert page.count("This field is required.") == 2


@pytest.mark.django_db
def test_no_kind_asks_for_what_every_relay_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for kind in providers.REGISTRY:
        provider = providers.load(kind)
        asked = provider.options_form.base_fields.keys()
        assert not asked & {field.name for field in Relay._meta.get_fields()}, kind
        assert provider.secret_options <= asked
        RelayForm.of(kind)()


# ------------------------------------------------------------------------------------------------------------------- secrets


def test_a_secret_is_never_shown_again(admin_client: Client, relay: Relay) -> None:
    changed = "other-secret-11"
    seen = [
        admin_client.get(change(relay)),
        # A mistake elsewhere brings the form back.
        admin_client.post(change(relay), given(name="", password=changed, key=changed)),
        admin_client.post(change(relay), given(host="mx.example.com", password=changed), follow=True),
        admin_client.get(reverse("admin:relays_relay_history", args=[relay.pk])),
        admin_client.get(reverse("admin:relays_relay_changelist")),
    ]
    relay.refresh_from_db()
    assert relay.secrets["password"] == changed and relay.options["host"] == "mx.example.com"
    entry = LogEntry.objects.get()
    assert "password" in entry.change_message
    for said in [*map(text, seen), entry.change_message, str(entry)]:
        assert SECRET not in said and changed not in said and "line two" not in said


def test_an_error_page_does_not_hold_it(admin_client: Client, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms.ModelForm, "save", lambda *args: 1 / 0)
    admin_client.raise_request_exception = False
    told = []

    def listen(request: Any, **kwargs: Any) -> None:
        reporter = ExceptionReporter(request, *sys.exc_info())
        told.extend([reporter.get_traceback_text(), reporter.get_traceback_html()])

    got_request_exception.connect(listen)
    response = admin_client.post(change(relay), given(password="typed-secret-99"))
    got_request_exception.disconnect(listen)
    assert response.status_code == 500 and "ZeroDivisionError" in told[0] and "mailhub/relays/forms.py" in told[0]
    for said in (text(response), *told):
        assert "typed-secret-99" not in said and SECRET not in said


def test_an_empty_secret_keeps_the_stored_one(admin_client: Client, relay: Relay) -> None:
    # The provider demands a password for its user: it has one.
    response = admin_client.post(change(relay), given(name="Mail"))
    assert response.status_code == 302
    relay.refresh_from_db()
    assert (relay.name, relay.secrets) == ("Mail", {"password": SECRET, "key": "line one\nline two"})


def test_a_secret_is_removed_where_the_kind_can_do_without(admin_client: Client, relay: Relay) -> None:
    page = text(admin_client.get(change(relay)))
    assert 'name="remove_password"' in page and 'name="remove_key"' not in page
    refused = admin_client.post(change(relay), given(remove_password="on"))
    assert "A user needs a password." in text(refused)
    admin_client.post(change(relay), given(remove_password="on", user=""))
    relay.refresh_from_db()
    assert relay.secrets == {"key": "line one\nline two"}


def test_a_secret_that_no_key_opens_blocks_its_relay_alone(admin_client: Client, relay: Relay, settings: Settings) -> None:
    RouteMember.objects.create(route=Route.objects.create(name="Way"), relay=relay)
    settings.MAILHUB_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    Relay.objects.create(name="Other", kind="memory")
    assert "Post" in text(admin_client.get(reverse("admin:relays_relay_changelist")))
    assert "Post" in text(admin_client.get(change(Route.objects.get())))
    shown = text(admin_client.get(change(relay), follow=True))
    assert "None of MAILHUB_ENCRYPTION_KEYS opens relays.Relay.secrets" in shown
    assert deed(relay, "pause") not in shown


# ------------------------------------------------------------------------------------------------------------------ changing


def test_the_kind_stays(admin_client: Client, relay: Relay) -> None:
    admin_client.post(change(relay) + "?kind=memory", given(kind="memory", name="Mail"))
    relay.refresh_from_db()
    assert (relay.kind, relay.name) == ("asking", "Mail")


def test_saving_undoes_no_deed_done_meanwhile(admin_client: Client, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    save = RelayForm.save

    def late(form: RelayForm, commit: bool = True) -> Relay:
        Relay.objects.get(pk=relay.pk).pause()
        return save(form, commit)

    monkeypatch.setattr(RelayForm, "save", late)
    admin_client.post(change(relay), given(name="Mail"))
    relay.refresh_from_db()
    assert (relay.name, relay.status) == ("Mail", "paused")


def quotas(**changes: Any) -> dict[str, Any]:
    quota = {"limit": 500, "period": "day", "kind": "calendar", "time_zone": "Asia/Tokyo", "counts": "recipients", **changes}
    return {"quotas-TOTAL_FORMS": 1, **{f"quotas-0-{name}": value for name, value in quota.items()}}


def test_quotas_are_part_of_the_page(admin_client: Client, relay: Relay) -> None:
    for zone in ("Tokyo", "../etc/passwd", "Asia"):
        assert "is no time zone" in text(admin_client.post(change(relay), given(**quotas(time_zone=zone))))
    admin_client.post(change(relay), given(**quotas()))
    quota = relay.quotas.get()
    assert (quota.limit, quota.time_zone) == (500, "Asia/Tokyo")
    with transaction.atomic():
        limits.take(relay, 120, clock.now())
    page = text(admin_client.get(change(relay)))
    assert "500 a calendar day (Asia/Tokyo)" in page and "120 used, 380 left" in page
    with transaction.atomic():
        limits.take(relay, 380, clock.now())
    assert "used up; it has room again on" in text(admin_client.get(change(relay)))


# --------------------------------------------------------------------------------------------------------------------- states


def test_a_relay_is_paused_and_resumed(admin_client: Client, relay: Relay) -> None:
    for name, state, words in (("pause", "paused", "is paused"), ("resume", "active", "takes mail again")):
        assert f'action="{deed(relay, name)}"' in text(admin_client.get(change(relay)))
        assert admin_client.get(deed(relay, name)).status_code == 405
        assert words in text(admin_client.post(deed(relay, name), follow=True))
        relay.refresh_from_db()
        assert relay.status == state
    assert LogEntry.objects.filter(object_id=relay.pk).count() == 2
    assert "Nothing was done: “Post” is active by now." in text(admin_client.post(deed(relay, "resume"), follow=True))
    assert LogEntry.objects.count() == 2


def test_a_resting_relay_tells_why_and_is_woken(admin_client: Client, relay: Relay) -> None:
    relay.rest(timedelta(minutes=5), "535 5.7.8 authentication failed")
    for place in (change(relay), reverse("admin:relays_relay_changelist")):
        page = text(admin_client.get(place))
        assert "resting" in page and "535 5.7.8" in page
    assert deed(relay, "resume") not in text(admin_client.get(change(relay)))
    admin_client.post(deed(relay, "wake"))
    relay.refresh_from_db()
    assert (relay.status, relay.resting_until, relay.rest_reason, relay.failures) == ("active", None, "", 0)


def test_several_are_paused_at_once(admin_client: Client, relay: Relay) -> None:
    other = Relay.objects.create(name="Other", kind="memory")
    other.pause()
    chosen = {"action": "pause", "_selected_action": [relay.pk, other.pk]}
    page = text(admin_client.post(reverse("admin:relays_relay_changelist"), chosen, follow=True))
    assert "1 relay is paused." in page and "Nothing was done: “Other” is paused already." in page
    page = text(admin_client.post(reverse("admin:relays_relay_changelist"), {**chosen, "action": "resume"}, follow=True))
    assert "2 relays take mail again." in page
    assert set(Relay.objects.values_list("status", flat=True)) == {"active"}


def busy(number: int) -> Relay:
    relay = Relay.objects.create(name=f"Relay {number}", kind="asking", max_connections=9)
    RouteMember.objects.create(route=Route.objects.create(name=f"Route {number}"), relay=relay)
    Quota.objects.create(relay=relay, limit=1000, period="day")
    Quota.objects.create(relay=relay, limit=100, period="hour")
    Lease.objects.create(relay=relay, node="a", connections=3, started_at=clock.now(), expires_at=clock.now() + timedelta(minutes=1))
    Lease.objects.create(relay=relay, node="b", connections=4, started_at=clock.now(), expires_at=clock.now() - timedelta(minutes=1))
    with transaction.atomic():
        limits.take(relay, 90, clock.now())
    return relay


def queries(client: Client, url: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


def test_the_list_tells_what_each_relay_carries_in_a_bounded_number_of_queries(admin_client: Client) -> None:
    busy(1)
    url = reverse("admin:relays_relay_changelist")
    page = text(admin_client.get(url))
    for shown in ("Asking server", "Route 1", "90 of 100 a hour", "3 of 9"):
        assert shown in page, shown
    few = queries(admin_client, url)
    for number in range(2, 8):
        busy(number)
    assert queries(admin_client, url) == few


# ------------------------------------------------------------------------------------------------------------------- deletion


def test_a_relay_in_use_is_not_deleted_and_the_page_says_what_to_do(admin_client: Client, relay: Relay) -> None:
    RouteMember.objects.create(route=Route.objects.create(name="Orders"), relay=relay)
    url = reverse("admin:relays_relay_delete", args=[relay.pk])
    page = text(admin_client.get(url))
    assert "It is in the route “Orders”." in page and "Take it out of its routes and pause it" in page
    admin_client.post(url, {"post": "yes"})
    chosen = {"action": "delete_selected", "_selected_action": [relay.pk], "post": "yes"}
    assert "It is in the route “Orders”." in text(admin_client.post(reverse("admin:relays_relay_changelist"), chosen))
    assert Relay.objects.exists()


def test_a_relay_that_is_sending_stays(admin_client: Client, relay: Relay) -> None:
    now = clock.now()
    lease = Lease.objects.create(relay=relay, node="one", connections=1, started_at=now, expires_at=now)
    url = reverse("admin:relays_relay_delete", args=[relay.pk])
    assert "It is sending at this moment. Pause it, and try again in a minute." in text(admin_client.get(url))
    admin_client.post(url, {"post": "yes"})
    assert Relay.objects.exists()
    lease.delete()
    admin_client.post(url, {"post": "yes"})
    assert not Relay.objects.exists()


def test_a_relay_that_mail_left_through_stays(admin_client: Client, relay: Relay) -> None:
    sender = Sender.objects.create(email="shop@example.com")
    content = Content.objects.create(from_email=sender.email)
    now = clock.now()
    Message.objects.create(
        stream=Stream.TRANSACTIONAL, status="sent", content=content, sender=sender, address="a@example.net", relay=relay,
        next_attempt_at=now, expires_at=now, created_at=now,
    )  # fmt: skip
    url = reverse("admin:relays_relay_delete", args=[relay.pk])
    assert "Mail has left through it" in text(admin_client.get(url))
    admin_client.post(url, {"post": "yes"})
    assert Relay.objects.exists()


def test_an_unused_relay_goes_with_its_quotas_and_its_inbox(admin_client: Client, relay: Relay) -> None:
    Quota.objects.create(relay=relay, limit=10)
    kept = [InboxMail(relay=relay, message=0, rcpt_to="a@example.net", data=b"") for _ in range(3)]
    InboxMail.objects.bulk_create(kept)
    url = reverse("admin:relays_relay_delete", args=[relay.pk])
    response = admin_client.get(url)
    assert dict(response.context["model_count"]) == {"relays": 1, "quotas": 1, "inbox": 3}
    admin_client.post(url, {"post": "yes"})
    assert not Relay.objects.exists() and not InboxMail.objects.exists()


# -------------------------------------------------------------------------------------------------------------- own addresses


def pool_form(**ip: str) -> dict[str, Any]:
    fields = {"address": "203.0.113.25", "ehlo_name": "mail1.example.com", "node": "", **ip}
    return {
        "name": "Own", "kind": "shared", "ips-TOTAL_FORMS": 1, "ips-INITIAL_FORMS": 0,
        **{f"ips-0-{name}": value for name, value in fields.items()},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("address", "203.0.113.256", "Enter a valid IPv4 or IPv6 address."),
        ("address", "0.0.0.0", "it is not the address of one machine"),  # noqa: S104
        ("address", "::", "it is not the address of one machine"),
        ("address", "224.0.0.1", "it is not the address of one machine"),
        ("address", "fe80::1", "it is not the address of one machine"),
        ("ehlo_name", "mail1", "is not a full host name"),
        ("ehlo_name", "203.0.113.25", "is not a full host name"),
        ("ehlo_name", "mail_1.example.com", "is not a full host name"),
        ("ehlo_name", "-mail.example.com", "is not a full host name"),
        ("ehlo_name", "mail..example.com", "is not a full host name"),
        ("ehlo_name", f"{'a' * 64}.example.com", "is not a full host name"),
        ("ehlo_name", "メール.example.com", "is not a full host name"),
        ("ehlo_name", "mail.example.com\r\nX", "is not a full host name"),
    ],
)
def test_addresses_that_no_mail_can_leave_from_are_refused(admin_client: Client, field: str, value: str, words: str) -> None:
    page = text(admin_client.post(reverse("admin:relays_ippool_add"), pool_form(**{field: value})))
    assert words in page
    assert not IPPool.objects.exists()


@pytest.mark.parametrize("address", ["203.0.113.25", "2001:db8::25", "10.0.0.5", "127.0.0.5"])
def test_an_address_is_kept_with_its_name(admin_client: Client, address: str) -> None:
    admin_client.post(reverse("admin:relays_ippool_add"), pool_form(address=address, ehlo_name="Mail1.Example.COM."))
    assert DedicatedIP.objects.get().ehlo_name == "mail1.example.com"
    assert address in text(admin_client.get(reverse("admin:relays_ippool_changelist")))
    assert address in text(admin_client.get(reverse("admin:relays_dedicatedip_changelist")))


def test_a_pool_in_use_is_not_deleted(admin_client: Client, relay: Relay) -> None:
    pool = IPPool.objects.create(name="Own")
    Relay.objects.update(pool=pool)
    for number in range(5):
        Sender.objects.create(email=f"s{number}@example.com", pool=pool)
    url = reverse("admin:relays_ippool_delete", args=[pool.pk])
    page = text(admin_client.get(url))
    assert "Relays: “Post”" in page and "Senders: “" in page and "and 2 more" in page
    admin_client.post(url, {"post": "yes"})
    assert IPPool.objects.exists()


# ---------------------------------------------------------------------------------------------------------------------- inbox


@pytest.fixture
def mail(relay: Relay) -> InboxMail:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "緑茶堂 <shop@example.com>", "taro@example.net", "ご登録"
    made["List-Unsubscribe"] = "<https://example.com/u/secret-token>"
    made.set_content("Your link: https://example.com/reset/secret-token")
    made.add_alternative("<p>茶</p><script>alert(1)</script>", subtype="html")
    made.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="請求書.pdf")
    return InboxMail.objects.create(
        relay=relay, message=0, mail_from="shop@example.com", rcpt_to="taro@example.net", subject="ご登録", data=made.as_bytes()
    )


def inbox(mail: InboxMail, name: str) -> str:
    return reverse(f"admin:relays_inboxmail_{name}", args=[mail.pk])


def test_kept_mail_is_listed_and_found(admin_client: Client, mail: InboxMail) -> None:
    url = reverse("admin:relays_inboxmail_changelist")
    assert "ご登録" in text(admin_client.get(url))
    assert "ご登録" in text(admin_client.get(url, {"q": "taro@"})) and "ご登録" not in text(admin_client.get(url, {"q": "hana@"}))


def test_a_kept_mail_is_read(admin_client: Client, mail: InboxMail) -> None:
    page = text(admin_client.get(change(mail)))
    for shown in ("緑茶堂 &lt;shop@example.com&gt;", "secret-token", "請求書.pdf", f'<iframe sandbox src="{inbox(mail, "frame")}"'):
        assert shown in page, shown
    assert "<script>alert" not in page
    source = text(admin_client.get(inbox(mail, "source")))
    assert "Content-Type: multipart/mixed" in source
    file = admin_client.get(inbox(mail, "download"))
    assert file.content == bytes(mail.data) and file["Content-Type"] == "message/rfc822"
    assert file["Content-Disposition"] == f'attachment; filename="mail-{mail.pk}.eml"'


def test_the_frame_can_do_nothing(admin_client: Client, mail: InboxMail) -> None:
    response = admin_client.get(inbox(mail, "frame"))
    assert "<p>茶</p>" in text(response)
    policy = response["Content-Security-Policy"].split("; ")
    assert policy[0] == "sandbox" and {"default-src 'none'", "img-src data:", "style-src 'unsafe-inline'"} <= set(policy)
    assert not any("script-src" in part or "https:" in part for part in policy)
    assert response["X-Frame-Options"] == "SAMEORIGIN"


def test_what_mails_say_takes_a_permission_of_its_own(viewer: Client, mail: InboxMail) -> None:
    page = text(viewer.get(change(mail)))
    assert "taro@example.net" in page and "What mails say is hidden" in page
    assert "secret-token" not in page and "iframe" not in page and "請求書" not in page
    for name in ("frame", "source", "download"):
        assert viewer.get(inbox(mail, name)).status_code == 403
    User.objects.get().user_permissions.add(Permission.objects.get(codename="view_body"))
    assert "secret-token" in text(viewer.get(change(mail)))
    assert viewer.get(inbox(mail, "frame")).status_code == 200


def test_bodies_take_the_permission_to_look_at_the_inbox_too(viewer: Client, mail: InboxMail) -> None:
    User.objects.get().user_permissions.set(Permission.objects.filter(codename="view_body"))
    for name in ("frame", "source", "download"):
        assert viewer.get(inbox(mail, name)).status_code == 403


def test_a_mail_that_nobody_can_parse_is_shown_nonetheless(admin_client: Client, relay: Relay) -> None:
    broken = InboxMail.objects.create(relay=relay, message=0, rcpt_to="a@example.net", data=b"\xff\x00 no: header\r\n\r\n\xfe")
    for url in (change(broken), inbox(broken, "frame"), inbox(broken, "source"), inbox(broken, "download")):
        assert admin_client.get(url).status_code == 200


def test_nobody_changes_kept_mail(admin_client: Client, mail: InboxMail) -> None:
    assert admin_client.get(reverse("admin:relays_inboxmail_add")).status_code == 403
    assert admin_client.post(change(mail), {}).status_code == 403
    assert admin_client.post(inbox(mail, "delete"), {"post": "yes"}).status_code == 403


# ---------------------------------------------------------------------------------------------------------------- permissions


def test_who_may_only_look_sees_no_forms(viewer: Client, relay: Relay) -> None:
    page = text(viewer.get(change(relay)))
    assert "smtp.example.com" in page and "TLS from the start" in page and "stored, not shown" in page
    assert SECRET not in page
    main = page[page.index('id="content-start"') :]
    assert "<input" not in main.replace('<input type="hidden" name="csrfmiddlewaretoken"', "") or 'type="submit"' not in main
    assert all(name not in main for name in ('name="password"', 'name="host"', "/pause/", "/trial/", 'name="_save"'))
    for name in ("pause", "resume", "wake"):
        assert viewer.post(deed(relay, name)).status_code == 403
    assert viewer.get(reverse("admin:relays_relay_add")).status_code == 403
    assert viewer.get(reverse("admin:relays_relay_add") + "?kind=asking").status_code == 403
    assert viewer.post(change(relay), given(name="Mine")).status_code == 403
    chosen = {"action": "pause", "_selected_action": [relay.pk]}
    viewer.post(reverse("admin:relays_relay_changelist"), chosen)
    relay.refresh_from_db()
    assert (relay.name, relay.status) == ("Post", "active")


def test_strangers_are_sent_to_the_log_in(client: Client, mail: InboxMail, relay: Relay) -> None:
    places = [deed(relay, name) for name in ("pause", "resume", "wake")] + [inbox(mail, name) for name in ("frame", "source", "download")]
    for url in [*places, change(relay), change(mail), reverse("admin:relays_relay_add")]:
        for method in (client.get, client.post):
            response = method(url)
            assert response.status_code == 302 and "/login/" in response["Location"]


def test_pages_obey_our_policy(admin_client: Client, mail: InboxMail, relay: Relay) -> None:
    busy(1)
    relay.rest(timedelta(minutes=5), "why")
    pool = IPPool.objects.create(name="Own")
    places = [reverse(f"admin:relays_{name}_changelist") for name in ("relay", "route", "ippool", "dedicatedip", "inboxmail")]
    places += [reverse("admin:relays_relay_add"), reverse("admin:relays_relay_add") + "?kind=asking", inbox(mail, "source")]
    places += [change(row) for row in (relay, mail, pool, Route.objects.get())]
    for url in places:
        response = admin_client.get(url)
        assert response.status_code == 200
        for inline in (" style=", "<style", " onclick", "javascript:"):
            assert inline not in text(response), (url, inline)


def test_pages_with_nothing_on_them_open(admin_client: Client) -> None:
    for name in ("relay", "route", "ippool", "dedicatedip", "inboxmail"):
        assert admin_client.get(reverse(f"admin:relays_{name}_changelist")).status_code == 200
    assert "No mail here yet" in text(admin_client.get(reverse("admin:relays_inboxmail_changelist")))
