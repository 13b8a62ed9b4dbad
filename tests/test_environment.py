from __future__ import annotations

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.test import Client, override_settings
from django.urls import reverse

from mailhub import environment

pytestmark = pytest.mark.django_db


def values() -> dict[str, str]:
    return {setting.name: setting.value for setting in environment.found()}


def test_staff_who_see_workers_see_what_mailhub_was_started_with(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    staff = User.objects.create_user("hana", is_staff=True)
    client.force_login(staff)
    address = reverse("admin:environment")
    assert client.get(address).status_code == 403
    staff.user_permissions.add(Permission.objects.get(codename="view_worker"))
    monkeypatch.setenv("MAILHUB_WORKERS", "2")
    page = client.get(address).content.decode()
    assert "MAILHUB_WORKERS" in page and address in client.get(reverse("admin:delivery_worker_changelist")).content.decode()
    given = {setting.name for setting in environment.found() if setting.given}
    assert "MAILHUB_WORKERS" in given and "MAILHUB_TRACKING" not in given


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://mailhub:s3cret@db.example:5432/mailhub")
    with override_settings(REDIS_URL="rediss://:s3cret@redis.example:6379/0"):
        found = values()
    assert found["DATABASE_URL"] == "postgres://mailhub:…@db.example:5432/mailhub"
    assert found["REDIS_URL"] == "rediss://:…@redis.example:6379/0"
    whole = " ".join(found.values())
    assert "s3cret" not in whole and settings.SECRET_KEY not in whole
    assert not any(key in whole for key in settings.MAILHUB_ENCRYPTION_KEYS)


def test_values_read_as_people_write_them() -> None:
    with override_settings(MAILHUB_DO_NOT_SEND=True, MAILHUB_REPORT_ADDRESSES=["a@tea.example", "b@tea.example"]):
        found = values()
    assert (found["MAILHUB_DO_NOT_SEND"], found["MAILHUB_REPORT_ADDRESSES"]) == ("on", "a@tea.example, b@tea.example")
