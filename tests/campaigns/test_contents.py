from __future__ import annotations

import pytest
from django.utils import timezone

from campaigns import contents
from campaigns.models import Campaign, MailingList
from mailhub.delivery import prepare
from mailhub.delivery.models import Message
from mailhub.delivery.rendering import Rendered
from mailhub.senders.models import Sender

LINK = "https://mail.tea.example/u/token"


def rendered(campaign: Campaign, **data: str) -> Rendered:
    content = contents.freeze(campaign)
    return prepare.Words(content.subject, content.html, content.text).render({"unsubscribe_url": LINK, "name": "花", **data})


def test_what_the_law_wants_is_added_at_the_foot_of_both_parts(campaign: Campaign) -> None:
    campaign.text = "Dear {{ name }}, first flush!"
    said = rendered(campaign)
    assert said.html.startswith("<p>Dear 花, first flush!</p><div")
    assert f'href="{LINK}"' in said.html
    assert "緑茶堂 &amp; Co." in said.html and "1-2-3 Uji<br>Kyoto 611-0021" in said.html and "+81 774 00 0000" in said.html
    assert "subscribed to: News" in said.html
    assert said.text.startswith("Dear 花, first flush!\n\n-- \n")
    assert f"Unsubscribe: {LINK}\n" in said.text
    assert "緑茶堂 & Co.\n1-2-3 Uji\nKyoto 611-0021\nContact: +81 774 00 0000\n" in said.text


def test_a_text_made_from_the_html_has_the_foot_too(campaign: Campaign) -> None:
    said = rendered(campaign)
    assert f"Unsubscribe <{LINK}>" in said.text and "緑茶堂 & Co." in said.text and "1-2-3 Uji\nKyoto 611-0021" in said.text


def test_the_foot_stands_within_the_body(campaign: Campaign) -> None:
    campaign.html = "<!doctype html><html><head><style>p { color: red }</style></head><body><p>Hi</p></body></html>"
    html = rendered(campaign).html
    assert html.lower().startswith("<!doctype html>")
    assert html.rstrip().endswith("</div></body></html>")
    assert html.index("Hi") < html.index(LINK)


def test_nothing_is_said_twice(campaign: Campaign) -> None:
    campaign.html = (
        '<p>{{ organisation }}, {{ postal_address }}</p><p>Call +81 774 00 0000</p><p><a href="{{ unsubscribe_url }}">Leave</a></p>'
    )
    html = rendered(campaign).html
    assert html == (f'<p>緑茶堂 &amp; Co., 1-2-3 Uji\nKyoto 611-0021</p><p>Call +81 774 00 0000</p><p><a href="{LINK}">Leave</a></p>')
    campaign.html = "<p>{{ organisation|upper }} {{ unsubscribe_url }}</p>"
    html = rendered(campaign).html
    assert html.startswith(f"<p>緑茶堂 &amp; CO. {LINK}</p><div") and html.count("緑茶堂") == 1 and html.count(LINK) == 1


def test_the_sender_of_the_day_is_frozen(campaign: Campaign) -> None:
    campaign.html = "<p>{{ organisation }}</p>"
    content = contents.freeze(campaign)
    Sender.objects.update(organisation="Another", postal_address="Elsewhere", contact_point="Nobody")
    words = prepare.Words(content.subject, content.html, content.text).render({})
    assert "緑茶堂 &amp; Co." in words.html and "Kyoto" in words.html and "Another" not in words.html


@pytest.mark.parametrize(
    "name", ["{{ 7 * 7 }}", "{% if %}", "{# x", '"\\', "%}{{ x }}", "</body><script>alert(1)</script>", "🍵 'tea'", "a\u2028b"]
)
def test_a_sender_may_be_called_anything(campaign: Campaign, news: MailingList, name: str) -> None:
    campaign.sender.organisation = campaign.sender.contact_point = name
    plain = " ".join(name.split())
    news.name = plain
    news.save()
    campaign.html = "<html><body><p>{{ organisation }}</p></body></html>"
    campaign.text = "{{ contact_point }}"
    said = rendered(campaign)
    assert plain in said.text
    assert "<script>" not in said.html
    assert prepare.markup.text(said.html).count(plain) == 3


def test_headers_say_what_list_it_is(campaign: Campaign, news: MailingList, offers: MailingList) -> None:
    headers = contents.freeze(campaign).headers
    assert headers["List-Id"] == f"News <{news.public_id.hex}.tea.example>"
    assert headers["Precedence"] == "bulk"
    fields = headers["Feedback-ID"].split(":")
    assert len(fields) == len(set(fields)) == 4 and 5 <= len(fields[-1]) <= 15
    campaign.lists.add(offers)
    both = contents.freeze(campaign).headers["List-Id"]
    assert both.startswith('"News, Offers" <') and both == contents.freeze(campaign.copy()).headers["List-Id"]


def test_a_mail_with_a_japanese_list_has_readable_headers(campaign: Campaign, news: MailingList) -> None:
    news.name = "お知らせ <特別>"
    news.save()
    content = contents.freeze(campaign)
    message = Message(address="hana@example.net", recipient_ref=1, batch_id=1, data={"name": "花"}, created_at=timezone.now())
    mail = prepare.Compiled(content).envelope(message).data.decode()
    head = mail.partition("\r\n\r\n")[0]
    assert f"<{news.public_id.hex}.tea.example>" in head
    assert head.isascii()
    assert head.count("List-Unsubscribe:") == head.count("List-Unsubscribe-Post:") == head.count("Feedback-ID:") == 1
