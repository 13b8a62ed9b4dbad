"""Where services call back: no log-in, no session, no cookie."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods

from mailhub.feedback import callbacks, topics
from mailhub.feedback.models import CallbackURL
from mailhub.feedback.signatures import Posted, Unproven, Why

# By which services look whether the address is there, before they use it.
LOOKS = ("GET", "HEAD")


@csrf_exempt
@require_http_methods(["POST", *LOOKS])
@sensitive_variables("posted", "body")
def callback(request: HttpRequest, token: str) -> HttpResponse:
    """200 once it is stored, whomever it is about: a service that is told otherwise tries again, and in the end no more. 400 and 401 where
    nobody has shown that it comes from the service, 413 where it is too much, 503 where Amazon's certificate is not to be had."""
    try:
        url = callbacks.by_token(token)
    except CallbackURL.DoesNotExist:
        raise Http404 from None
    if request.method in LOOKS:
        return HttpResponse(content_type="text/plain")
    body = read(request)
    if body is None:
        callbacks.refuse(url, Why.TOO_LARGE)
        return answer(413)
    posted = Posted(body, request.content_type or "", request.META, callbacks.address(url))
    try:
        callbacks.take(url, posted)
    except Unproven as problem:
        if problem.why == Why.PASSWORD:
            return answer(401, {"WWW-Authenticate": 'Basic realm="MailHub"'})
        return answer(400)
    except topics.CannotFetch:
        return answer(503)
    return answer(200)


def read(request: HttpRequest) -> bytes | None:
    """The body; None where it is too large, of which no more is read than shows it."""
    length = request.META.get("CONTENT_LENGTH") or ""
    if length.isdigit() and int(length) > callbacks.MOST_BYTES:
        return None
    # Django takes a body that comes in chunks for none.
    chunked = request.META.get("wsgi.input_terminated") and "HTTP_TRANSFER_ENCODING" in request.META
    body: bytes = (request.META["wsgi.input"] if chunked else request).read(callbacks.MOST_BYTES + 1)
    return body if len(body) <= callbacks.MOST_BYTES else None


def answer(status: int, fields: dict[str, str] | None = None) -> HttpResponse:
    return HttpResponse(status=status, headers=fields, content_type="text/plain")
