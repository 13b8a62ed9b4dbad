"""Before a campaign is sent its page says how long that will take, and what its sender's domain lacks."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from campaigns import launch
from campaigns.models import Campaign, MailingList
from mailhub.delivery.templatetags.figures import spell
from mailhub.lib import clock
from mailhub.relays import limits
from mailhub.relays.models import Quota, Relay
from mailhub.senders.models import Domain, Finding, Kind, Verdict
from tests.campaigns.conftest import Join


def asked(client: Client, campaign: Campaign) -> str:
    return client.get(reverse("admin:campaigns_campaign_send", args=[campaign.pk])).content.decode()


def test_the_page_says_how_long_it_takes_with_what_is_left(admin_client: Client, campaign: Campaign, news: MailingList, join: Join) -> None:
    for name in ("hana", "taro", "ken", "yumi", "jiro"):
        join(f"{name}@example.net", news)
    assert "no quota holds it back" in asked(admin_client, campaign)
    relay = Relay.objects.get()
    Quota.objects.create(relay=relay, limit=1)
    limits.take(relay, 1, clock.now())
    page = asked(admin_client, campaign)
    # One a day, and today's is gone.
    assert "5 days" in page and "the last leaves" in page and "quotas and warm-ups of Dry run" in page
    relay.pause()
    assert "for ever" in asked(admin_client, campaign)


def test_what_the_domain_lacks_for_a_relay_is_a_warning_with_its_record(
    admin_client: Client, campaign: Campaign, news: MailingList, join: Join
) -> None:
    join("hana@example.net", news)
    Relay.objects.update(kind="smtp", spf="include:spf.post.example", options={"host": "mail.example"})
    domain = Domain.objects.get(name="tea.example")
    for kind, found, problem in ((Kind.SPF, "v=spf1 -all", "spf_terms"), (Kind.DKIM, "", "dkim_none")):
        about = {"terms": "include:spf.post.example", "relays": "Dry run", "asked": ["include:spf.post.example"], "has": []}
        Finding.objects.create(
            domain=domain, kind=kind, name="tea.example", type="TXT", found=found, verdict=Verdict.MISSING, problem=problem,
            about=about if kind == Kind.SPF else {}, since=clock.now(),
        )  # fmt: skip
    warnings = [problem for problem in launch.check(campaign) if problem.field == "route"]
    assert {problem.level for problem in warnings} == {"warning"}
    assert any("v=spf1 include:spf.post.example -all" in problem.remedy for problem in warnings)
    assert any("would fail DMARC" in problem.message for problem in warnings)
    assert "v=spf1 include:spf.post.example -all" in asked(admin_client, campaign)
    launch.launch(campaign, None)


def test_nothing_is_said_without_recipients(admin_client: Client, campaign: Campaign) -> None:
    assert "How long it will take" not in asked(admin_client, campaign)


@pytest.mark.parametrize(("hours", "said"), [(76, "3 days 4 h"), (24, "1 day"), (2.5, "2 h 30 min")])
def test_long_times_are_said_as_people_say_them(hours: float, said: str) -> None:

    assert spell(timedelta(hours=hours)) == said
