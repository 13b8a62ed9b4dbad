from __future__ import annotations

from datetime import timedelta
from email import message_from_bytes, policy
from ipaddress import ip_network
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from mailhub.delivery import hits, mime, public, queue, tracking
from mailhub.delivery.models import Batch, Content, Event, Hit, LinkCount, Message
from mailhub.delivery.parts import Slot
from mailhub.delivery.prepare import Compiled
from mailhub.lib import clock, tokens
from mailhub.relays.models import Stream
from mailhub.senders import dkim
from mailhub.senders.models import Sender
from tests.delivery.world import make_sender

pytestmark = pytest.mark.django_db

HTML = """<html><body>
<a href="https://shop.example/tea?utm_source=news&amp;utm_medium=mail">Tea</a>
<a class='x' href='https://shop.example/{{ code }}'>Yours</a>
<a data-track="off" href="https://shop.example/quiet">Quiet</a>
<a href="#top">Top</a> <a href="mailto:a@shop.example">Mail</a> <a href="{{ unsubscribe_url }}">Leave</a>
<a href="https://shop.example/tea?utm_source=news&amp;utm_medium=mail">Tea again</a>
</body></html>"""
PERSON = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    public._frozen.cache_clear()


@pytest.fixture
def sender() -> Sender:
    return make_sender()


def make(sender: Sender, html: str = HTML, *, opens: bool = True, clicks: bool = True, **fields: Any) -> Content:
    content = Content(subject="Tea", html=html, from_email=sender.email, unsubscribe_base="https://hub.example/u/", **fields)
    tracking.switch_on(content, opens=opens, clicks=clicks)
    content.save()
    return content


def sent(sender: Sender, content: Content, address: str = "taro@example.net", *, ago: float = 3600, **data: Any) -> Message:
    batch, _new = Batch.objects.get_or_create(name="B", content=content, sender=sender)
    message = queue.new(Stream.CAMPAIGN, batch=batch, content=content, sender=sender, address=address, recipient_ref=1, data=data)
    message.status, message.settled_at = Message.Status.SENT, clock.now() - timedelta(seconds=ago)
    message.save()
    return message


def said(message: Message) -> tuple[str, str]:
    """HTML and text of the mail as it leaves."""
    mail = message_from_bytes(Compiled(message.content).envelope(message).data, policy=policy.default)
    html, text = (mail.get_body((kind,)) for kind in ("html", "plain"))
    assert html and text
    return html.get_content(), text.get_content()


def link(message: Message, number: int) -> str:
    return f"/t/c/{tracking.token(tracking.CLICK, message.content_id, message.pk)}/{number}"


def pixel(message: Message) -> str:
    return f"/t/o/{tracking.token(tracking.OPEN, message.content_id, message.pk)}"


def work_off() -> int:
    Hit.objects.update(at=clock.now() - hits.WAIT - timedelta(seconds=1))
    return hits.work_off()


# --------------------------------------------------------------------------------------------------------------- in the mail


def test_links_lead_by_way_of_us_and_nothing_else_is_touched(sender: Sender) -> None:
    content = make(sender)
    assert content.links == ["https://shop.example/tea?utm_source=news&utm_medium=mail", "https://shop.example/{{ code }}"]
    message = sent(sender, content, code="K1")
    html, text = said(message)
    ours = tracking.token(tracking.CLICK, content.pk, message.pk)
    assert html.count(f'href="http://127.0.0.1:8000/t/c/{ours}/1"') == 2
    assert html.count(f'href="http://127.0.0.1:8000/t/c/{ours}/2"') == 1
    assert html.count(f'<img src="http://127.0.0.1:8000{pixel(message)}" width="1" height="1" alt="" style="border:0"></body>') == 1
    for untouched in ('href="https://shop.example/quiet"', 'href="#top"', "mailto:a@shop.example", f'href="{message.unsubscribe_url}"'):
        assert untouched in html
    # People read the text part: it says where its links lead.
    assert "https://shop.example/K1" in text and "/t/c/" not in text


def test_without_tracking_a_mail_is_what_it_was(sender: Sender, settings: Settings) -> None:
    plain = make(sender, opens=False, clicks=False)
    assert (plain.tracking_base, plain.links, plain.tracks_opens) == ("", None, False)
    assert "/t/" not in said(sent(sender, plain, code="K1"))[0]
    settings.MAILHUB_TRACKING = "off"
    assert make(sender).tracking_base == ""


