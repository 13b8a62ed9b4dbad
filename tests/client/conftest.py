from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from mailhub import api
from mailhub.lib.api import Scope
from mailhub.relays.models import Relay, Stream
from mailhub.senders.models import Sender
from mailhub.webhooks.models import Endpoint
from tests.delivery import world
from tests.transactional.conftest import make_template
from tests.transactional.listener import issue
from transactional import credentials
from transactional.api.access import Rates
from transactional.models import Credential, Project

CLIENT = Path(settings.BASE_DIR) / "transactional/client"


class Sibling:
    """A Django project of its own, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        # Nothing of ours but the client: not even where our settings are.
        kept = {name: value for name, value in os.environ.items() if name not in ("DJANGO_SETTINGS_MODULE", "DATABASE_URL")}
        environment = {**kept, "PYTHONPATH": str(CLIENT), "SIBLING_DATABASE": str(folder / "sibling.sqlite3"), "no_proxy": "*"}
        # Another Python, with another Django, shows that the client goes with it.
        command = [os.environ.get("SIBLING_PYTHON", sys.executable), str(Path(__file__).with_name("sibling.py"))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment)  # noqa: S603
        self.url = f"http://127.0.0.1:{self._answer()}/mailhub/"
        self.settings: dict[str, Any] = {}

    def do(self, deed: str, settings: dict[str, Any] | None = None, **arguments: Any) -> Any:
        assert self.process.stdin
        self.process.stdin.write(
            json.dumps({"deed": deed, "settings": {**self.settings, **(settings or {})}, "arguments": arguments}) + "\n"
        )
        self.process.stdin.flush()
        answer = self._answer()
        assert not (isinstance(answer, dict) and "failure" in answer), answer["failure"]
        return answer

    def send(self, *, times: int = 1, fail_silently: bool = False, settings: dict[str, Any] | None = None, **message: Any) -> Any:
        asked = {"subject": "Tea", "body": "It is ready.", "to": ["taro@example.net"], **message}
        return self.do("send", settings, asked=asked, times=times, fail_silently=fail_silently)

    def _answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture(scope="session")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sibling]:
    sibling = Sibling(tmp_path_factory.mktemp("sibling"))
    yield sibling
    sibling.end()


@pytest.fixture
def relay(transactional_db: None) -> Relay:
    relay = world.make_relay("Memory")
    world.make_route(relay, default_for=Stream.TRANSACTIONAL)
    return relay


@pytest.fixture
def sender(relay: Relay) -> Sender:
    return world.make_sender("shop@example.com", name="緑茶堂")


@pytest.fixture
def project(sender: Sender) -> Project:
    project = Project.objects.create(name="Tea shop")
    project.senders.add(sender)
    return project


@pytest.fixture
def order(transactional_db: None) -> str:
    """Key of a template."""
    return make_template(
        key="order", subject="Order {{ number }}", source="<p>Dear {{ name }}</p>", sample={"number": 1, "name": "Taro"}
    ).key


@pytest.fixture
def sibling(process: Sibling, project: Project, live_server: Any, monkeypatch: pytest.MonkeyPatch) -> Sibling:
    """Set up by the two settings and a webhook's secret."""
    monkeypatch.setattr(api.key, "rates", Rates())
    monkeypatch.setattr(api.key, "throttle", credentials.Throttle())
    _credential, key = issue(project, kind=Credential.Kind.API_KEY, scopes=[Scope.SEND])
    endpoint = Endpoint.objects.create(name="Tea shop", url=process.url, project_ref=project.pk)
    process.settings = {
        "MAILHUB_URL": live_server.url,
        "MAILHUB_API_KEY": key,
        "MAILHUB_WEBHOOK_SECRET": endpoint.secret,
        "MAILHUB_OUTBOX": False,
        "MAILHUB_TIMEOUT": 30,
        "ANYMAIL": {},
    }
    process.do("clear")
    return process
