"""Every page that the side bar leads to, as people meet it: in both languages, on a desk and on a phone, light and dark."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Dialog, Page, expect

from tests.browser.conftest import Site

pytestmark = pytest.mark.browser

# Set to a folder, it gets a picture of each page.
PICTURES = os.environ.get("PICTURES", "")


def links(page: Page, selector: str) -> list[str]:
    return page.locator(selector).evaluate_all("links => links.map(link => link.getAttribute('href'))")


def lists(page: Page) -> list[str]:
    """Where the side bar leads."""
    page.goto("/admin/")
    return sorted({path for path in links(page, "#nav-sidebar a[href^='/admin/']") if path.count("/") >= 4})


def beyond(page: Page, path: str) -> list[str]:
    """From the list at `path`, which the page shows: its first row, and the page to add one."""
    selectors = (f"#content a[href^='{path}'][href*='/change/']", f"#content a[href^='{path}add/']")
    return [found[0] for selector in selectors if (found := links(page, selector))]


def speak(page: Page, language: str) -> None:
    """By the switch at the top."""
    page.get_by_role("button", name="Language").click()
    page.locator(f"#language-menu button[value={language}]").click()
    expect(page.locator("html")).to_have_attribute("lang", language)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_pages_break_no_rule_of_their_own_and_fit_a_phone(site: Site, page: Page, complaints: list[str], language: str) -> None:
    speak(page, language)
    starts = lists(page)
    pages = ["/admin/", *starts]
    too_wide = []
    for path in pages:
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(path)
        if path in starts:
            pages += beyond(page, path)  # to be walked as well
        picture(page, language, path, "desk")
        assert page.locator("html").get_attribute("lang") == language
        page.set_viewport_size({"width": 390, "height": 844})
        picture(page, language, path, "phone")
        if page.evaluate("document.documentElement.scrollWidth") > 390:
            too_wide.append(path)
    assert len(pages) > 40
    assert not complaints, "\n".join(sorted(set(complaints)))
    assert too_wide == []


def picture(page: Page, *names: str) -> None:
    if PICTURES:
        name = "-".join(re.sub(r"\W+", "_", name).strip("_") for name in names)
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


def test_what_was_typed_is_not_lost_without_a_question(page: Page) -> None:
    asked: list[str] = []

    def leave(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", leave)
    page.goto("/admin/campaigns/mailinglist/add/")
    page.get_by_role("link", name="Overview").click()
    expect(page.locator("h1")).to_have_text("Overview")
    assert not asked
    page.goto("/admin/campaigns/mailinglist/add/")
    page.locator("#id_name").press_sequentially("Spring")
    page.get_by_role("link", name="Overview").click()
    expect(page.locator("h1")).to_have_text("Overview")
    assert asked == ["beforeunload"]
