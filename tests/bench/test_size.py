"""A data set is of use only if it is as MailHub would have left it: the books balance, nothing points nowhere, and the indexes are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, models
from django.db.models import Sum

from campaigns import growth, launch
from campaigns.models import Campaign, Consent, Contact, MailingList, Subscription
from mailhub.bench import dataset, pages, size
from mailhub.bench.importing import peak_mb
from mailhub.bench.pages import Page, Pages
from mailhub.bench.site import Failed
from mailhub.bench.size import Figure, Plan
from mailhub.delivery import carried, retention
from mailhub.delivery.models import OPEN, Attempt, Batch, Content, Event, Message, Throughput
from mailhub.lib import clock
from mailhub.webhooks.models import Delivery
from tests.delivery.world import books, postgresql_only
from tests.installation import Installation

COMMAND = [sys.executable, str(settings.BASE_DIR / "manage.py"), "benchmark_size"]


def indexes() -> list[tuple[str, ...]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2")
        return list(cursor.fetchall())


def dangling() -> list[str]:
    """Columns that point to rows which are not there."""
    found = []
    for model in apps.get_models():
        for field in model._meta.local_concrete_fields:
            if isinstance(field, models.ForeignKey):
                there = field.related_model._base_manager.values(field.target_field.attname)
                rows = model._base_manager.exclude(**{f"{field.name}__isnull": True}).exclude(**{f"{field.attname}__in": there})
                if rows.exists():
                    found.append(f"{model._meta.label}.{field.name}")
    return found


@postgresql_only
@pytest.mark.django_db(transaction=True)
def test_a_data_set_is_as_mailhub_would_have_left_it() -> None:
    before = indexes()
    site = dataset.make(dataset.Size(messages=12_000, contacts=3_000), ("127.0.0.1", 9), lambda _words: None)
    assert indexes() == before
    assert dangling() == []
    states = books()
    assert retention.audit() == growth.audit() == []
    assert 11_500 < sum(states.values()) < 12_500
    assert {"queued", "deferred", "sent", "delivered", "bounced"} <= set(states)
    assert Batch.objects.filter(status="paused", waiting__gt=0).exists()
    assert Contact.objects.count() == 3_000
    subscribed = Subscription.objects.filter(status="subscribed", consent__isnull=False)
    assert subscribed.exists() and not subscribed.exclude(consent__basis__in=["opt_in", "relationship"]).exists()
    assert Consent.objects.filter(basis="withdrawn").count() == Subscription.objects.filter(status="unsubscribed").count() > 0
    # Keys and times go together, as lists and pages count on it.
    for model, column in ((Message, "created_at"), (Attempt, "finished_at")):
        times = list(model.objects.order_by("pk").values_list(column, flat=True))
        assert times == sorted(times)
    assert not Attempt.objects.filter(message__attempts=0).exists()
    assert not Event.objects.filter(message__status="queued").exists()
    # What is counted of it is what there is.
    counted = Throughput.objects.aggregate(accepted=Sum("accepted"), refused=Sum("bounced") + Sum("refused"), complained=Sum("complained"))
    assert counted["accepted"] == Attempt.objects.filter(outcome="sent").count()
    assert counted["refused"] == Attempt.objects.filter(outcome="refused").count()
    assert counted["complained"] == Message.objects.filter(status="complained").count()
    loads = carried.months([clock.now() - timedelta(days=dataset.DAYS + 1)])
    assert carried.total(loads.values()).accepted == counted["accepted"]
    assert Delivery.objects.filter(status="refused").exists() and not Delivery.objects.filter(created_at__gt=clock.now()).exists()
    # What waits keeps what it needs, and what is old has forgotten it.
    single = Message.objects.filter(stream="transactional")
    assert not single.filter(status__in=OPEN, content__html="").exists()
    assert single.filter(content__html="", data={}).exists()
    # And it goes on from there.
    site.spread(1)
    campaign = Campaign.objects.create(name="Next", sender=site.news, language="en", subject="Tea", html="<p>Tea for {{ name }}</p>")
    campaign.lists.add(MailingList.objects.order_by("name")[0])
    assert launch.launch(campaign, None).pk == Batch.objects.latest("pk").pk
    assert Content.objects.create(from_email="a@shop.example").pk == Content.objects.latest("pk").pk


@postgresql_only
@pytest.mark.django_db(transaction=True)
def test_every_list_of_the_admin_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset.make(dataset.Size(messages=3_000, contacts=1_000), ("127.0.0.1", 9), lambda _words: None)
    # Once is enough to see that each answers.
    monkeypatch.setattr(pages, "WARM", 0)
    monkeypatch.setattr(pages, "cool", lambda: False)
    found = Pages(lambda _words: None).run()
    paths = [page.path for page in found]
    for name in ("delivery/message", "delivery/event", "delivery/suppression", "campaigns/contact", "campaigns/consent", "relays/relay"):
        assert f"/admin/{name}/" in paths
        assert any(path.startswith(f"/admin/{name}/?") for path in paths) or name == "relays/relay"
    assert {page.kind for page in found} == {"dashboard", "lists", "searches", "pages", "api"}
    assert [path for path in paths if paths.count(path) > 1] == []
    assert all(page.cold is None for page in found)
    for name in ("messages?tag=none", "statistics", "contacts", "suppressions", "campaigns"):
        assert f"/api/v1/{name}" in paths
    for name in ("watching/deliverability/?span=month", "returns/count/?span=quarter", "delivery/move/report/"):
        assert f"/admin/{name}" in paths


def test_a_page_that_fails_is_told() -> None:
    class Answering:
        def get(self, path: str, secure: bool) -> object:
            return type("Response", (), {"status_code": 500})()

    calling = Pages.__new__(Pages)
    calling.client = Answering()  # type: ignore[assignment]
    with pytest.raises(Failed, match="/admin/ answers 500"):
        calling.get("/admin/")


# ---------------------------------------------------------------------------------------------------------------- the report

PLAN = Plan(messages=10_000_000, contacts=2_000_000, imported=1_000_000)


@pytest.mark.parametrize(
    ("value", "bar", "most", "holds"),
    [(60_000, 50_000, False, True), (40_000, 50_000, False, False), (0.2, 0.3, True, True), (0.4, 0.3, True, False), (None, 1, True, None)],
)
def test_a_bar_holds_from_above_or_from_below(value: float | None, bar: float, most: bool, holds: bool | None) -> None:
    assert Figure("key", "words", value, bar, most).holds is holds
    assert Figure("key", "words", value).holds is None


def test_each_figure_stands_beside_its_bar() -> None:
    figures = [
        Figure("expand_per_s", "recipients a second", 40_000.4, 50_000),
        Figure("first_mail_s", "seconds to the first mail", 0.5, 3, most=True, digits=2),
        Figure("lists_cold_s", "first calls", None),
    ]
    slow = Page("lists", "/admin/delivery/message/", 0.4, [0.1, 0.2])
    table = "\n".join(size.lines(PLAN, figures, [slow]))
    for words in (
        "10,000,000 messages",
        "40,000   bar 50,000  MISSED",
        "0.50   bar 3       held",
        "first calls",
        "/admin/delivery/message/",
    ):
        assert words in table, table
    found = json.loads(size.as_json(figures))
    assert found["expand_per_s"] == {"value": 40_000, "bar": 50_000, "holds": False}
    assert found["first_mail_s"] == {"value": 0.5, "bar": 3, "holds": True}
    assert found["lists_cold_s"] == {"value": None, "bar": None, "holds": None}


def test_memory_is_read_where_it_is_told() -> None:
    assert (peak_mb() > 10) == Path("/proc/self/status").exists()


# --------------------------------------------------------------------------------------------------------------- the command


def test_it_measures_nothing_that_others_work_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    with pytest.raises(CommandError, match="REDIS_URL= manage.py benchmark_size"):
        call_command("benchmark_size")


@pytest.mark.long
@postgresql_only
def test_it_measures_everything_that_it_promises(installation: Installation) -> None:
    environment = {**installation.environment, pages.CONTROL: ""}
    options = ["--messages", "30000", "--contacts", "10000", "--rows", "2000"]
    ended = subprocess.run([*COMMAND, *options], env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    found = json.loads(ended.stdout.splitlines()[-1])
    for key in ("made_s", "expand_per_s", "claim_ms", "first_mail_s", "lists_p95_s", "searches_p95_s", "forgotten_per_s", "import_per_s"):
        assert found[key]["value"] > 0, key
    assert found["lists_cold_s"]["value"] is None
    assert os.environ.get(pages.CONTROL) is None or installation.rows("SELECT 1") == [(1,)]
