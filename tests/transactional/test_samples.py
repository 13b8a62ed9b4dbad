from __future__ import annotations

import email
import email.policy
from html.parser import HTMLParser

import pytest
from django.core.management import call_command

from mailhub.delivery import prepare
from mailhub.senders.models import Sender
from transactional import samples, sending
from transactional.models import Submission, Template
from transactional.requests import Request

EVERY = [(key, language) for key in samples.KEYS for language in samples.LANGUAGES]


@pytest.mark.parametrize(("key", "language"), EVERY)
def test_a_sample_has_a_value_for_every_placeholder_and_uses_them(key: str, language: str) -> None:
    sample = samples.read(key, language)
    said = prepare.Words(sample.subject, sample.html, sample.text, strict=True).render({**sample.data, "email": "taro@example.net"})
    for part in (said.subject, said.html, said.text):
        assert "{{" not in part and "{%" not in part
        assert sample.data["shop"]["name"] in part
    for part in (said.html, said.text):
        assert sample.data["name"] in part
    assert f'<html lang="{language}"' in said.html
    assert len(said.html.encode()) < 30_000


@pytest.mark.parametrize(("key", "language"), EVERY)
def test_a_samples_html_is_fit_for_mail_programs(key: str, language: str) -> None:
    """Tables for layout, rules in the elements, the rest in @media; nothing loaded from elsewhere."""
    sample = samples.read(key, language)
    html = prepare.Words("", sample.html, "").render({**sample.data, "email": "taro@example.net"}).html
    assert "prefers-color-scheme: dark" in html and "max-width: 620px" in html
    elements: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            elements.append((tag, dict(attrs)))

    Reader().feed(html)
    assert all(values.get("style") for tag, values in elements if tag == "td")
    assert not {"script", "img", "link", "iframe", "form"} & {tag for tag, _values in elements}
    assert all((values["href"] or "").startswith(("https://", "mailto:")) for tag, values in elements if tag == "a")


@pytest.mark.parametrize("key", ["order-confirmation", "purchase-details"])
@pytest.mark.parametrize("language", samples.LANGUAGES)
def test_the_samples_sums_are_right(key: str, language: str) -> None:
    data = samples.read(key, language).data
    bought = data.get("order") or data["purchase"]
    items = sum(item["price"] * item["quantity"] for item in bought["items"])
    assert items + bought.get("shipping", 0) - bought.get("discount", 0) == bought["total"]
    if "taxes" in bought:
        assert sum(tax["base"] for tax in bought["taxes"]) == bought["total"]
        assert all(tax["base"] * tax["rate"] // (100 + tax["rate"]) == tax["amount"] for tax in bought["taxes"])


@pytest.mark.parametrize(("key", "language"), EVERY)
def test_a_text_part_has_no_holes(key: str, language: str) -> None:
    sample = samples.read(key, language)
    for text in (sample.text, ""):
        said = prepare.Words("", sample.html, text).render({**sample.data, "email": "taro@example.net"}).text
        assert "\n\n\n" not in said
        assert "display" not in said and "<td" not in said


@pytest.mark.parametrize(("key", "language"), EVERY)
def test_a_loaded_sample_can_be_sent(sender: Sender, key: str, language: str) -> None:
    call_command("load_samples", verbosity=0)
    sample = samples.read(key, language)
    submission = sending.send(
        Request(
            sender=sender.email, recipients=["taro@example.net"], via=Submission.Via.API, template=key, data=sample.data, language=language
        )
    )
    data = prepare.Compiled(submission.content).envelope(submission.content.messages.get()).data
    assert data.isascii()
    parsed = email.message_from_bytes(data, policy=email.policy.default)
    assert not parsed.defects
    assert [part.get_content_type() for part in parsed.walk()] == ["multipart/alternative", "text/plain", "text/html"]


@pytest.mark.django_db
def test_loading_adds_what_is_missing_and_keeps_what_staff_changed() -> None:
    assert samples.load() == 6
    Template.objects.filter(key="order-confirmation", language="ja").update(subject="自社の件名")
    Template.objects.filter(key="purchase-details").delete()
    assert samples.load() == 2
    assert Template.objects.get(key="order-confirmation", language="ja").subject == "自社の件名"
