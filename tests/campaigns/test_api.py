from __future__ import annotations

import pytest

from campaigns.models import Campaign, Contact, MailingList
from mailhub.relays.models import Stream
from mailhub.senders.models import Sender
from tests.campaigns.conftest import Join
from tests.transactional.api import Site
from transactional.models import Project


@pytest.fixture
def site(campaign: Campaign) -> Site:
    project = Project.objects.create(name="Tea news", stream=Stream.CAMPAIGN)
    project.senders.add(campaign.sender)
    return Site(project)


def test_a_campaign_is_started_once(site: Site, campaign: Campaign, news: MailingList, join: Join) -> None:
    join("a@example.net", news)
    page = f"campaigns/{campaign.public_id}"
    assert site.get("campaigns").json()["campaigns"][0] == site.get(page).json()
    first, again = (site.post(f"{page}/start") for _ in range(2))
    assert (first.status_code, first.json()["status"], again.status_code) == (202, "launched", 409)


def test_a_campaign_that_is_not_ready_says_why(site: Site, campaign: Campaign) -> None:
    Campaign.objects.update(html="")
    Sender.objects.update(organisation="")
    answer = site.post(f"campaigns/{campaign.public_id}/start")
    assert answer.status_code == 422
    assert answer.json()["errors"]
    assert Campaign.objects.get().status == Campaign.Status.DRAFT


def test_a_contact_is_added_once_and_changed_by_its_address(site: Site) -> None:
    assert site.post("contacts", {"email": "new@example.net", "language": "ja"}).status_code == 201
    changed = site.post("contacts", {"email": "New@Example.net", "name": "New"})
    assert (changed.status_code, changed.json()["language"], changed.json()["name"]) == (200, "ja", "New")
    assert site.get("contacts").json()["contacts"] == [changed.json()]


@pytest.mark.parametrize("attributes", [{"bad key": "x"}, {"city": "京" * 20_000}])
def test_a_contact_that_is_not_valid_is_not_added(attributes: dict[str, str], site: Site) -> None:
    answer = site.post("contacts", {"email": "new@example.net", "attributes": attributes})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/attributes")
    assert not Contact.objects.exists()
