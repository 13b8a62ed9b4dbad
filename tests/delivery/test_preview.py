from __future__ import annotations

import pytest

from mailhub.delivery import preview
from mailhub.delivery.models import Content, Message
from mailhub.relays.base import Refused
from mailhub.relays.models import Stream
from tests.delivery.world import make_batch, make_sender


def test_a_preview_shows_the_mail_with_its_data_filled_in() -> None:
    shown = preview.render("Hi {{ name }}", "<p>{{ name }}, {{ email }}</p>", "", {"name": "Taro", "email": "x@example.net"})
    assert (shown.subject, shown.html, shown.text) == ("Hi Taro", "<p>Taro, x@example.net</p>", "Taro, x@example.net\n")


def test_a_frame_runs_nothing_whatever_it_shows() -> None:
    """listmonk CVE-2026-21483: scripts in a preview ran as the administrator who looked."""
    response = preview.frame("", "<script>alert(1)</script>", "", {})
    policy = response["Content-Security-Policy"]
    assert policy.startswith("sandbox") and "allow-scripts" not in policy and "allow-same-origin" not in policy
    assert "default-src 'none'" in policy and "script-src" not in policy
    assert response["X-Frame-Options"] == "SAMEORIGIN"


def test_a_mistake_is_shown_as_words() -> None:
    response = preview.frame("", "\n{% if <b> %}", "", {})
    assert response.status_code == 200
    assert b"Line 2" in response.content and b"<b>" not in response.content
    with pytest.raises(Refused):
        preview.render("{{ 1 / 0 }}", "", "", {})


@pytest.mark.django_db
def test_a_list_shows_subjects_as_recipients_of_a_campaign_read_them() -> None:
    sender = make_sender("shop@tea.example")
    batch = make_batch(sender, "hana@example.net")
    Content.objects.filter(pk=batch.content_id).update(subject="{{ name }}さんへ {{ city | upper }} {{ unknown }}")
    Message.objects.update(data={"name": "花"})
    message = Message.objects.get()
    assert preview.subject(message) == "花さんへ {{ city | upper }} {{ unknown }}"
    message.stream = Stream.TRANSACTIONAL
    assert preview.subject(message) == "{{ name }}さんへ {{ city | upper }} {{ unknown }}"