@pytest.mark.parametrize(("opens", "clicks"), [(True, False), (False, True)])
def test_opens_and_clicks_are_a_choice_each(sender: Sender, opens: bool, clicks: bool) -> None:
    html, _text = said(sent(sender, make(sender, opens=opens, clicks=clicks)))
    assert ("/t/o/" in html, "/t/c/" in html) == (opens, clicks)


def test_a_link_whose_words_only_a_loop_knows_is_left_alone(sender: Sender) -> None:
    html = '{% for url in urls %}<a href="https://a.example/{{ url }}">x</a>{% endfor %}<a href="https://b.example/">y</a>'
    content = make(sender, html)
    assert content.links == ["https://b.example/"]
    assert 'href="https://a.example/1"' in said(sent(sender, content, urls=["1"]))[0]


def test_links_survive_the_inlining_of_styles_and_the_encoding_for_japanese(sender: Sender) -> None:
    html = "<style>a { color: red }</style>" + "<p>新茶の季節がやってまいりました。今年も香り高いお茶をお届けします。</p>" * 9 + HTML
    message = sent(sender, make(sender, html), code="K1")
    ours = tracking.token(tracking.CLICK, message.content_id, message.pk)
    assert f"/t/c/{ours}/1" in said(message)[0] and f"/t/c/{ours}/2" in said(message)[0]


def test_transactional_mail_has_no_link_stored_that_is_one_persons(sender: Sender) -> None:
    content = Content(html=HTML, from_email=sender.email)
    assert tracking.switch_on(content, opens=False, clicks=True).links == [
        "https://shop.example/tea?utm_source=news&utm_medium=mail"
    ]  # fmt: skip


def test_a_domain_has_a_host_of_its_own_for_links(sender: Sender) -> None:
    content = tracking.switch_on(Content(html=HTML, from_email=sender.email), opens=True, clicks=True, host="links.tea.example")
    assert content.tracking_base == "https://links.tea.example/t/"


# --------------------------------------------------------------------------------------------------------------- on the web


def test_a_click_leads_on_and_is_recorded_with_the_open_counted_once(sender: Sender, client: Client) -> None:
    message = sent(sender, make(sender), code="K1")
    client.defaults["HTTP_USER_AGENT"] = PERSON
    for _time in range(2):
        answer = client.get(pixel(message))
        assert (answer["Content-Type"], answer.content[:6]) == ("image/gif", b"GIF89a")
        assert "no-store" in answer["Cache-Control"] and not answer.cookies
        assert client.get(link(message, 1))["Location"] == "https://shop.example/tea?utm_source=news&utm_medium=mail"
    assert client.get(link(message, 2))["Location"] == "https://shop.example/K1"
    # Within seconds of each other, but two links are no crowd.
    assert hits.work_off() == 0
    assert work_off() == 5
    assert sorted(message.events.values_list("type", "kind", "detail")) == [
        ("clicked", "", "https://shop.example/tea?utm_source=news&utm_medium=mail"),
        ("clicked", "", "https://shop.example/tea?utm_source=news&utm_medium=mail"),
        ("clicked", "", "https://shop.example/{{ code }}"),
        ("opened", "", ""),
        ("opened", "", ""),
    ]
    client.get(link(message, 1))
    assert work_off() == 1
    assert message.batch
    message.batch.refresh_from_db()
    assert (message.batch.opened, message.batch.clicked) == (1, 1)
    assert list(LinkCount.objects.order_by("number").values_list("number", "messages", "times", "machines")) == [
        (0, 1, 2, 0),
        (1, 1, 3, 0),
        (2, 1, 1, 0),
    ]
    assert not Hit.objects.exists()


@pytest.mark.parametrize("change", ["forged", "altered", "other purpose", "no such link", "spelt otherwise", "other key"])
def test_a_link_that_is_not_ours_leads_nowhere_and_says_so(sender: Sender, client: Client, settings: Settings, change: str) -> None:
    message = sent(sender, make(sender))
    token = tracking.token(tracking.CLICK, message.content_id, message.pk)
    path = {
        "forged": "/t/c/aHR0cHM6Ly9ldmlsLmV4YW1wbGUv/1",
        "altered": f"/t/c/{token[:-2]}{'A' if token[-2] != 'A' else 'B'}{token[-1]}/1",
        "other purpose": f"/t/c/{tracking.token(tracking.OPEN, message.content_id, message.pk)}/1",
        "no such link": f"/t/c/{token}/9",
        "spelt otherwise": f"/t/c/{token}=/1",
        "other key": f"/t/c/{token}/1",
    }[change]
    if change == "other key":
        settings.SECRET_KEY = "another"
    answer = client.get(path, {"u": "https://evil.example/"})
    assert answer.status_code == 404 and "Location" not in answer
    assert "This link leads nowhere" in answer.content.decode()
    assert not Hit.objects.exists()
    # A picture is a picture.
    assert client.get(pixel(message)[:-3] + "xxx").status_code == 200
    assert Hit.objects.count() == 0


