"""The HTTP API keeps to its document, whatever it is asked. `make api-fuzz` asks for longer."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import Any

import pytest
import requests
import schemathesis
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, settings
from pytest_django.fixtures import Settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi import checks

from campaigns.models import Campaign, Contact, MailingList
from mailhub.api import api, key
from mailhub.lib import clock
from mailhub.senders.models import Sender
from tests.transactional.api import Site
from transactional import credentials, samples, sending
from transactional.models import Project, Submission
from transactional.requests import Draft, Request

# Questions for each operation: valid ones and others.
QUESTIONS = int(os.environ.get("API_QUESTIONS", "15"))
DOCUMENT = json.loads(json.dumps(api.get_openapi_schema(path_prefix="/api/v1/"), default=str))
schema = schemathesis.openapi.from_dict(DOCUMENT)
# Not among them: that whatever the document allows is accepted. A mail address has rules that no pattern tells.
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
KNOWN = "6f1c1f4e-6d38-4a57-9d0e-2c8f1f3e0a52"


@pytest.fixture
def site(db: None, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Site:
    """One with something of everything, that may do all, as often as it likes."""
    settings.MAILHUB_API_RATE = 0
    monkeypatch.setattr(key, "throttle", credentials.Throttle())
    sender = Sender.objects.create(email="shop@example.com", name="Tea")
    sender.confirm()
    project = Project.objects.create(name="Tea shop")
    project.senders.add(sender)
    samples.load()
    draft = Draft(subject="Order", text="Thank you.", to=[("", "a@example.net")])
    later = clock.now() + timedelta(days=1)
    sending.send(
        Request(
            sender=sender.email,
            recipients=["a@example.net"],
            via=Submission.Via.API,
            draft=draft,
            project=project,
            send_at=later,
            tags=["order"],
        )
    )
    Contact.objects.create(email="a@example.net", name="A")
    MailingList.objects.create(name="News", public_id=KNOWN)
    Campaign.objects.create(name="Spring", sender=sender, subject="Spring", html="<p>Hello</p>", public_id=KNOWN)
    site = Site(project)
    # What stands in a path that is asked for: mostly what there is.
    Submission.objects.get().content.messages.update(public_id=KNOWN)
    return site


@pytest.mark.once
@schema.parametrize()
@settings(
    max_examples=QUESTIONS,
    deadline=None,
    database=None,
    derandomize="API_QUESTIONS" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
def test_no_answer_is_outside_of_the_document(case: Case, site: Site) -> None:
    if case.path_parameters and "public_id" in case.path_parameters and _is_uuid(case.path_parameters["public_id"]):
        case.path_parameters["public_id"] = KNOWN
    # What is wrong with one mail of a batch is said in that one's result.
    each = [check for check in CHECKS if case.path != "/api/v1/messages/batch" or check is not checks.negative_data_rejection]
    case.validate_response(asked(case, site), checks=each)


def _is_uuid(text: Any) -> bool:
    return isinstance(text, str) and len(text) == 36


def asked(case: Case, site: Site) -> Response:
    """The answer of Django's test client, as schemathesis looks at one."""
    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://testserver")).prepare()
    headers: dict[str, Any] = dict(prepared.headers)
    if "Authorization" in headers:
        headers |= site.headers
    headers.pop("Content-Length", None)
    media_type = headers.pop("Content-Type", "application/json")
    body = prepared.body or b""
    answer = site.client.generic(
        prepared.method or "GET", prepared.path_url, body, content_type=media_type, headers={**headers, "X-Schemathesis-TestCaseId": "1"}
    )
    seen = {name.lower(): [value] for name, value in answer.headers.items()}
    return Response(answer.status_code, seen, answer.content, prepared, elapsed=0.01, verify=True)


def test_every_operation_says_which_scope_it_needs() -> None:
    operations = [operation for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    assert len(operations) > 15
    assert all("Scope: `" in operation["description"] for operation in operations)


def test_the_page_about_it_is_our_own_and_clean(client: Client, db: None) -> None:
    page = client.get("/api/v1/docs")
    assert "default-src 'self'" in page["Content-Security-Policy"]
    assert "http:" not in page.content.decode()
    assert "https:" not in page.content.decode()
    assert client.get(reverse("api:openapi-json")).json()["info"]["title"] == "MailHub"


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v1/messages/1", "/api/v1/templates/%0A"])
def test_what_is_not_there_is_answered_as_a_problem(client: Client, path: str) -> None:
    answer = client.post(path, b"{}", content_type="application/json")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
