"""What staff may do is chosen by words that they can read."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

pytestmark = pytest.mark.django_db

EXPECTED = {
    "en": {"Delivery | Can add suppressions", "Delivery | Can read what mails say", "Relays | Can change relays"},
    "ja": {"配信 | 送信除外アドレスの追加", "配信 | メール本文の閲覧", "リレー | リレーの変更"},
}


def choices(page: str, field: str) -> list[str]:
    select = re.search(rf'<select name="{field}".*?</select>', page, re.DOTALL)
    assert select
    return re.findall(r"<option[^>]*>(.*?)</option>", select[0])


@pytest.mark.parametrize("language", EXPECTED)
def test_permissions_are_in_the_language_of_the_page(admin_client: Client, language: str) -> None:
    admin_client.cookies["django_language"] = language
    user = User.objects.create_user("hana")
    for url, field in (
        (reverse("admin:auth_user_change", args=[user.pk]), "user_permissions"),
        (reverse("admin:auth_group_add"), "permissions"),
    ):
        found = choices(admin_client.get(url).content.decode(), field)
        assert EXPECTED[language] <= set(found)
        # No two read alike.
        assert len(set(found)) == len(found)
        assert language == "en" or not any("Can " in words for words in found)


def test_a_permission_whose_model_is_gone_keeps_its_name() -> None:
    from django.contrib.auth.models import Permission
    from django.contrib.contenttypes.models import ContentType

    from mailhub.accounts import PermissionsField

    gone = ContentType.objects.create(app_label="campaigns", model="telegram")
    permission = Permission.objects.create(content_type=gone, codename="send_telegram", name="Can send telegrams")
    field = PermissionsField(Permission.objects.all())
    assert field.label_from_instance(permission) == str(permission)
    assert "Can send telegrams" in str(permission)


def test_a_users_page_says_that_there_is_a_password_and_nothing_of_its_hash(admin_client: Client, admin_user: User) -> None:
    page = admin_client.get(reverse("admin:auth_user_change", args=[admin_user.pk])).content.decode()
    assert "A password is set." in page and "md5" not in page and "iterations" not in page
