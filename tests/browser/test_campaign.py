from __future__ import annotations

import re
from collections import Counter

import pytest
from playwright.sync_api import Page, expect

from mailhub.demo import sample
from tests.browser.conftest import CONTACTS, Site
from tests.installation import LONG, until

pytestmark = pytest.mark.browser


def test_somebody_logs_in_sends_a_campaign_and_watches_it_finish(site: Site, page: Page, complaints: list[str]) -> None:
    page.get_by_role("link", name="Campaigns", exact=True).click()
    page.get_by_role("link", name=re.compile("Add campaign", re.IGNORECASE)).first.click()
    page.get_by_label(re.compile("^Name")).fill("Spring in the browser")
    sender = page.get_by_label(re.compile("^Sender"))
    sender.select_option(value=sender.locator("option", has_text=sample.NEWS).get_attribute("value"))
    for name in sample.LISTS.values():
        page.get_by_label(name).check()
    page.get_by_label(re.compile("^Subject")).fill("For {{ name }}: 新茶")
    page.get_by_label(re.compile("^HTML")).fill("<p>Dear {{ name }}, the first flush is here.</p>")
    page.get_by_role("button", name="Save and continue editing").click()

    page.get_by_role("link", name="Send or schedule…").click()
    before = len(site.received())
    expect(page.locator("main, #content").first).to_contain_text(f"{CONTACTS} recipients")
    page.get_by_role("button", name=f"Send now to {CONTACTS} recipients").click()

    # What changes on this page changes by itself.
    expect(page.locator(".overview .badge").first).to_have_text("finished", timeout=LONG * 1000)
    sent = until(lambda: Counter(answer.recipient for answer in site.received()[before:] if answer.code == 250))
    assert sent and set(sent.values()) == {1}

    page.get_by_role("link", name="All its messages").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(min(CONTACTS, 50))
    page.locator("#result_list tbody tr").first.get_by_role("link").first.click()
    expect(page.locator("body")).to_contain_text("accepted by relay")
    assert complaints == []