def test_only_reading_is_answered(sender: Sender, client: Client) -> None:
    message = sent(sender, make(sender))
    assert client.post(link(message, 1)).status_code == client.post(pixel(message)).status_code == 405
    assert client.head(link(message, 1)).status_code == 302
    assert work_off() == 1
    assert message.events.get().kind == "machine" and message.events.get().category == "prefetch"


def test_a_link_that_was_filled_in_leads_only_to_the_web(sender: Sender, client: Client) -> None:
    html = '<a href="https://shop.example/{{ code }}">x</a>'
    message = sent(sender, make(sender, html), code="a\r\nSet-Cookie: x")
    assert client.get(link(message, 1)).status_code == 404
    Message.objects.all().delete()
    assert client.get(link(message, 1)).status_code == 404


def test_behind_a_proxy_of_ours_whoever_it_names_is_who_opened(sender: Sender, client: Client, settings: Any) -> None:
    message = sent(sender, make(sender))
    client.defaults |= {"HTTP_USER_AGENT": PERSON, "HTTP_X_FORWARDED_FOR": "17.58.97.1"}
    client.get(pixel(message))
    settings.MAILHUB_TRUSTED_PROXIES = (ip_network("127.0.0.0/8"),)
    client.get(pixel(message))
    client.get(link(message, 1))
    assert list(Hit.objects.order_by("pk").values_list("sign", flat=True)) == ["", "apple", "apple"]


@pytest.mark.parametrize(
    ("agent", "fields", "sign"),
    [
        (PERSON, {}, ""),
        ("Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17328; Pro)", {}, ""),
        ("Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)", {}, "proxy"),
        ("YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html", {}, "proxy"),
        ("Mozilla/5.0", {}, "apple"),
        (PERSON, {"REMOTE_ADDR": "17.58.97.1"}, "apple"),
        ("", {}, "scanner"),
        ("curl/8.5.0", {}, "scanner"),
        ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", {}, "scanner"),
        ("Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5", {}, "scanner"),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/120.0 Safari/537.36", {}, "scanner"),
        (PERSON, {"HTTP_SEC_PURPOSE": "prefetch;prerender"}, "prefetch"),
        (PERSON, {"REMOTE_ADDR": "40.94.1.1"}, ""),
        (PERSON, {"REMOTE_ADDR": "40.92.1.1"}, "centre"),
        (PERSON, {"REMOTE_ADDR": ""}, ""),
    ],
)
def test_machines_show_themselves(agent: str, fields: dict[str, str], sign: str) -> None:
    client = fields.get("REMOTE_ADDR", "203.0.113.9")
    assert hits.sign({"HTTP_USER_AGENT": agent, **fields}, "GET", client) == sign
    assert hits.sign({"HTTP_USER_AGENT": agent, **fields}, "HEAD", client) == "prefetch"


@pytest.mark.parametrize(
    ("signs", "numbers", "ago", "kinds"),
    [
        # A person takes longer than that, and Gmail's proxy then was not asked by one.
        ([""], [1], 2, [("machine", "soon")]),
        (["proxy"], [0], 2, [("machine", "soon")]),
        (["proxy"], [0], 3600, [("", "proxy")]),
        (["centre"], [1], 60, [("machine", "soon")]),
        (["centre"], [1], 3600, [("", "")]),
        (["", "", ""], [1, 2, 3], 3600, [("machine", "many")] * 3),
        (["", "", ""], [1, 1, 2], 3600, [("", "")] * 3),
    ],
)
def test_haste_gives_machines_away(sender: Sender, signs: list[str], numbers: list[int], ago: float, kinds: list[tuple[str, str]]) -> None:
    html = "".join(f'<a href="https://shop.example/{number}">x</a>' for number in range(3))
    message = sent(sender, make(sender, html), ago=ago + hits.WAIT.total_seconds() + 1)
    for sign, number in zip(signs, numbers, strict=True):
        hits.take(message.content_id, message.pk, number, sign)
    assert work_off() == len(signs)
    assert sorted(message.events.values_list("kind", "category")) == sorted(kinds)
    assert message.batch
    message.batch.refresh_from_db()
    people = [kind for kind, _sign in kinds if not kind]
    assert message.batch.opened + message.batch.clicked == bool(people)
    counts = LinkCount.objects.all()
    assert sum(count.times for count in counts) == len(people)
    assert sum(count.machines for count in counts) == len(kinds) - len(people)


