"""Templates from the draft to what is sent, and back."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from mailhub.delivery import formats, prepare, preview
from mailhub.delivery.models import Message
from mailhub.senders.models import Sender
from tests.transactional.conftest import make_template
from transactional import samples, sending, variables
from transactional.models import Submission, Template
from transactional.requests import Invalid, Request

pytestmark = pytest.mark.django_db


def text(response: Any) -> str:
    assert response.status_code == 200
    return response.content.decode()  # type: ignore[no-any-return]


def url(template: Template, name: str, *more: int) -> str:
    return reverse(f"admin:transactional_template_{name}", args=[template.pk, *more])


def subject(key: str = "order-confirmation") -> str:
    request = Request(
        sender="shop@example.com", recipients=["a@example.net"], via=Submission.Via.API, template=key,
        data={"name": "Taro", "order": {"number": "R-1"}},
    )  # fmt: skip
    return sending.send(request).content.subject


# ------------------------------------------------------------------------------------------------------------------ versions


def test_a_draft_is_sent_once_it_is_published_and_can_be_taken_back(admin_client: Client, sender: Sender, template: Template) -> None:
    first = subject()
    Template.objects.update(subject="New {{ order.number }}")
    assert subject() == first
    assert "Sites get version 1" in text(admin_client.get(url(template, "change")))
    assert "Version 1 is kept" in text(admin_client.get(url(template, "publish")))
    told = text(admin_client.post(url(template, "publish"), {"note": "Shorter"}, follow=True))
    assert "Published as version 2." in told and "Published by admin" in told
    assert subject() == "New {{ order.number }}" and Submission.objects.latest("pk").version == 2
    listed = text(admin_client.get(url(template, "versions")))
    assert "Shorter" in listed and "Version 1" in listed and "admin" in listed
    shown = text(admin_client.get(url(template, "version", 1)))
    assert "<ins>New {{ order.number }}</ins>" in shown and "<del>Order {{ order.number }}</del>" in shown
    assert "In place of version 2" in text(admin_client.get(url(template, "use", 1)))
    assert subject() != first
    admin_client.post(url(template, "use", 1))
    template.refresh_from_db()
    assert subject() == first and template.subject == "New {{ order.number }}" and template.changed
    admin_client.post(url(template, "take_back", 1))
    template.refresh_from_db()
    assert template.subject == first and not template.changed
    history = text(admin_client.get(reverse("admin:transactional_template_history", args=[template.pk])))
    assert "Published as version 2." in history and "Version 1 is what is sent now." in history


def test_what_cannot_be_filled_in_is_not_published(admin_client: Client, template: Template) -> None:
    Template.objects.update(source="{{ name }} {{ coupon }}")
    shown = text(admin_client.post(url(template, "publish")))
    assert "“coupon”" in shown
    Template.objects.update(source="{{ name.first.initial }}")
    with pytest.raises(ValidationError):
        Template.objects.get().publish(None)
    assert template.versions.count() == 1


def test_an_unpublished_template_is_no_template_for_sites(sender: Sender, template: Template) -> None:
    Template.objects.create(key="draft", language="en", subject="S", source="x")
    with pytest.raises(Invalid, match="has not been published"):
        subject("draft")
    with pytest.raises(Invalid, match="There are: order-confirmation"):
        subject("drafts")


def test_who_may_only_look_publishes_nothing(client: Client, django_user_model: Any, template: Template) -> None:
    from django.contrib.auth.models import Permission

    user = django_user_model.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_template", content_type__app_label="transactional"))
    client.force_login(user)
    for name, more in (("publish", ()), ("test", ()), ("use", (1,)), ("take_back", (1,))):
        assert client.post(url(template, name, *more)).status_code in (403, 405)
    for name, more in (("versions", ()), ("version", (1,)), ("preview", ()), ("version_preview", (1,))):
        assert client.get(url(template, name, *more)).status_code == 200


# ----------------------------------------------------------------------------------------------------------------- variables


def test_what_is_declared_has_to_be_given_but_for_what_may_be_missing() -> None:
    sample = {"name": "Taro", "order": {"number": 1, "coupon": "SPRING", "items": [{"name": "Tea", "note": "Gift"}]}}
    template = Template(sample=sample, optional="order.coupon, order.items.note")
    given = {"name": "Hana", "order": {"number": 2, "items": [{"name": "Tea", "note": "x"}, {"note": "y"}, {"name": "Pot"}]}}
    assert variables.missing(template, given) == ["order.items[1].name"]
    assert variables.missing(template, {}) == ["name", "order"]
    assert variables.missing(template, {"name": None, "order": {"number": 0, "items": "none"}}) == ["order.items"]
    assert variables.missing(template, {"name": "", "order": []}) == ["order"]
    filled = variables.filled(template, given)
    assert filled["order"]["coupon"] is None and filled["order"]["items"][2] == {"name": "Pot", "note": None}
    assert "coupon" not in given["order"]
    assert dict(variables.names(sample)).keys() == {"name", "order.number", "order.coupon", "order.items[].name", "order.items[].note"}


def test_a_mail_without_what_may_be_missing_is_sent(sender: Sender) -> None:
    sample = {"name": "Taro", "coupon": {"code": "SPRING"}}
    make_template(key="c", subject="Hi", source="{{ name }}{% if coupon %} {{ coupon.code }}{% endif %}", sample=sample, optional="coupon")
    request = {"sender": "shop@example.com", "recipients": ["a@example.net"], "via": Submission.Via.API, "template": "c"}
    content = sending.send(Request(**request, data={"name": "Hana"})).content
    assert b"\r\n\r\nHana\r\n" in prepare.Compiled(content).envelope(content.messages.get()).data
    with pytest.raises(Invalid, match="“name, coupon.code”"):
        sending.send(Request(**request, data={"coupon": {}}))


# ------------------------------------------------------------------------------------------------------------ looked at, tested


def test_a_template_is_looked_at_on_a_screen_a_phone_and_in_the_dark(admin_client: Client, sender: Sender) -> None:
    samples.load()
    template = Template.objects.get(key="order-confirmation", language="ja")
    shown = text(admin_client.get(url(template, "change")))
    for part in ("Desktop", "Phone", "Dark", "Text", f'src="{url(template, "preview")}?dark=1"', "order.items[].name", "山田 太郎 様"):
        assert part in shown, part
    light, dark = (text(admin_client.get(url(template, "preview") + query)) for query in ("", "?dark=1"))
    assert "@media (max-width: 0)" in light and "@media (min-width: 0)" in dark and "prefers-color-scheme" not in light + dark


def test_a_test_goes_to_staff_as_it_is_written_now(admin_client: Client, sender: Sender, template: Template) -> None:
    Template.objects.update(subject="Draft {{ order.number }}")
    assert 'value="admin@example.com"' in text(admin_client.get(url(template, "test")))
    told = text(admin_client.post(url(template, "test"), {"sender": sender.pk, "address": "desk@tea.example"}, follow=True))
    assert "A test is on its way to desk@tea.example." in told
    message = Message.objects.get()
    assert b"Subject: Draft R-1\r\n" in prepare.Compiled(message.content).envelope(message).data
    assert message.content.submission.via == Submission.Via.ADMIN
    Template.objects.update(source="{{ coupon }}")
    assert "coupon" in text(admin_client.post(url(template, "test"), {"sender": sender.pk, "address": "desk@tea.example"}))
    assert "errorlist" in text(admin_client.post(url(template, "test"), {"sender": sender.pk, "address": "nobody@"}))
    assert Message.objects.count() == 1


# ------------------------------------------------------------------------------------------------------------------- formats

MARKDOWN = """# Hi {{ name }}

