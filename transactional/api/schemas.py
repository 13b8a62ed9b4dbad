"""What is asked of the API about mail, and what it answers. The OpenAPI document is made of these."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import getaddresses
from typing import Annotated, Any
from uuid import UUID

from django.utils.translation import gettext as _
from pydantic import (
    BeforeValidator,
    Field,
    StrictBool,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from mailhub.lib.api import Fault, Moment, ProblemOut, Schema, Strict, pointer

# Most addresses: a name without quotes, if any. All others are read as RFC 5322 has it, which takes thirty times as long.
NAME, ADDRESS = r"""[^<>"'(),:;@\\\[\]=]*""", r"""[^<>"'(),:;@\\\[\]\s]+@[^<>"'(),:;@\\\[\]\s]+"""
SIMPLE = re.compile(f"({NAME})<({ADDRESS})>|({ADDRESS})")
# Of one request.
MOST_MAILS = 1_000
# Of a batch, all mails together: so many rows are one transaction.
MOST_RECIPIENTS = 10_000


def _person(value: Any) -> Any:
    """Taro <taro@example.jp> as an object."""
    if not isinstance(value, str):
        return value
    if found := SIMPLE.fullmatch(value):
        return {"name": (found[1] or "").strip(), "email": found[2] or found[3]}
    people = getaddresses([value])
    if len(people) != 1 or not people[0][1]:
        raise PydanticCustomError("address", "{words}", {"words": _("Give one address, as in Taro <taro@example.jp>.")})
    return {"name": people[0][0], "email": people[0][1]}


class PersonIn(Strict):
    email: str = Field(min_length=3, max_length=320, examples=["taro@example.jp"])
    name: str = Field("", max_length=200, examples=["山田太郎"])


Person = Annotated[
    PersonIn,
    BeforeValidator(_person),
    WithJsonSchema({
        "anyOf": [
            {"type": "string", "examples": ["山田太郎 <taro@example.jp>"]},
            {
                "type": "object",
                "properties": {
                    "email": {"type": "string", "minLength": 3, "maxLength": 320, "examples": ["taro@example.jp"]},
                    "name": {"type": "string", "maxLength": 200, "default": "", "examples": ["山田太郎"]},
                },
                "required": ["email"],
                "additionalProperties": False,
            },
        ]
    }),
]  # fmt: skip


def _octets(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value.encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise PydanticCustomError("base64", "{words}", {"words": _("This is no base64 (RFC 4648 section 4).")}) from None


Octets = Annotated[bytes, BeforeValidator(_octets), WithJsonSchema({"type": "string", "contentEncoding": "base64"})]
Tag = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


class AttachmentIn(Strict):
    filename: str = Field("", max_length=255, examples=["receipt.pdf"])
    content: Octets = Field(description="The file in base64.")
    content_type: str = Field("application/octet-stream", max_length=127, examples=["application/pdf"])
    content_id: str = Field(
        "", max_length=200, description='A picture that the HTML shows: `<img src="cid:logo">` is the one whose `content_id` is `logo`.'
    )


TRACKED = (
    "Of HTML to one recipient, without attachments and copies; of other mails nothing is told."
    " Left out: of mails made from a template, as the project has it."
)


class MailIn(Strict):
    sender: Person = Field(alias="from", description="One of the project's senders.")
    to: list[Person] = Field(min_length=1, max_length=1000)
    cc: list[Person] = Field(default_factory=list, max_length=1000)
    bcc: list[Person] = Field(default_factory=list, max_length=1000, description="They get the mail, and nobody sees it.")
    reply_to: list[Person] = Field(default_factory=list, max_length=10)
    subject: str = Field("", max_length=1000)
    html: str = Field("", max_length=5_000_000)
    text: str = Field("", max_length=5_000_000, description="Without it, it is made from the HTML.")
    template: str = Field("", max_length=100, description="Key of a template, in place of subject, html and text.")
    language: str = Field("", max_length=10, description="The recipient's, to choose the template's.", examples=["ja"])
    variables: dict[str, Any] = Field(default_factory=dict, description="What the template's placeholders stand for.")
    attachments: list[AttachmentIn] = Field(default_factory=list, max_length=100)
    headers: dict[str, str] = Field(default_factory=dict, max_length=50, description="Further header fields.")
    tags: list[Tag] = Field(default_factory=list, max_length=10, description="Labels by which you will find the mail again.")
    metadata: dict[str, str] = Field(default_factory=dict, max_length=50, description="Names and values that come back with its events.")
    send_at: Moment | None = Field(None, description="Not before then; at most a year from now.")
    track_opens: StrictBool | None = Field(None, description=TRACKED)
    track_clicks: StrictBool | None = Field(None, description=TRACKED)


@dataclass(frozen=True, slots=True)
class Unread:
    """What stood in a mail's place in a batch, and is none."""

    faults: list[Fault]


def _one_of_many(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """What is wrong with one mail is nothing to the others."""
    try:
        return read(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return Unread([Fault(pointer(each["loc"]), each["msg"]) for each in found[:20]])


class BatchIn(Strict):
    #: Unread for what is no mail
    mails: list[Annotated[MailIn, WrapValidator(_one_of_many)]] = Field(min_length=1, max_length=MOST_MAILS)


class RecipientOut(Schema):
    id: UUID = Field(description="Of the message: one recipient's mail.")
    to: str = Field(examples=["taro@example.jp"])
    status: str = Field(examples=["queued"])


class AcceptedOut(Schema):
    id: UUID = Field(description="Of the mail as a whole.")
    accepted_at: datetime
    messages: list[RecipientOut]


class ResultOut(Schema):
    """One of `accepted` and `problem`."""

    status: int = Field(description="202 where this mail is accepted.")
    accepted: AcceptedOut | None = None
    problem: ProblemOut | None = None


class BatchOut(Schema):
    results: list[ResultOut] = Field(description="One for each mail, in their order.")
