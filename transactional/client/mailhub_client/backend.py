"""Mail to MailHub's HTTP API. anymail's machinery reads the message and keeps Django's promises; here is only what MailHub calls things."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests
from anymail.backends.base_requests import AnymailRequestsBackend, BasePayload
from anymail.exceptions import AnymailConfigurationError, AnymailRecipientsRefused, AnymailRequestsAPIError
from anymail.message import AnymailRecipientStatus, AnymailStatus
from anymail.utils import Attachment, EmailAddress, get_anymail_setting
from django.core.mail import EmailMessage
from django.utils.translation import get_language
from requests.structures import CaseInsensitiveDict

SINGLE, BATCH = "messages", "messages/batch"
# Of one request.
MOST_MAILS = 1_000
# Seconds: for a connection, and between tries. What is left of the time-out ends the last one.
CONNECT = 5.0
PAUSES = (0.5, 2.0)
#: an address -> what became of its mail
Status = Callable[[str], AnymailRecipientStatus]

# MailHub is away or busy, and says so: the same request may be taken later. With its key it makes no second mail.
LATER = (429, 500, 502, 503, 504)


class EmailBackend(AnymailRequestsBackend):  # type: ignore[misc]
    esp_name = "MailHub"

    def __init__(self, **kwargs: Any) -> None:
        def setting(name: str, **default: Any) -> Any:
            return get_anymail_setting(name, esp_name=self.esp_name, kwargs=kwargs, allow_bare=True, **default)

        url = setting("url").rstrip("/")
        if not url.startswith(("https://", "http://")):
            raise AnymailConfigurationError("MAILHUB_URL must begin with https://, such as https://mailhub.example.com.")
        self.api_key = setting("api_key")
        self.outbox = setting("outbox", default=False)
        seconds = setting("timeout", default=30)
        super().__init__(url + "/api/v1/", **kwargs)
        #: for a message with all its tries
        self.timeout = seconds

    def create_session(self) -> requests.Session:
        session: requests.Session = super().create_session()
        session.headers["Authorization"] = f"Bearer {self.api_key}"
        return session

    def build_message_payload(self, message: EmailMessage, defaults: dict[str, Any]) -> Payload:
        return Payload(message, defaults, self)

    # -- handing over

    def post_to_esp(self, payload: Payload, message: Any) -> list[Answer]:
        """One request, or as many as the mails of a batch need. Raises AnymailRequestsAPIError when MailHub takes nothing, or did not
        answer; a try that is made again has the same key, so that no mail is doubled."""
        parts = payload.parts()
        answers = [self._hand_over(part, payload, message) for part in parts]
        # Taken: if the site sends this very message once more, it means a second mail.
        message.mailhub_key = None
        return answers

    def _hand_over(self, part: Part, payload: Payload, message: EmailMessage) -> Answer:
        end = time.monotonic() + self.timeout
        for pause in (*PAUSES, None):
            response, failure = self.attempt(part, max(end - time.monotonic(), 1.0))
            if response is not None and not busy(response, part):
                self.raise_for_status(response, payload, message)
                return Answer(part, response, self.deserialize_json_response(response, payload, message))
            if pause is None:
                break
            wait = pause if response is None else max(pause, _retry_after(response))
            if time.monotonic() + wait >= end:
                break
            time.sleep(wait)
        if self.outbox:
            from mailhub_client.models import OutboxMail  # the app's models are there only once Django has loaded it

            OutboxMail.objects.keep(part)
            return Answer(part, response, None)
        if response is not None and response.ok:
            # A batch of which MailHub took some: the rest is told in each one's status.
            return Answer(part, response, self.deserialize_json_response(response, payload, message))
        if response is not None:
            self.raise_for_status(response, payload, message)
        kind = type("AnymailRequestsAPIError", (AnymailRequestsAPIError, type(failure)), {})
        raise kind(f"MailHub did not answer at {self.api_url}:", email_message=message, payload=payload) from failure

    def attempt(self, part: Part, seconds: float) -> tuple[requests.Response | None, requests.RequestException | None]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": part.key}
        url = self.api_url + part.path
        try:
            # No redirects: the key and the mail are for this server alone.
            return self.session.post(
                url, data=part.body, headers=headers, timeout=(min(CONNECT, seconds), seconds), allow_redirects=False
            ), None
        except requests.RequestException as failure:
            return None, failure

    # -- what became of it

    def parse_recipient_status(self, response: list[Answer], payload: Payload, message: Any) -> dict[str, AnymailRecipientStatus]:
        message.anymail_status.esp_response = response[-1].response
        found: dict[str, AnymailRecipientStatus] = {}
        for answer in response:
            for mail, status in zip(answer.part.mails, answer.statuses(), strict=True):
                for person in (*mail["to"], *mail.get("cc", ()), *mail.get("bcc", ())):
                    # Of those who are in every mail of a batch the last one counts.
                    found[person["email"]] = status(person["email"])
        return found

    def raise_for_recipient_status(
        self, anymail_status: AnymailStatus, response: list[Answer], payload: Payload, message: EmailMessage
    ) -> None:
        """Nobody was accepted: as with SMTP that is an error, and MailHub has said why."""
        if not self.ignore_recipient_status and anymail_status.status.isdisjoint({"queued", "unknown"}):
            words = "; ".join(problem for answer in response for problem in answer.problems())
            raise AnymailRecipientsRefused(words, email_message=message, payload=payload, response=response[-1].response, backend=self)


def busy(response: requests.Response, part: Part) -> bool:
    """It may take later what it did not take now: all of it, or mails of a batch."""
    if response.status_code in LATER:
        return True
    return part.batch and response.status_code == 202 and any(result["status"] in LATER for result in response.json()["results"])


def _retry_after(response: requests.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


@dataclass(frozen=True)
class Part:
    """What goes in one request."""

    path: str
    key: str
    body: bytes
    mails: Sequence[Mapping[str, Any]] = ()

    @property
    def batch(self) -> bool:
        return self.path == BATCH


@dataclass(frozen=True)
class Answer:
    part: Part
    response: requests.Response | None
    #: what MailHub said; None where the outbox keeps the part
    said: Mapping[str, Any] | None

    def statuses(self) -> Iterator[Status]:
        """For each mail."""
        if self.said is None:
            return iter([lambda _address: AnymailRecipientStatus(None, "queued")] * len(self.part.mails))
        if not self.part.batch:
            return iter([accepted(self.said)])
        return (accepted(each["accepted"]) if each.get("accepted") else refused(each["problem"]) for each in self.said["results"])

    def problems(self) -> list[str]:
        """What is wrong with mails of a batch, each once."""
        found = [each["problem"] for each in (self.said or {}).get("results", []) if each.get("problem")]
        return list(dict.fromkeys(f"{problem['title']}: {problem['detail']}" for problem in found))


def accepted(said: Mapping[str, Any]) -> Status:
    known = {each["to"].casefold(): each["id"] for each in said["messages"]}

    def status(address: str) -> AnymailRecipientStatus:
        # MailHub writes international domains as the DNS does.
        local, _at, domain = address.rpartition("@")
        as_dns = f"{local}@{domain.encode('idna').decode()}" if not domain.isascii() else address
        return AnymailRecipientStatus(known.get(address.casefold()) or known.get(as_dns.casefold()), "queued")

    return status


def refused(problem: Mapping[str, Any]) -> Status:
    """An address that is none is invalid, what may not be sent is rejected, and what there was no room for has failed."""
    state = {422: "invalid", 403: "rejected", 409: "rejected"}.get(problem["status"], "failed")
    return lambda _address: AnymailRecipientStatus(None, state)


class Payload(BasePayload):  # type: ignore[misc]
    """The message as the API has it (docs/api.md of MailHub)."""

    def init_payload(self) -> None:
        self.mail: dict[str, Any] = {}
        self.idempotency_key = ""
        self.merge: Mapping[str, Mapping[str, Any]] = {}
        self.merged_headers: Mapping[str, Mapping[str, str]] = {}
        self.merged_metadata: Mapping[str, Mapping[str, Any]] = {}

    def parts(self) -> list[Part]:
        """A batch is a mail for each `to`, with what is theirs alone."""
        if self.mail.get("template"):
            # Django's own defaults, not words.
            self.mail = {name: value for name, value in self.mail.items() if name not in ("subject", "text", "html") or value}
            self.mail.setdefault("language", (get_language() or "").partition("-")[0])
        elif any(self.merge.values()):
            self.unsupported_feature("merge_data without template_id")
        mails = self._mails()
        batch = self.is_batch() or len(mails) > 1
        groups = [mails[at : at + MOST_MAILS] for at in range(0, len(mails), MOST_MAILS)]
        bodies = [self._serialized({"mails": group} if batch else group[0]) for group in groups]
        return [
            Part(BATCH if batch else SINGLE, self._key(body, number), body, group)
            for number, (group, body) in enumerate(zip(groups, bodies, strict=True))
        ]

    def _mails(self) -> list[dict[str, Any]]:
        """The API wants somebody in `to`, whom all others see."""
        if self.mail.get("to"):
            return [self._for(person) for person in self.mail["to"]] if self.is_batch() else [self.mail]
        if self.mail.get("cc"):
            first, *others = self.mail["cc"]
            return [{**self.mail, "to": [first], "cc": others}]
        # Blind copies alone: nobody sees another.
        return [{**self.mail, "to": [person], "bcc": []} for person in self.mail["bcc"]]

    def _for(self, person: Mapping[str, str]) -> dict[str, Any]:
        address = person["email"]
        mail = {**self.mail, "to": [person]}
        if own := self.merge.get(address):
            mail["variables"] = {**self.mail.get("variables", {}), **own}
        if own := self.merged_metadata.get(address):
            mail["metadata"] = {**self.mail.get("metadata", {}), **_texts(own)}
        if own := self.merged_headers.get(address):
            mail["headers"] = dict(CaseInsensitiveDict(self.mail.get("headers", {}), **own))
        return mail

    def _serialized(self, data: Mapping[str, Any]) -> bytes:
        return str(self.serialize_json(data)).encode()

    @staticmethod
    def _json_default(value: Any) -> Any:
        """Dates, decimals and UUIDs as text, as MailHub's own templates show them."""
        if isinstance(value, CaseInsensitiveDict):
            return dict(value)
        if hasattr(value, "isoformat"):
            return value.isoformat()
        if type(value).__name__ in ("Decimal", "UUID"):
            return str(value)
        raise TypeError(f"Object of type '{type(value).__name__}' is not JSON serializable")

    def _key(self, body: bytes, number: int) -> str:
        """The same for the same message as long as it was not taken; another once it says something else."""
        if self.idempotency_key:
            return f"{self.idempotency_key}.{number}" if number else self.idempotency_key
        if not getattr(self.message, "mailhub_key", None):
            self.message.mailhub_key = uuid.uuid4().hex
        return f"{self.message.mailhub_key}.{hashlib.sha256(body).hexdigest()[:32]}"

    # -- what Django has

    def set_from_email(self, email: EmailAddress) -> None:
        self.mail["from"] = _person(email)

    def set_recipients(self, recipient_type: str, emails: list[EmailAddress]) -> None:
        if emails:
            self.mail[recipient_type] = [_person(email) for email in emails]

    def set_subject(self, subject: str) -> None:
        self.mail["subject"] = subject or ""

    def set_reply_to(self, emails: list[EmailAddress]) -> None:
        if emails:
            self.mail["reply_to"] = [_person(email) for email in emails]

    def set_extra_headers(self, headers: CaseInsensitiveDict[str]) -> None:
        self.mail["headers"] = {name: str(value) for name, value in headers.items()}

    def set_text_body(self, body: str) -> None:
        self.mail["text"] = body or ""

    def set_html_body(self, body: str) -> None:
        if self.mail.get("html"):
            self.unsupported_feature("multiple html parts")
        self.mail["html"] = body or ""

    def add_attachment(self, attachment: Attachment) -> None:
        content = attachment.content
        octets = content.encode(attachment.charset or "utf-8") if isinstance(content, str) else bytes(content)
        file = {"content": base64.b64encode(octets).decode(), "content_type": attachment.mimetype}
        if attachment.name:
            file["filename"] = attachment.name
        if attachment.inline and attachment.cid:
            file["content_id"] = attachment.cid
        self.mail.setdefault("attachments", []).append(file)

    # -- what anymail adds

    def set_envelope_sender(self, email: EmailAddress) -> None:
        """Bounces go to MailHub, which knows by its own return path whose they are, and come back as events."""

    def set_metadata(self, metadata: Mapping[str, Any]) -> None:
        self.mail["metadata"] = _texts(metadata)

    def set_send_at(self, send_at: Any) -> None:
        self.mail["send_at"] = send_at.isoformat() if hasattr(send_at, "isoformat") else send_at

    def set_tags(self, tags: list[str]) -> None:
        self.mail["tags"] = list(tags)

    def set_track_clicks(self, track_clicks: bool) -> None:
        self.mail["track_clicks"] = track_clicks

    def set_track_opens(self, track_opens: bool) -> None:
        self.mail["track_opens"] = track_opens

    def set_template_id(self, template_id: str) -> None:
        self.mail["template"] = template_id

    def set_merge_data(self, merge_data: Mapping[str, Mapping[str, Any]]) -> None:
        self.merge = merge_data

    def set_merge_global_data(self, merge_global_data: Mapping[str, Any]) -> None:
        self.mail["variables"] = dict(merge_global_data)

    def set_merge_headers(self, merge_headers: Mapping[str, Mapping[str, str]]) -> None:
        self.merged_headers = merge_headers

    def set_merge_metadata(self, merge_metadata: Mapping[str, Mapping[str, Any]]) -> None:
        self.merged_metadata = merge_metadata

    def set_esp_extra(self, extra: Mapping[str, Any]) -> None:
        """Any field of the API, such as `language`; and `idempotency_key`."""
        given = dict(extra)
        self.idempotency_key = given.pop("idempotency_key", "")
        self.mail.update(given)


def _person(email: EmailAddress) -> dict[str, str]:
    return {"email": email.addr_spec, "name": email.display_name} if email.display_name else {"email": email.addr_spec}


def _texts(metadata: Mapping[str, Any]) -> dict[str, str]:
    """As anymail's other services have it: "17" comes back where 17 was given."""
    return {name: value if isinstance(value, str) else json.dumps(value, default=str) for name, value in metadata.items()}
