from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from mailhub.lib import fields
from mailhub.management.commands import rotate_keys
from mailhub.relays.models import Relay

pytestmark = pytest.mark.django_db

OLD, NEW, LOST = (Fernet.generate_key().decode() for _ in range(3))


@pytest.fixture(autouse=True)
def old_key(settings: Settings) -> None:
    settings.MAILHUB_ENCRYPTION_KEYS = [OLD]


def relay(name: str, **secrets: str) -> Relay:
    return Relay.objects.create(name=name, kind="memory", secrets=secrets)


def stored() -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, secrets FROM relays_relay")
        return dict(cursor.fetchall())


def rotate() -> str:
    out = StringIO()
    call_command("rotate_keys", stdout=out)
    return out.getvalue()


def test_secrets_open_with_the_new_key_alone_after_it(settings: Settings) -> None:
    relay("A", password="one")
    relay("B", password="two")
    settings.MAILHUB_ENCRYPTION_KEYS = [NEW, OLD]
    assert "relays.Relay.secrets: 2 rows, 2 encrypted anew, 0 had the first key" in rotate()
    settings.MAILHUB_ENCRYPTION_KEYS = [NEW]
    assert [found.secrets for found in Relay.objects.order_by("name")] == [{"password": "one"}, {"password": "two"}]


def test_a_second_run_changes_nothing(settings: Settings) -> None:
    relay("A", password="one")
    settings.MAILHUB_ENCRYPTION_KEYS = [NEW, OLD]
    rotate()
    after = stored()
    assert "relays.Relay.secrets: 1 rows, 0 encrypted anew, 1 had the first key" in rotate()
    assert stored() == after


def test_what_is_done_before_an_interruption_stays_done(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ABCDE":
        relay(name, password=name)
    settings.MAILHUB_ENCRYPTION_KEYS = [NEW, OLD]
    monkeypatch.setattr(rotate_keys, "CHUNK", 2)
    turned = rotate_keys.turned
    seen: list[Any] = []

    def interrupted(*args: Any) -> tuple[str, str]:
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(args)
        return turned(*args)

    monkeypatch.setattr(rotate_keys, "turned", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rotate()
    monkeypatch.setattr(rotate_keys, "turned", turned)
    assert "5 rows, 3 encrypted anew, 2 had the first key" in rotate()
    settings.MAILHUB_ENCRYPTION_KEYS = [NEW]
    assert [found.secrets["password"] for found in Relay.objects.order_by("name")] == list("ABCDE")


def test_a_secret_that_no_key_opens_is_named_and_left(settings: Settings) -> None:
    settings.MAILHUB_ENCRYPTION_KEYS = [LOST]
    locked = relay("Locked", password="lost")
    settings.MAILHUB_ENCRYPTION_KEYS = [OLD]
    relay("Open", password="one")
    before = stored()
    settings.MAILHUB_ENCRYPTION_KEYS = [NEW, OLD]
    with pytest.raises(CommandError, match=rf"No key opens 1 of them.*relays\.Relay {locked.pk}, secrets"):
        rotate()
    assert stored()["Locked"] == before["Locked"]
    assert stored()["Open"] != before["Open"]
    with pytest.raises(ImproperlyConfigured):
        Relay.objects.get(name="Locked")


def test_many_locked_rows_are_counted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ABC":
        relay(name, password=name)
    settings.MAILHUB_ENCRYPTION_KEYS = [NEW]
    monkeypatch.setattr(rotate_keys, "NAMED", 2)
    with pytest.raises(CommandError, match="No key opens 3 of them.* and 1 more"):
        rotate()


def test_nothing_that_it_says_is_a_secret(settings: Settings) -> None:
    relay("A", password="quite-secret")
    settings.MAILHUB_ENCRYPTION_KEYS = [NEW, OLD]
    said = rotate()
    for hidden in ("quite-secret", OLD, NEW, stored()["A"]):
        assert hidden not in said


def test_every_encrypted_column_is_found() -> None:
    assert (Relay, "secrets") in list(rotate_keys.encrypted())
    assert all(isinstance(model._meta.get_field(column), fields.EncryptedJSONField) for model, column in rotate_keys.encrypted())
