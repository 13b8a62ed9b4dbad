from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client
from pytest_django import Settings

from mailhub.delivery.models import Worker
from mailhub.delivery.workers import QUEUES
from mailhub.lib import clock

pytestmark = pytest.mark.django_db


def at_work(queue: str, seconds_ago: int = 0) -> None:
    at = clock.now() - timedelta(seconds=seconds_ago)
    Worker.objects.create(node="test:1", queue=queue, started_at=at, beat_at=at)


def test_a_process_that_lives_says_so_without_asking_the_database(client: Client) -> None:
    with connection.execute_wrapper(no_queries):
        response = client.get("/healthz")
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


def no_queries(*args: object) -> None:
    raise AssertionError("a query")


def test_it_is_ready_when_every_queue_has_a_worker(client: Client) -> None:
    for queue in QUEUES:
        at_work(queue)
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "problems": []}


def test_it_is_not_ready_while_a_queue_has_no_worker_or_a_silent_one(client: Client) -> None:
    at_work("transactional")
    at_work("bulk", seconds_ago=61)
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["problems"] == ["no worker serves the bulk queue", "no worker serves the maintenance queue"]


def away(*args: object) -> None:
    raise OperationalError("connection to server at db.internal failed")


def test_a_database_that_is_away_is_told_without_its_address(client: Client) -> None:
    with connection.execute_wrapper(away):
        response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["problems"] == ["the database does not answer"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_not_redirected_to_https(client: Client, settings: Settings, path: str) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert client.get(path).status_code in (200, 503)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_asked_and_never_told(client: Client, path: str) -> None:
    assert client.post(path).status_code == 405
