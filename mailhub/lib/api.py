"""What the parts of the HTTP API have in common: what a key may do, how a request is told that it cannot be done, and pages of a list."""

from __future__ import annotations

import base64
import binascii
import hashlib
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Annotated, Any, Literal, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet, TextChoices
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from ninja import Header
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from mailhub.lib import addresses

# Octets of a request: the largest mail in base64, and room for what is around it.
LARGEST_REQUEST = 40 * 1024 * 1024
# Of a list at once.
PAGE, MOST = 50, 200
# How far ahead something may be asked for.
AHEAD = timedelta(days=366)
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")


class Scope(TextChoices):
    """What an API key can be allowed. The first ones see the key's own project alone."""

    SEND = "send", gettext_lazy("send mail")
    MESSAGES_READ = "messages:read", gettext_lazy("read what became of the project's mails")
    MESSAGES_WRITE = "messages:write", gettext_lazy("withdraw the project's mails and send them again")
    TEMPLATES_READ = "templates:read", gettext_lazy("read templates")
    STATISTICS_READ = "statistics:read", gettext_lazy("read the project's statistics")
    # These are about people and campaigns of the whole MailHub.
    SUPPRESSIONS_READ = "suppressions:read", gettext_lazy("read suppressions")
    SUPPRESSIONS_WRITE = "suppressions:write", gettext_lazy("suppress addresses and lift suppressions")
    CONTACTS_READ = "contacts:read", gettext_lazy("read contacts and lists")
    CONTACTS_WRITE = "contacts:write", gettext_lazy("add and change contacts, subscribe and unsubscribe them")
    CAMPAIGNS_READ = "campaigns:read", gettext_lazy("read campaigns and their figures")
    CAMPAIGNS_SEND = "campaigns:send", gettext_lazy("send campaigns")


#: what a key is offered that nobody has thought about
USUAL = (Scope.SEND, Scope.MESSAGES_READ, Scope.MESSAGES_WRITE, Scope.TEMPLATES_READ, Scope.STATISTICS_READ)
#: what one of a project for campaigns is offered
USUAL_OF_CAMPAIGNS = (Scope.CONTACTS_READ, Scope.CONTACTS_WRITE, Scope.CAMPAIGNS_READ, Scope.CAMPAIGNS_SEND)

# -------------------------------------------------------------------------------------------------------------------- problems


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request."""

    #: its place in the body, as a JSON pointer (RFC 6901) behind a #, such as "#/to/2"; or the name of a parameter or header
    place: str
    problem: str


Kind = Literal[
    "malformed", "unauthorized", "forbidden", "not-found", "conflict", "idempotency-key-reused", "too-large",
    "invalid", "too-many", "failed", "unavailable",
]  # fmt: skip

# Status and title. All are part of the interface: programs compare them.
KINDS: dict[Kind, tuple[int, str]] = {
    "malformed": (400, "The request cannot be read"),
    "unauthorized": (401, "No valid API key"),
    "forbidden": (403, "Not allowed"),
    "not-found": (404, "Not found"),
    "conflict": (409, "Not in this state"),
    "idempotency-key-reused": (409, "The Idempotency-Key was used for another request"),
    "too-large": (413, "The request is too large"),
    "invalid": (422, "The request is not valid"),
    "too-many": (429, "Too many"),
    "failed": (500, "Something is wrong here"),
    "unavailable": (503, "Not available at present"),
}


class Schema(BaseModel):
    """Of pydantic itself: ninja's own, which reads attributes of models, takes a third of the time of a large request."""


class Strict(Schema):
    """What is asked: names that do not exist are mistakes."""

    model_config = ConfigDict(extra="forbid")


class FaultOut(Schema):
    pointer: str | None = Field(None, description="Where in the body: a JSON pointer (RFC 6901) behind a #.", examples=["#/to/0/email"])
    parameter: str | None = Field(None, description="Or which parameter or header.")
    detail: str


class ProblemOut(Schema):
    """RFC 9457."""

    type: str = Field(examples=["urn:mailhub:problem:invalid"])
    title: str
    status: int
    detail: str
    errors: list[FaultOut]


class Problem(Exception):
    """The answer is an RFC 9457 problem."""

    def __init__(self, kind: Kind, detail: str, faults: Sequence[Fault] = (), *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.status, self.title = KINDS[kind]
        self.detail = detail
        self.faults = faults
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        return {
            "type": f"urn:mailhub:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "errors": [
                {"pointer" if fault.place.startswith("#") else "parameter": fault.place, "detail": fault.problem} for fault in self.faults
            ],
        }


