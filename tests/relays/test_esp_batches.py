"""Several mails in one request, where a service has one for it: each keeps its own outcome."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from mailhub.relays.base import Deferred, Envelope, Fault, OutcomeUnknown, Refused, RelayDown, Reply, SendError
from mailhub.relays.marks import METADATA
from mailhub.relays.models import Relay
from mailhub.relays.providers import batches
from mailhub.relays.providers.batches import Asked, Gatherer
from tests.installation import LONG
from tests.relays.contract import envelope, run
from tests.relays.test_esp import Answer, Request, ok, serving

# What each says of mails to r1, r2 and r3 at example.net, of which it does not want the second.
MIXED: dict[str, Any] = {
    "postmark": [
        {"To": "r1@example.net", "MessageID": "n1", "ErrorCode": 0, "Message": "OK"},
        {"ErrorCode": 300, "Message": "Invalid 'Subject' header"},
        {"To": "r3@example.net", "MessageID": "n3", "ErrorCode": 0, "Message": "OK"},
    ],
    "resend": {"data": [{"id": "n1"}, {"id": "n3"}], "errors": [{"index": 1, "message": "The subject is too long"}]},
    "mailjet": {
        "Messages": [
            {"Status": "success", "To": [{"Email": "r1@example.net", "MessageID": "n1"}]},
            {"Status": "error", "Errors": [{"ErrorMessage": "The subject is too long", "StatusCode": 400}]},
            {"Status": "success", "To": [{"Email": "r3@example.net", "MessageID": "n3"}]},
        ]
    },
    "mailtrap": {
        "success": True,
        "responses": [
            {"success": True, "message_ids": ["n1"]},
            {"success": False, "errors": ["'subject' is too long"]},
            {"success": True, "message_ids": ["n3"]},
        ],
    },
}
PATHS = {"postmark": "/email/batch", "resend": "/emails/batch", "mailjet": "/send", "mailtrap": "/batch"}


@pytest.fixture(autouse=True)
def all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is."""
    monkeypatch.setattr(batches, "GATHER", LONG)


def at_once(relay: Relay, *envelopes: Envelope) -> list[Reply | SendError]:
    """Each on a connection of its own, all at the same moment; the outcomes in the mails' order."""

    async def send() -> list[Reply | SendError]:
        provider = relay.provider()
        sessions = [await provider.open() for _ in envelopes]

        async def one(place: int) -> Reply | SendError:
            try:
                return await sessions[place].send(envelopes[place])
            except SendError as error:
                return error

        try:
            return list(await asyncio.gather(*map(one, range(len(envelopes)))))
        finally:
            for session in sessions:
                await session.close()

    return run(send)


def three(kind: str, *script: Answer | str | None) -> tuple[list[Reply | SendError], list[Request]]:
    with serving(kind) as (server, relay):
        server.script.extend(script)
        return at_once(relay, *map(envelope, (1, 2, 3))), server.requests


def in_order(kind: str) -> Callable[[Request], Answer]:
    """Answers in the order of the mails that came, whichever thread was first."""

    def answer(request: Request) -> Answer:
        said = MIXED[kind]
        order = [int(recipient[1]) - 1 for recipient in request.recipients]
        if kind == "resend":
            good = [{"id": f"n{place + 1}"} for place in order if place != 1]
            return ok({"data": good, "errors": [{"index": order.index(1), "message": "The subject is too long"}]})
        if kind == "postmark":
            return ok([said[place] for place in order])
        field = "Messages" if kind == "mailjet" else "responses"
        return ok({**said, field: [said[field][place] for place in order]})

    return answer


@pytest.mark.parametrize("kind", sorted(MIXED))
def test_mails_that_leave_at_the_same_moment_go_in_one_request_and_each_has_its_own_outcome(kind: str) -> None:
    with serving(kind) as (server, relay):
        server.usual = in_order(kind)
        first, second, third = at_once(relay, *map(envelope, (1, 2, 3)))
        [request] = server.requests
    assert request.path == PATHS[kind]
    assert sorted(request.recipients) == ["r1@example.net", "r2@example.net", "r3@example.net"]
    for found, number in ((first, "n1"), (third, "n3")):
        assert isinstance(found, Reply) and found.code == 250 and number in found.text
    # Of Mailjet's anymail says no more than that it failed.
    if kind == "mailjet":
        assert isinstance(second, Deferred)
    else:
        assert isinstance(second, Refused) and second.fault is not Fault.RECIPIENT
    # Each can be told apart in callbacks.
    assert sorted(re.findall(rf"{METADATA}\W+(\d)", request.text)) == ["1", "2", "3"]


@pytest.mark.parametrize("kind", sorted(MIXED))
def test_a_mail_alone_goes_by_itself(kind: str) -> None:
    with serving(kind) as (server, relay):
        [found] = at_once(relay, envelope(1))
        [request] = server.requests
    assert isinstance(found, Reply)
    assert not request.path.endswith("/batch")


@pytest.mark.parametrize("kind", sorted(MIXED))
def test_what_is_said_of_all_is_said_of_each(kind: str) -> None:
    outcomes, requests = three(kind, ok({"message": "slow down"}, 429, Retry_After="7"))
    assert [type(found) for found in outcomes] == [RelayDown] * 3
    assert len(requests) == 1


@pytest.mark.parametrize("kind", ["postmark", "mailjet", "mailtrap"])
@pytest.mark.parametrize("answer", [ok("<html>", 502), None, ok([]), ok({"data": [], "Messages": [], "responses": []}), ok("nonsense")])
def test_nobody_knows_what_became_of_mails_for_which_there_is_no_answer(kind: str, answer: Answer | None) -> None:
    outcomes, requests = three(kind, answer)
    assert [type(found) for found in outcomes] == [OutcomeUnknown] * 3
    assert len(requests) == 1


def test_where_the_service_knows_a_batch_again_it_is_asked_once_more_by_the_same_key() -> None:
    with serving("resend") as (server, relay):
        server.usual = in_order("resend")
        server.script.append(ok("<html>", 502))
        assert [type(found) for found in at_once(relay, *map(envelope, (1, 2, 3)))] == [Reply, Refused, Reply]
        first, again = server.requests
        assert first.body == again.body
        assert first.headers["Idempotency-Key"] == again.headers["Idempotency-Key"]
        server.script.extend([None, None])
        assert [type(found) for found in at_once(relay, envelope(4), envelope(5))] == [OutcomeUnknown] * 2
        assert len(server.requests) == 4


def test_a_mail_that_the_service_takes_by_itself_only_does_not_go_with_others() -> None:
    mail = b"From: a@example.com\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHi\r\n"
    mail += b'--b\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename="a.csv"\r\n\r\n1,2\r\n--b--\r\n'
    with serving("resend") as (server, relay):
        at_once(relay, *(envelope(number, data=mail) for number in (1, 2)))
        assert [request.path for request in server.requests] == ["/emails", "/emails"]


def test_no_more_go_together_than_the_service_takes_nor_more_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    gatherer = Gatherer(batches.MAILJET)
    sizes = [len(group) for group in gatherer.groups([Asked(None, {"data": "x" * 10}) for _ in range(120)])]
    assert sizes == [50, 50, 20]
    monkeypatch.setattr(batches, "LARGEST", 25)
    groups = gatherer.groups([Asked(None, {"data": "x" * size}) for size in (10, 10, 10, 100, 5)])
    assert [[one.size for one in group] for group in groups] == [[10, 10], [10], [100], [5]]
