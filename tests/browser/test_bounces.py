"""The bounce page, as staff use it: from a number to its mails, from what could not be matched to the message it is about, and to whom it
keeps mail from."""

from __future__ import annotations

import subprocess

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site, manage
from tests.browser.test_pages import speak

pytestmark = pytest.mark.browser

SEED = """
from django.utils import timezone
from mailhub.delivery import events, queue
from mailhub.delivery.models import Content
from mailhub.feedback import incoming
from mailhub.feedback.returns import tally
from mailhub.relays.models import Relay
from mailhub.senders.models import Sender
sender = Sender.objects.first()
content = Content.objects.create(subject="Tea", text="Tea", from_email=sender.email, unsubscribe_base="")
message = queue.new("transactional", content=content, sender=sender, address="gone@example.net")
message.status, message.relay = "sent", Relay.objects.first()
message.save()
event = events.record(message, "bounced", at=timezone.now(), detail="550 5.1.1 <gone@example.net>: User unknown")
words = ("bounced", "hard", "user_unknown", event.detail)
tally.add([(event.pk, *words, event.recorded_at, message.pk, message.address, None, None, None, "transactional")])
mail = b"From: MAILER-DAEMON@mx.example.net\\nSubject: Undelivered Mail\\n\\n<lost@example.net>: 550 5.1.1 User unknown\\n"
incoming.take(mail, "upload")
"""


@pytest.fixture(scope="module")
def seeded(site: Site) -> None:
    subprocess.run(manage("shell", "-v0", "-c", SEED), env=site.installation.environment, check=True)  # noqa: S603


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("language", ["en", "ja"])
def test_staff_go_from_a_number_to_its_mails(page: Page, complaints: list[str], language: str) -> None:
    speak(page, language)
    page.goto("/admin/returns/count/")
    expect(page.locator(".chart").first).to_be_visible()
    page.get_by_role("link", name="550 5.1.1 [address]: User unknown").first.click()
    page.get_by_role("link", name="gone@example.net").first.click()
    page.wait_for_url("**/delivery/message/**")
    page.goto("/admin/returns/count/?category=user_unknown&span=week")
    page.locator(".chosen .off").click()
    page.wait_for_url(lambda url: "category" not in url)
    page.locator(".obstacle.alert a[href*='open=open']").click()
    page.get_by_role("link", name="Undelivered Mail").first.click()
    page.locator("a[href$='/match/']").click()
    page.locator("input[name=q]").fill("gone@example.net")
    page.locator("form[method=get].upload button").click()
    expect(page.locator("input[name=message]")).to_have_count(1)
    page.goto("/admin/receivers/report/")
    expect(page.locator("input[type=file]")).to_be_visible()
    # The bounce has suppressed the address; why, a page of its own says, and how to lift it.
    page.goto("/admin/delivery/suppression/")
    page.get_by_role("link", name="gone@example.net").first.click()
    page.wait_for_url("**/delivery/suppression/*/change/")
    page.goto("/admin/reach/?address=gone@example.net")
    expect(page.locator("main, #content").first).to_contain_text("550 5.1.1")
    assert not complaints, "\n".join(complaints)
