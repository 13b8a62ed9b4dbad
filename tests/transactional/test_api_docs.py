"""What docs/api.md shows is what is answered."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from campaigns.models import Campaign, MailingList
from mailhub.delivery.models import Event, Message
from mailhub.lib import clock
from mailhub.relays.models import Relay, Route, RouteMember, Stream
from mailhub.senders.models import Sender
from tests.transactional.api import Site
from tests.transactional.conftest import make_template
from transactional.models import Project

PAGE = (Path(settings.BASE_DIR) / "docs/api.md").read_text()
# A command, and the answer below it where one is shown.
EXAMPLE = re.compile(r"```sh\n(?P<command>curl .+?)```\n(?:\n```json\n(?P<answer>.+?)```)?", re.DOTALL)


def shape(said: Any) -> Any:
    """Names, and what kind of value each has; of a list of the same things, one."""
    if isinstance(said, dict):
        return {name: shape(value) for name, value in said.items() if name not in ("metadata", "sample", "by_status", "attributes")}
    if isinstance(said, list):
        return [shape(each) for each in said[:2]]
    return "nothing or text" if said is None or isinstance(said, str) else type(said).__name__


def asked(command: str, names: dict[str, str]) -> Iterator[Any]:
    """The method, the path, the headers and the body of a line of curl."""
    words = iter(shlex.split(Template(command.replace("\\\n", " ")).safe_substitute(names))[1:])
    method, url, headers, body = "", "", {}, None
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _colon, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(words)
        else:
            url = word
    parts = urlsplit(url)
    yield from (method or ("POST" if body else "GET"), f"{parts.path}?{parts.query}", headers, body)


def test_every_example_is_answered_as_it_is_shown(site: Site) -> None:
    Project.objects.update(limit_day=20_000)
    make_template(key="welcome", language="ja", subject="ようこそ", source="<p>{{ name }}</p>", sample={"name": "太郎"})
    Sender.objects.update(organisation="Tea Ltd", postal_address="Uji", contact_point="help@example.com")
    route = Route.objects.create(name="Campaigns", default_for=Stream.CAMPAIGN)
    RouteMember.objects.create(route=route, relay=Relay.objects.create(name="Inbox", kind="inbox"))
    tomorrow = clock.now() + timedelta(days=1)
    names = {"KEY": site.secret, "LIST": str(MailingList.objects.create(name="News").public_id), "TOMORROW": tomorrow.isoformat()}
    examples = list(EXAMPLE.finditer(PAGE))
    assert len(examples) > 8
    for example in examples:
        method, path, headers, body = asked(example["command"], names)
        answer = site.client.generic(method, path, body or "", content_type="application/json", headers=headers)
        assert 200 <= answer.status_code < 300, (example["command"], answer.content)
        if example["answer"]:
            assert shape(answer.json()) == shape(json.loads(example["answer"])), example["command"]
        if "CAMPAIGN" not in names and (campaign := Campaign.objects.first()):
            names["CAMPAIGN"] = str(campaign.public_id)
        if "MESSAGE" not in names:
            message = Message.objects.get()
            names["MESSAGE"] = str(message.public_id)
            Event.objects.create(message=message, type="sent", at=clock.now(), detail="250 2.0.0 OK")
