from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.contrib import admin
from django.core.management import call_command
from django.utils import timezone
from django_q.models import Schedule

from mailhub import schedule


def table() -> list[tuple[str, str]]:
    return list(Schedule.objects.order_by("pk").values_list("func", "schedule_type"))


@pytest.mark.django_db
def test_the_schedule_is_installed_once_however_often_it_is_asked_for() -> None:
    call_command("schedule", verbosity=0)
    before = list(Schedule.objects.values().order_by("pk"))
    call_command("schedule", verbosity=0)
    assert list(Schedule.objects.values().order_by("pk")) == before
    assert {func for func, _kind in table()} == set(schedule.SCHEDULE)
    assert set(Schedule.objects.values_list("cluster", flat=True)) == {"maintenance"}


@pytest.mark.django_db
def test_what_is_overdue_stays_overdue() -> None:
    schedule.install()
    overdue = timezone.now() - timedelta(hours=5)
    Schedule.objects.filter(func="mailhub.delivery.tasks.prune").update(next_run=overdue)
    schedule.install()
    assert Schedule.objects.get(func="mailhub.delivery.tasks.prune").next_run == overdue


@pytest.mark.django_db
def test_what_is_no_more_doubled_or_changed_is_put_right() -> None:
    schedule.install()
    right = table()
    Schedule.objects.create(name="old", func="mailhub.old.task", schedule_type=Schedule.MINUTES, minutes=1)
    twin = Schedule.objects.get(func="mailhub.delivery.tasks.prune")
    twin.pk = None
    twin.save()
    Schedule.objects.filter(func="mailhub.delivery.tasks.audit").update(schedule_type=Schedule.HOURLY)
    schedule.install()
    assert sorted(table()) == sorted(right)


def test_every_task_of_the_schedule_exists() -> None:
    schedule.load()


def test_a_nightly_run_comes_at_its_time_of_the_sites_zone() -> None:
    tokyo = ZoneInfo("Asia/Tokyo")
    nightly = schedule.Nightly(3, 30)
    with timezone.override(tokyo):
        assert nightly.next(datetime(2026, 5, 1, 3, 29, tzinfo=tokyo)) == datetime(2026, 5, 1, 3, 30, tzinfo=tokyo)
        assert nightly.next(datetime(2026, 5, 1, 3, 30, tzinfo=tokyo)) == datetime(2026, 5, 2, 3, 30, tzinfo=tokyo)


def test_nobody_edits_tasks_or_the_schedule_in_the_admin() -> None:
    assert not [model for model in admin.site._registry if model._meta.app_label == "django_q"]
