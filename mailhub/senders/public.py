"""The page behind the link of confirmation.py: no log-in, no session, no cookie."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from mailhub.lib.states import WrongState
from mailhub.lib.tokens import BadToken
from mailhub.senders import confirmation
from mailhub.senders.models import Sender


@never_cache
@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: HttpRequest, token: str) -> HttpResponse:
    """To look changes nothing, because programs look at links too; the button confirms."""
    try:
        sender = confirmation.read(token)
    except BadToken:
        return _page(request, "bad", status=404)
    except confirmation.Expired as error:
        return _page(request, "expired", error.sender, status=410)
    if request.method == "POST" and sender.status == Sender.Status.UNCONFIRMED:
        try:
            sender.confirm()
        except WrongState:
            sender.refresh_from_db(fields=["status"])
    # What staff took out of use stays so: the link was theirs to send, the choice is theirs to take back.
    state = {Sender.Status.UNCONFIRMED: "ask", Sender.Status.CONFIRMED: "done"}.get(Sender.Status(sender.status), "expired")
    return _page(request, state, sender)


def _page(request: HttpRequest, state: str, sender: Sender | None = None, status: int = 200) -> HttpResponse:
    return render(request, "senders/confirm.html", {"state": state, "sender": sender}, status=status)
