"""What mails of ours ask for when they are opened, and where their links lead by: no log-in, no session, no cookie."""

from __future__ import annotations

import base64
from functools import lru_cache

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from mailhub.delivery import hits, tracking
from mailhub.delivery.models import Content, Message
from mailhub.lib import clients
from mailhub.lib.tokens import BadToken

# One pixel that is seen through: GIF89a, 42 octets.
PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
# A link's target holds the recipient's data: neither it nor ours is told to the next site.
POLICY = "no-referrer"


@never_cache
@csrf_exempt
@require_safe
def opened(request: HttpRequest, token: str) -> HttpResponse:
    """The pixel, whatever the token says: a broken picture helps nobody, and nobody learns which tokens are good."""
    try:
        content, message = tracking.read(tracking.OPEN, token)
    except BadToken:
        pass
    else:
        hits.take(content, message, 0, hits.sign(request.META, request.method or "", clients.of(request)))
    response = HttpResponse(PIXEL, content_type="image/gif")
    # Mail programs show it within a page of their own.
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


@never_cache
@csrf_exempt
@require_safe
def clicked(request: HttpRequest, token: str, number: int) -> HttpResponse:
    """On to where the link was written to lead. A token that was changed, or made by anybody else, leads nowhere, and the page says so."""
    try:
        content, message = tracking.read(tracking.CLICK, token)
    except BadToken:
        return _nowhere(request)
    target = _target(content, message, number)
    if not target:
        return _nowhere(request)
    hits.take(content, message, number, hits.sign(request.META, request.method or "", clients.of(request)))
    response = HttpResponseRedirect(target)
    response["Referrer-Policy"] = POLICY
    return response


def _nowhere(request: HttpRequest) -> HttpResponse:
    return render(request, "delivery/link.html", status=404)


def _target(content: int, message: int, number: int) -> str:
    target = tracking.shown(_links(content), number)
    if "{{" not in target:
        return target
    # With the data that it was sent with: the mail's own placeholders are filled in once more.
    row = Message.objects.filter(pk=message, content=content).first()
    return tracking.filled(target, {**row.data, "email": row.address}) if row else ""


@lru_cache(maxsize=1024)
def _frozen(content: int) -> tuple[str, ...]:
    return tuple(Content.objects.filter(pk=content).values_list("links", flat=True).first() or ())


def _links(content: int) -> tuple[str, ...]:
    """Contents are frozen: what was read once stays so. What is not there yet, or any more, is looked for again."""
    found = _frozen(content)
    if not found:
        _frozen.cache_clear()
    return found
