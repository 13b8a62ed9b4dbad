"""How long the admin's pages take, through the views that staff call, each on its own."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.filters import RelatedFieldListFilter
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from campaigns.models import Campaign, Consent, Contact, LeftOut, MailingList, Subscription
from mailhub.bench.dataset import TAG
from mailhub.bench.site import PROJECT, RECEIPT, Failed
from mailhub.delivery.models import Batch, Event, Message, Suppression
from mailhub.lib.api import Scope
from mailhub.relays.models import Relay, Stream
from mailhub.senders.models import Domain, Sender
from mailhub.webhooks.models import Endpoint
from transactional.models import Credential, Project, Submission

Show = Callable[[str], None]

# Times that a page is called once it is warm.
WARM = 20
# Choices of a filter that are tried, and of one that offers other rows.
CHOICES = 12
OTHERS = 2
# pg_ctl of the server that is ours alone (scripts/with_postgresql), with which it can be started anew.
CONTROL = "POSTGRESQL_CONTROL"
API = "/api/v1/"


@dataclass
class Page:
    #: "lists", "searches", "dashboard", "pages" or "api"
    kind: str
    path: str
    #: seconds when nothing of what it reads is in anybody's memory; None where that cannot be had
    cold: float | None = None
    #: seconds
    warm: list[float] = field(default_factory=list)

    @property
    def p50(self) -> float:
        return quantiles(self.warm, n=20, method="inclusive")[9]

    @property
    def p95(self) -> float:
        return quantiles(self.warm, n=20, method="inclusive")[18]


class Pages:
    """The pages of a site with much in it, for a person who may see everything."""

    def __init__(self, show: Show) -> None:
        self.show = show
        # As a web server has it: https, by a name that ALLOWED_HOSTS has.
        self.client = Client(SERVER_NAME="127.0.0.1")
        self.client.force_login(User.objects.create_superuser("benchmark"))
        key = Credential(project=Project.objects.get(name=PROJECT), kind=Credential.Kind.API_KEY, name="Benchmark", scopes=Scope.values)
        # Of a site: it has no session.
        self.site = Client(SERVER_NAME="127.0.0.1", headers={"authorization": f"Bearer {key.issue()}"})
        key.save()

    def run(self) -> list[Page]:
        """Raises Failed."""
        found = [*self._dashboard(), *self._lists(), *self._narrowed(), *self._searches(), *self._pictures(), *self._rows(), *self._api()]
        for number, page in enumerate(found):
            self.show(f"Pages are called: {number} of {len(found)} …")
            if cool():
                page.cold = self._seconds(page.path)
            self._seconds(page.path)
            page.warm = [self._seconds(page.path) for _time in range(WARM)]
        return found

    def get(self, path: str) -> Any:
        response = (self.site if path.startswith(API) else self.client).get(path, secure=True)
        if response.status_code != 200:
            raise Failed(f"{path} answers {response.status_code}.")
        return response

    def _seconds(self, path: str) -> float:
        began = time.perf_counter()
        self.get(path)
        return time.perf_counter() - began

    # ----------------------------------------------------------------------------------------------------------------- which

    def _dashboard(self) -> Iterator[Page]:
        yield Page("dashboard", reverse("admin:index"))

    def _lists(self) -> Iterator[Page]:
        """Each list, narrowed by each of its filters, and its last page."""
        for model in admin.site._registry:
            path = list_of(model)
            yield Page("lists", path)
            shown = (getattr(self.get(path), "context_data", None) or {}).get("cl")
            if isinstance(shown, ChangeList):
                for asked in self._filters(shown):
                    yield Page("lists", path + asked)
                if shown.paginator.num_pages > 1:
                    yield Page("lists", f"{path}?p={shown.paginator.num_pages}")

    def _filters(self, shown: ChangeList) -> Iterator[str]:
        for spec in shown.filter_specs:
            choices = [str(choice["query_string"]) for choice in spec.choices(shown) if not choice["selected"]]
            yield from choices[: OTHERS if isinstance(spec, RelatedFieldListFilter) else CHOICES]

    def _narrowed(self) -> Iterator[Page]:
        """What other pages link to, and filters together."""
        batch = Batch.objects.order_by("-sent").first()
        campaign = Campaign.objects.filter(batch=batch).first()
        single = Message.objects.filter(stream=Stream.TRANSACTIONAL, relay__isnull=False).order_by("-pk").first()
        if not (batch and campaign and single):
            raise Failed("There are no messages.")
        states = ("waiting", "sent", "delivered", "bounced", "failed")
        yield from (Page("lists", list_of(Message, batch=batch.pk, state=state)) for state in states)
        yield from (Page("lists", list_of(Message, stream__exact=stream, state=state)) for stream in Stream.values for state in states)
        yield from (Page("lists", list_of(Message, sender__id__exact=single.sender_id, state=state)) for state in states)
        yield Page("lists", list_of(Message, batch=batch.pk))
        yield Page("lists", list_of(Message, sender__id__exact=single.sender_id, relay__id__exact=single.relay_id))
        yield Page("lists", list_of(LeftOut, campaign=campaign.pk))
        yield Page("lists", list_of(LeftOut, campaign=campaign.pk, reason__exact="unsubscribed"))

    def _searches(self) -> Iterator[Page]:
        count = Contact.objects.order_by("-pk").values_list("pk", flat=True)[0]
        contact = Contact.objects.get(pk=count // 2 + 1)
        message = Message.objects.select_related("content").order_by("-pk")[1000]
        given = contact.email.partition(".")[0]
        addresses = {"whole": contact.email, "part": contact.email[:-20], "of many": given, "of nobody": "zz"}
        for model in (Message, Event, Contact, Suppression, Subscription, Consent, LeftOut):
            yield from (Page("searches", list_of(model, q=address)) for address in addresses.values())
        yield Page("searches", list_of(Message, q=message.message_id))
        yield Page("searches", list_of(Message, q=contact.email, state="sent"))
        yield Page("searches", list_of(Message, q=given, state="bounced"))
        day = message.created_at.date().isoformat()
        old = Message.objects.order_by("pk")[1000].created_at.date().isoformat()
        words = message.content.subject[:8]
        yield Page("searches", list_of(Message, subject=words))
        yield Page("searches", list_of(Message, subject="words of no mail"))
        yield from (
            Page("searches", list_of(Message, since=day, until=day, **more)) for more in ({}, {"state": "bounced"}, {"subject": words})
        )
        yield from (Page("searches", list_of(Message, until=old, **more)) for more in ({}, {"state": "sent"}, {"subject": words}))
        project = Project.objects.get(name=PROJECT).pk
        for more in ({"state": "bounced"}, {"until": old}, {"subject": words}, {"template": RECEIPT}, {"tag": TAG}, {"q": contact.email}):
            yield Page("searches", list_of(Message, project=project, **more))
        yield from (Page("searches", list_of(Message, template=RECEIPT, **more)) for more in ({"state": "failed"}, {"since": old}))
        yield from (Page("searches", list_of(Message, tag=tag)) for tag in (TAG, "none"))
        yield Page("searches", list_of(Contact, q=contact.name))
        yield Page("searches", list_of(Contact, q=contact.name.partition(" ")[2]))
        yield Page("searches", list_of(Contact, q="Nobody of that name"))
        yield Page("searches", list_of(Batch, q="Letter 1000"))
        yield Page("searches", list_of(Campaign, q="Letter 1000"))

    def _pictures(self) -> Iterator[Page]:
        """Pages of what is counted, over each span of time, and by what they can be narrowed to."""
        relay, busiest = Relay.objects.order_by("pk")[0].pk, Batch.objects.order_by("-sent")[0].pk
        shown = reverse("admin:watching_deliverability_changelist")
        for span in ("day", "week", "month"):
            yield Page("pages", asking(shown, span=span))
            yield Page("pages", asking(shown, span=span, relay=relay))
        yield Page("pages", asking(shown, span="month", destination="gmail"))
        bounces = reverse("admin:returns_count_changelist")
        for span in ("week", "month", "quarter"):
            yield Page("pages", asking(bounces, span=span))
        for only in ({"relay_key": relay}, {"destination_key": "gmail"}, {"batch_key": busiest}, {"kind": "hard"}):
            yield Page("pages", asking(bounces, span="quarter", **only))
            yield Page("pages", asking(reverse("admin:returns_count_mails"), span="quarter", **only))
        for name in ("routes", "simulate", "advisor", "report"):
            yield Page("pages", reverse(f"admin:delivery_move_{name}"))
        yield Page("pages", reverse("admin:tracked"))
        yield Page("pages", asking(reverse("admin:reach"), address=Contact.objects.latest("pk").email))

    def _rows(self) -> Iterator[Page]:
        """Pages of one row, of the largest."""
        batch = Batch.objects.order_by("-sent").first()
        campaign = Campaign.objects.get(batch=batch)
        for row in (
            batch, campaign, Message.objects.order_by("-pk")[1000], Contact.objects.latest("pk"),
            MailingList.objects.order_by("name").first(), Submission.objects.latest("pk"), Suppression.objects.latest("pk"),
            Relay.objects.order_by("pk").first(), Project.objects.get(name=PROJECT), Endpoint.objects.first(),
            Sender.objects.order_by("pk").first(), Domain.objects.order_by("pk").first(),
        ):  # fmt: skip
            if row is not None:
                yield Page("pages", reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk]))
        yield Page("pages", reverse("admin:campaigns_campaign_progress", args=[campaign.pk]))

    def _api(self) -> Iterator[Page]:
        """What a site asks for, by each way of narrowing."""
        mails = Message.objects.filter(stream=Stream.TRANSACTIONAL, source_ref=Project.objects.get(name=PROJECT).pk)
        mail = mails.order_by("-pk")[0]
        week_ago = (mail.created_at - timedelta(days=7)).isoformat()
        old = (mail.created_at - timedelta(days=200)).isoformat()
        for more in (
            {}, {"to": mail.address}, {"to": "nobody@nowhere.example"}, {"status": "bounced"}, {"tag": TAG}, {"tag": "none"},
            {"template": RECEIPT}, {"template": "none"}, {"since": week_ago}, {"until": old}, {"since": old, "tag": "none"},
        ):  # fmt: skip
            yield Page("api", asking(f"{API}messages", **more))
        yield Page("api", f"{API}messages/{mail.public_id}")
        yield Page("api", f"{API}messages/{mail.public_id}/events")
        yield Page("api", f"{API}statistics")
        yield Page("api", asking(f"{API}statistics", since=(mail.created_at - timedelta(days=30)).isoformat()))
        contact = Contact.objects.latest("pk")
        yield Page("api", f"{API}contacts")
        yield Page("api", asking(f"{API}contacts", email=contact.email))
        yield Page("api", f"{API}contacts/{contact.public_id}")
        yield from (Page("api", f"{API}{name}") for name in ("suppressions", "templates", "lists", "campaigns"))


def list_of(model: type[Model], **asked: object) -> str:
    return asking(reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"), **asked)


def asking(path: str, **asked: object) -> str:
    return f"{path}?{urlencode(asked)}" if asked else path


# ---------------------------------------------------------------------------------------------------------------------- cold


def cool() -> bool:
    """Have neither the database server nor the system remember anything of its files. False where the server is not ours alone, or its
    files are not here."""
    if not (control := os.environ.get(CONTROL)):
        return False
    with connection.cursor() as cursor:
        cursor.execute("SHOW data_directory")
        folder = Path(cursor.fetchone()[0]) / "base"
    if not os.access(folder, os.R_OK):
        return False
    connection.close()
    subprocess.run([*shlex.split(control), "--mode", "fast", "restart"], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    for file in folder.rglob("*"):
        if file.is_file():
            _forget(file)
    return True


def _forget(file: Path) -> None:
    """Nothing of it is unwritten: the server's stop was orderly."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
