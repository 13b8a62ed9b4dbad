"""A real browser before `manage.py run` with the sample shop."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Browser, Page, sync_playwright

from mailhub.demo import sample
from mailhub.demo.receiver import Answer, Books
from tests.installation import LONG, Installation, free_ports, installed, until

CONTACTS = 40


def manage(*arguments: object) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *map(str, arguments)]


@dataclass(frozen=True, slots=True)
class Site:
    installation: Installation
    address: str
    books: Path

    def received(self) -> list[Answer]:
        """What the receiving mail server has answered so far."""
        with closing(Books(self.books)) as books:
            return books.after(0)


@pytest.fixture(scope="package")
def site(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("browser")
    with installed("browser", folder, django_db_blocker) as installation, running(installation) as site:
        yield site


@contextmanager
def running(installation: Installation) -> Iterator[Site]:
    port, receiver_port = free_ports(2)
    load = f"from mailhub.demo import sample; sample.load({CONTACTS}, {receiver_port})"
    subprocess.run(manage("shell", "-v0", "-c", load), env=installation.environment, check=True)  # noqa: S603
    books, log = installation.folder / "receiver.sqlite3", installation.folder / "log"
    options = ["--port", port, "--receiver-port", receiver_port, "--receiver-database", books]
    with log.open("wb") as output:
        process = subprocess.Popen(manage("run", *options), env=installation.environment, stdout=output, stderr=output)  # noqa: S603
    site = Site(installation, f"http://127.0.0.1:{port}", books)
    try:
        until(lambda: process.poll() is not None or answers(f"{site.address}/readyz"))
        yield site
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(LONG)
        sys.stderr.write(log.read_text())


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as page:  # noqa: S310  our own
            return bool(page.status == 200)
    except OSError:
        return False


# No longer than this package (which its __init__.py makes it): while it runs, Django takes every other test for one that runs in an event
# loop.
@pytest.fixture(scope="package")
def browser(site: Site) -> Iterator[Browser]:
    path = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
    assert path, "No Chromium on this machine: run scripts/install_packages"
    # Chromium's own sandbox does not work for root; it only looks at pages of ours.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser held against the pages: violations of their policy, scripts that failed, files that were not there."""
    return []


@pytest.fixture
def page(site: Site, browser: Browser, complaints: list[str]) -> Iterator[Page]:
    with logged_in(site, browser, complaints) as page:
        page.on("response", lambda response: complaints.append(f"{response.status} {response.url}") if response.status >= 400 else None)
        yield page


@contextmanager
def logged_in(site: Site, browser: Browser, complaints: list[str]) -> Iterator[Page]:
    """At the overview, in English."""
    with browser.new_context(base_url=site.address, locale="en-GB", viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/admin/")
        page.get_by_label("Username").fill(sample.LOGIN)
        page.get_by_label("Password").fill(sample.password())
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(lambda url: "/login/" not in url)
        yield page
