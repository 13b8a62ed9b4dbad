"""The HTTP API, put together: /api/v1/ with its parts, its document and the page that shows it."""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.openapi.schema import OpenAPISchema

from campaigns import api as campaigns
from mailhub.lib.api import KINDS, Fault, Kind, Problem, ProblemOut, pointer
from transactional.api import messages, statistics, suppressions, templates
from transactional.api.access import Key

logger = logging.getLogger(__name__)

DESCRIPTION = """Mail is handed in and followed with an API key, which a project's page in the admin issues: `Authorization: Bearer mh_…`.

Whatever goes wrong is answered as an RFC 9457 problem that names the field."""


# What any request may be answered with; one that names something; one that changes something.
ANY, NAMING, CHANGING = (400, 401, 403, 413, 422, 429, 500, 503), (404,), (409,)
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemOut"}}}
RATES = {
    "RateLimit-Policy": {"schema": {"type": "string"}, "description": 'What the key and its project may: `"requests";q=6000;w=60`.'},
    "RateLimit": {
        "schema": {"type": "string"},
        "description": 'What is left of it, and seconds until there is more: `"requests";r=5999;t=1`.',
    },
}
RETRY = {"Retry-After": {"schema": {"type": "string"}, "description": "Seconds to wait."}}
TITLES: dict[int, str] = {}
for status, title in KINDS.values():
    TITLES.setdefault(status, title)


class API(NinjaAPI):
    def get_openapi_schema(self, **kwargs: Any) -> OpenAPISchema:
        """With the problems, which ninja does not know of."""
        document = super().get_openapi_schema(**kwargs)
        known = ProblemOut.model_json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["schemas"] |= known.pop("$defs")
        document["components"]["schemas"]["ProblemOut"] = known
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                statuses = ANY + (NAMING if "{" in path else ()) + (CHANGING if method != "get" else ())
                for status in statuses:
                    operation["responses"].setdefault(status, {"description": TITLES[status], "content": PROBLEM})
                for status, response in operation["responses"].items():
                    # Who is not known has no rate yet.
                    if int(status) not in (401, 503):
                        response["headers"] = RATES
                operation["responses"][429]["headers"] = {**RATES, **RETRY}
                operation["responses"][503]["headers"] = RETRY
        return document

    def create_response(self, request: HttpRequest, data: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        return with_rates(request, super().create_response(request, data, *args, **kwargs))


def with_rates(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """What is left, as draft-ietf-httpapi-ratelimit-headers tells it."""
    rates = getattr(request, "rates", ())
    if rates:
        response["RateLimit-Policy"] = ", ".join(f'"{name}";q={limit};w={window}' for name, limit, window, _left, _wait in rates)
        response["RateLimit"] = ", ".join(f'"{name}";r={left};t={wait}' for name, _limit, _window, left, wait in rates)
    return response


key = Key()
api = API(title="MailHub", version="1", urls_namespace="api", description=DESCRIPTION, auth=key, docs_url="docs")
for router in (
    messages.router,
    templates.router,
    suppressions.router,
    statistics.router,
    campaigns.contacts,
    campaigns.campaigns,
):
    api.add_router("", router)


# -------------------------------------------------------------------------------------------------------------------- problems


def told(request: HttpRequest, problem: Problem) -> HttpResponse:
    response = api.create_response(request, problem.body(), status=problem.status)
    response["Content-Type"] = "application/problem+json"
    for name, value in problem.headers.items():
        response[name] = value
    return response


@api.exception_handler(Problem)
def on_problem(request: HttpRequest, problem: Problem) -> HttpResponse:
    return told(request, problem)


@api.exception_handler(ValidationError)
def on_invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    faults = [Fault(place(each["loc"]), str(each["msg"])) for each in error.errors[:100]]
    detail = _("%(place)s: %(problem)s") % {"place": faults[0].place, "problem": faults[0].problem} if faults else ""
    return told(request, Problem("invalid", detail, faults))


def place(location: tuple[str | int, ...]) -> str:
    """ninja's ("body", name of the view's parameter, ...), or ("query", name)."""
    source, *rest = location
    return pointer(rest[1:]) if source == "body" else str(rest[-1] if rest else source)


@api.exception_handler(AuthenticationError)
def on_stranger(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    detail = _("Send Authorization: Bearer, and a key of your project that is neither revoked nor expired, from a network that it is for.")
    return told(request, Problem("unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="MailHub"'}))


@api.exception_handler(HttpError)
def on_http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    """ninja's own: a body that is no JSON."""
    kind: Kind = "malformed" if error.status_code == 400 else "invalid"
    return told(request, Problem(kind, _("The body is no JSON (RFC 8259).") if kind == "malformed" else str(error)))


@api.exception_handler(RequestDataTooBig)
@api.exception_handler(TooManyFieldsSent)
def on_too_large(request: HttpRequest, error: Exception) -> HttpResponse:
    return told(request, Problem("too-large", str(error)))


@api.exception_handler(Http404)
def on_missing(request: HttpRequest, error: Http404) -> HttpResponse:
    return told(request, Problem("not-found", str(error) or _("There is nothing here.")))


@api.exception_handler(DataError)
def on_unstorable(request: HttpRequest, error: DataError) -> HttpResponse:
    """A NUL character in a text, mostly."""
    return told(request, Problem("invalid", _("The database cannot hold this: %(problem)s") % {"problem": str(error).splitlines()[0]}))


@api.exception_handler(OperationalError)
@api.exception_handler(InterfaceError)
def on_database_away(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.error("the database does not answer: %s", error)
    detail = _("The database does not answer. Try again: the same Idempotency-Key makes no second mail.")
    return told(request, Problem("unavailable", detail, headers={"Retry-After": "5"}))


@api.exception_handler(Exception)
def on_failure(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.exception("a request to the API failed", exc_info=error)
    return told(request, Problem("failed", _("The cause stands in MailHub's log.")))


def missing(request: HttpRequest, rest: str) -> HttpResponse:
    """No other page of ours is a program's business."""
    return told(request, Problem("not-found", _("There is nothing here. What there is stands in /api/v1/openapi.json.")))


# A program has no token against forged forms, and needs none without a session.
missing.csrf_exempt = True  # type: ignore[attr-defined]