def test_anonymous_mails_are_all_alike_and_only_counted(sender: Sender, client: Client, settings: Settings) -> None:
    settings.MAILHUB_TRACKING = "anonymous"
    content = make(sender)
    first, second = (sent(sender, content, f"p{n}@example.net", code="K1") for n in range(2))
    token = tracking.token(tracking.CLICK, content.pk, 0)
    assert all(f"/t/c/{token}/1" in said(message)[0] for message in (first, second))
    # A link that stands in an older mail tells of nobody either.
    for path in (f"/t/c/{token}/1", link(first, 1)):
        assert client.get(path, headers={"User-Agent": PERSON}).status_code == 302
    assert work_off() == 2
    assert not Event.objects.exists()
    assert LinkCount.objects.get().times == 2


def test_a_mail_to_one_person_is_recorded_with_its_message_alone_and_not_at_all_where_nobody_is_to_be_known(
    sender: Sender, settings: Settings
) -> None:
    html = '<a href="https://shop.example/">x</a>'
    content = tracking.switch_on(Content(html=html, from_email=sender.email), opens=True, clicks=True)
    content.save()
    message = queue.new(Stream.TRANSACTIONAL, content=content, sender=sender, address="taro@example.net")
    message.save()
    hits.take(content.pk, message.pk, 1, "")
    assert work_off() == 1
    assert message.events.get().detail == "https://shop.example/"
    assert not LinkCount.objects.exists()
    settings.MAILHUB_TRACKING = "anonymous"
    assert tracking.switch_on(Content(html=html, from_email=sender.email), opens=True, clicks=True).tracking_base == ""
    hits.take(content.pk, message.pk, 1, "")
    assert work_off() == 1
    assert message.events.count() == 1 and not LinkCount.objects.exists()


def test_who_has_left_is_not_watched_any_more(sender: Sender) -> None:
    message = sent(sender, make(sender))
    Event.objects.create(message=message, type="unsubscribed", at=clock.now())
    hits.take(message.content_id, message.pk, 0, "")
    assert work_off() == 1
    assert not message.events.filter(type="opened").exists()
    assert LinkCount.objects.get().times == 1


def test_hits_of_what_is_forgotten_or_of_another_mail_record_nothing(sender: Sender) -> None:
    message, other = (sent(sender, make(sender), f"p{n}@example.net") for n in range(2))
    for content, key in ((10**9, 1), (message.content_id, 10**9), (other.content_id, message.pk)):
        hits.take(content, key, 0, "")
    assert work_off() == 3
    assert not Event.objects.exists()


def test_many_hits_are_recorded_with_few_queries(sender: Sender, django_assert_max_num_queries: Any) -> None:
    content = make(sender)
    messages = [sent(sender, content, f"p{n}@example.net") for n in range(40)]
    for message in messages:
        hits.take(content.pk, message.pk, 0, "")
        hits.take(content.pk, message.pk, 1, "")
    Hit.objects.update(at=clock.now() - timedelta(minutes=1))
    with django_assert_max_num_queries(30):
        assert hits.work_off() == 80
    batch = Batch.objects.get()
    assert (batch.opened, batch.clicked) == (40, 40)


def test_tokens_of_former_keys_still_lead_on(settings: Settings) -> None:
    token = tracking.token(tracking.CLICK, 1, 2)
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "new"
    assert tracking.read(tracking.CLICK, token) == (1, 2)
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(tokens.BadToken):
        tracking.read(tracking.CLICK, token)


@pytest.mark.parametrize("before", range(0, 80, 7))
def test_tokens_stand_in_encoded_lines_as_if_these_had_been_encoded_with_them(sender: Sender, before: int) -> None:
    """Wherever the line breaks fall."""
    html = f'<p>{"x" * before}<a href="https://shop.example/">é ~~ ^</a> <a href="https://shop.example/2">2</a></p>\n<p>{{{{ name }}}}</p>'
    message = sent(sender, make(sender, html), name="T")
    ours = Compiled(message.content)
    assert ours.html and sum(isinstance(piece, Slot) for _place, piece in ours.html.open) >= 2
    data = {"name": "T", **tracking.values(message.content, message.pk)}
    made, signed = ours.html.make(data)
    assert ours.html.plain
    assert made == mime.body(ours.html.plain.render(data), "quoted-printable")
    assert signed == dkim.relaxed_lines(made)
