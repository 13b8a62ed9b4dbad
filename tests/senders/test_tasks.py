from __future__ import annotations

import pytest

from mailhub.lib import tasks as wakes
from mailhub.senders import tasks
from mailhub.senders.models import DKIMKey, Domain, Sender
from tests.dns_server import DNSServer

pytestmark = pytest.mark.django_db


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, str]]:
    found: list[tuple[str, int, str]] = []
    monkeypatch.setattr(wakes, "enqueue", lambda task, pk, *, queue: found.append((task, pk, queue)))
    return found


def test_every_domain_that_mail_leaves_from_is_checked_once_by_a_task_of_its_own(woken: list[tuple[str, int, str]]) -> None:
    tea = Sender.objects.create(email="shop@tea.example").domain
    Sender.objects.create(email="info@tea.example")
    signs = Domain.objects.create(name="coffee.example")
    DKIMKey.make(signs)
    Domain.objects.create(name="unused.example")
    tasks.check_domains()
    assert sorted(woken) == [("mailhub.senders.tasks.check_domain", pk, "maintenance") for pk in sorted([tea.pk, signs.pk])]


def test_each_hour_only_what_waits_is_looked_at(woken: list[tuple[str, int, str]]) -> None:
    confirmed = Sender.objects.create(email="shop@tea.example")
    confirmed.confirm()
    waiting = Sender.objects.create(email="info@coffee.example").domain
    tasks.check_waiting()
    assert [pk for _task, pk, _queue in woken] == [waiting.pk]


def test_what_got_worse_is_logged_and_a_domain_that_is_gone_does_nothing(dns_server: DNSServer, caplog: pytest.LogCaptureFixture) -> None:
    domain = Sender.objects.create(email="shop@tea.example").domain
    assert tasks.check_domain(domain.pk) > 0
    assert "the DNS of tea.example got worse: TXT tea.example is missing" in caplog.text
    assert tasks.check_domain(domain.pk) == 0
    assert tasks.check_domain(0) == 0