def pointer(path: Sequence[str | int]) -> str:
    """RFC 6901 section 6, without what a URI would have escaped."""
    return "#" + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


# --------------------------------------------------------------------------------------------------------------------- moments


def _moment(value: Any) -> Any:
    """No numbers, which pydantic would take for seconds or for milliseconds."""
    if not isinstance(value, str) or not RFC_3339.fullmatch(value):
        raise PydanticCustomError("moment", "{words}", {"words": _("Give a time as in 2030-01-31T09:00:00+09:00.")})
    return value


Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2030-01-31T09:00:00+09:00"]}),
]


# ----------------------------------------------------------------------------------------------------------------- idempotency

IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=90,
        pattern=r"^[\x21-\x7e]*$",
        description="The same key with the same body again: the same answer, and nothing is made twice.",
    ),
]


def digest_of(request: HttpRequest) -> str:
    """By which a second request is the same."""
    return hashlib.sha256(request.body).hexdigest()


def reused(words: str) -> Problem:
    return Problem("idempotency-key-reused", words, [Fault("Idempotency-Key", words)])


# ----------------------------------------------------------------------------------------------------------------- who asks, scopes


@dataclass(frozen=True, slots=True)
class Asker:
    """Whose key it is, for parts of the API that know of no projects."""

    #: what they make is known by it, as Message.source_ref is
    ref: int
    #: the sender of this address, if they may use it; raises Problem, which names this place
    sender: Callable[[str, str], Any]


def asker(request: HttpRequest) -> Asker:
    return request.asker  # type: ignore[attr-defined, no-any-return]


F = TypeVar("F", bound=Callable[..., Any])


def needs(scope: Scope) -> Callable[[F], F]:
    """A view for keys with this scope: `request.auth` is the credential."""

    def decorate(view: F) -> F:
        @wraps(view)
        def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if scope not in request.auth.scopes:  # type: ignore[attr-defined]
                detail = _("This key lacks the scope “%(scope)s”. Issue one that has it, on the project's page.") % {"scope": scope.value}
                raise Problem("forbidden", detail)
            return view(request, *args, **kwargs)

        # ninja would look its types up where the wrapper stands.
        wrapped.__signature__ = inspect.signature(view, eval_str=True)  # type: ignore[attr-defined]
        wrapped.__doc__ = f"{view.__doc__ or ''}\n\nScope: `{scope.value}`.".strip()
        return wrapped  # type: ignore[return-value]

    return decorate


# ----------------------------------------------------------------------------------------------------------------------- pages


M = TypeVar("M", bound=Model)


def cursor(*values: int | str) -> str:
    """Where the next page begins, as callers pass it back."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def read_cursor(text: str, *types: type) -> list[Any]:
    """Raises Problem for what is none of ours."""
    try:
        values = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        fits = isinstance(values, list) and [type(value) for value in values] == list(types)
        # Keys of the database have 63 bits.
        if fits and all(not isinstance(value, int) or 0 <= value < 2**63 for value in values):
            return values  # type: ignore[no-any-return]
    except (ValueError, binascii.Error, RecursionError):
        pass
    raise no_cursor()


def no_cursor() -> Problem:
    return Problem("invalid", _("This is not the cursor of a page."), [Fault("cursor", _("Pass back what “next” held, or leave it out."))])


class Paging(Schema):
    limit: Annotated[int, Field(ge=1, le=MOST)] = PAGE
    cursor: Annotated[str, Field(max_length=200)] = ""


def newest_first(paging: Paging, rows: QuerySet[M]) -> tuple[list[M], str | None]:
    """A page of them, by primary key, and the cursor of the next one. Raises Problem."""
    (last,) = read_cursor(paging.cursor, int) if paging.cursor else (0,)
    found = list((rows.filter(pk__lt=last) if last else rows).order_by("-pk")[: paging.limit + 1])
    shown = found[: paging.limit]
    return shown, cursor(shown[-1].pk) if len(found) > paging.limit else None


# ------------------------------------------------------------------------------------------------------------------- addresses


def address_key(text: str, place: str) -> str:
    """The form in which an address is compared. Raises Problem for what is no address, with its place."""
    return addresses.key(normalised(text, place))


def normalised(text: str, place: str) -> str:
    """Raises Problem for what is no address, with its place."""
    try:
        return addresses.normalise(text)
    except ValidationError as error:
        raise Problem("invalid", error.messages[0], [Fault(place, error.messages[0])]) from None