Order_number `x` *{{ order.my_total_value }}*, [look]({{ url }}).

| Item | Price |
|---|--:|
{% for item in items %}
| {{ item.name }} | {{ item.price|number }} |
{% endfor %}

{% if note %}
> {{ note }}
{% endif %}
"""
MJML = """<mjml><mj-head><mj-title>{{ name }}</mj-title></mj-head><mj-body>
{% if items %}
<mj-section><mj-column>
<mj-text>Hi {{ name|default("you") }}</mj-text>
{% for item in items %}
<mj-text>{{ item.name }}</mj-text>
{% endfor %}
<mj-button href="{{ url }}">Look</mj-button>
</mj-column></mj-section>
{% endif %}
</mj-body></mjml>"""
DATA = {
    "name": "Hana", "url": "https://a.example/?a=1&b=2", "note": "Gift", "order": {"my_total_value": 7},
    "items": [{"name": "Tea", "price": 1200}, {"name": "Pot", "price": 8800}],
}  # fmt: skip


def test_markdown_is_written_and_html_is_sent() -> None:
    said = preview.render("S", formats.html(MARKDOWN, "markdown"), "", DATA)
    for part in ("<h1", "Hi Hana", "<em>7</em>", 'href="https://a.example/?a=1&amp;b=2"', ">Pot</td>", "<blockquote"):
        assert part in said.html, part
    assert said.html.count("<tr>") == 3 + 2 and "{%" not in said.html and "mailhubtag" not in said.html
    assert "Tea  1,200" in said.text


def test_mjml_is_written_and_html_is_sent() -> None:
    said = preview.render("S", formats.html(MJML, "mjml"), "", DATA)
    for part in ("Hi Hana", ">Tea</div>", ">Pot</div>", 'href="https://a.example/?a=1&amp;b=2"', "<title>Hana</title>"):
        assert part in said.html, part
    assert "mj-" not in said.html.replace("mj-column", "").replace("mj-outlook", "") and "{%" not in said.html
    # Nothing is fetched from elsewhere by whoever reads it.
    assert "fonts.googleapis" not in said.html


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("Hello", "This is no MJML"),
        ("<mjml><mj-body>\n<mj-section></mj-body></mjml>", "ends before all its elements are closed"),
        ('<mjml><mj-body><mj-include path="/etc/passwd"/></mj-body></mjml>', "Nothing can be included"),
    ],
)
def test_mjml_that_cannot_be_read_says_why(admin_client: Client, source: str, words: str) -> None:
    with pytest.raises(formats.NotWellFormed, match="Line [1-9].*" + words):
        formats.html(source, "mjml")
    fields = {"key": "k", "language": "en", "format": "mjml", "subject": "S", "source": source, "text": "", "sample": "{}", "optional": ""}
    assert words in text(admin_client.post(reverse("admin:transactional_template_add"), fields))
    template = Template.objects.create(key="k", language="en", format="mjml", subject="S", source=source)
    assert words in text(admin_client.get(url(template, "change"))) and words in text(admin_client.get(url(template, "preview")))


@pytest.mark.parametrize(("format", "source"), [("markdown", "Hi {{ name"), ("mjml", MJML.replace("endfor", "endfour"))])
def test_mistakes_of_the_template_itself_are_told_in_every_format(format: str, source: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Template(key="k", language="en", format=format, subject="S", source=source).clean()
    assert set(caught.value.message_dict) == {"source"}
