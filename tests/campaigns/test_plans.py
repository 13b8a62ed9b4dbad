"""What PostgreSQL makes of the admin's lists of people: none reads many more rows than it shows, however many there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from campaigns import admin as campaigns_admin
from campaigns import audience, growth, launch
from campaigns.admin import ContactList
from campaigns.models import Campaign, Contact, MailingList
from mailhub.admin import EstimatingPaginator
from mailhub.delivery import admin as delivery_admin
from mailhub.delivery.models import Suppression
from tests.delivery.world import postgresql_only

pytestmark = [postgresql_only, pytest.mark.django_db]

CONTACTS = 30_000
BIG = {"campaigns_contact", "campaigns_subscription", "campaigns_consent", "campaigns_leftout"}
# As small beside those rows as the real figures are beside two million.
WINDOW = 500
COUNTED = 200
FOUND = 20
# A page has 50 rows, each of which may cost a row of another table or two, and is counted besides.
MOST = 2_000

# All have been on "Old" since long, nearly nobody is on "Few" and half are on "Half". Nobody was left out for having unsubscribed.
FILL = """
INSERT INTO campaigns_contact (public_id, email, name, language, attributes, created_at)
SELECT gen_random_uuid(), 'c' || n || '@example.net', 'Person ' || n, 'en', '{}', now() FROM generate_series(1, %(contacts)s) n;
INSERT INTO campaigns_consent (contact_id, list_id, basis, source, text, at)
SELECT contact.id, list.id, 'opt_in', 'form', 'yes', now()
FROM (VALUES (1, 'Old'), (2, 'Half'), (3, 'Few')) AS wanted (place, name) JOIN campaigns_mailinglist AS list USING (name),
    campaigns_contact AS contact
WHERE place = 1 AND contact.id <= %(middle)s OR place = 2 AND contact.id %% 2 = 0 OR place = 3 AND contact.id %% 3000 = 0
ORDER BY place, contact.id;
INSERT INTO campaigns_subscription (contact_id, list_id, status, consent_id, changed_at)
SELECT contact_id, list_id, 'subscribed', id, now() FROM campaigns_consent ORDER BY id;
INSERT INTO campaigns_leftout (campaign_id, contact_id, reason)
SELECT campaign.id, contact.id, 'suppressed' FROM campaigns_campaign AS campaign, campaigns_contact AS contact
WHERE contact.id %% 5 < 4 ORDER BY campaign.id, contact.id;
"""


@pytest.fixture
def crowd(campaign: Campaign, news: MailingList, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    monkeypatch.setattr(delivery_admin, "WINDOW", WINDOW)
    monkeypatch.setattr(ContactList, "window", WINDOW)
    monkeypatch.setattr(EstimatingPaginator, "LIMIT", COUNTED)
    for module in (campaigns_admin, delivery_admin):
        monkeypatch.setattr(module, "MOST_FOUND", FOUND)
    campaign.copy()
    lists = [MailingList.objects.create(name=name) for name in ("Old", "Half", "Few")]
    with connection.cursor() as cursor:
        cursor.execute("SELECT COALESCE(max(id), 0) FROM campaigns_contact")
        middle = cursor.fetchone()[0] + CONTACTS // 2
        cursor.execute(FILL, {"contacts": CONTACTS, "middle": middle})
        cursor.execute("ANALYZE")
    for each in lists:
        growth.recount(each)
    return {"campaign": campaign.pk, **{each.name: each.pk for each in lists}}


def plans(client: Client, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The queries of the page, each with its plan and what that came to."""
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    with connection.cursor() as cursor:
        for query in captured.captured_queries:
            if query["sql"].startswith("SELECT"):
                cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + query["sql"].replace("%", "%%"), [])
                found = cursor.fetchone()[0]
                yield query["sql"], (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]


def rows_read(node: dict[str, Any]) -> float:
    """From the big tables and their indexes."""
    read: float = sum(map(rows_read, node.get("Plans", [])))
    if node.get("Relation Name") in BIG or node["Node Type"] == "Bitmap Index Scan":
        filtered = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        read += (node["Actual Rows"] + filtered) * node["Actual Loops"]
    return read


EVERY_WAY = [
    *((name, {}) for name in ("contact", "subscription", "consent", "leftout", "mailinglist", "campaign", "import")),
    *((name, {"p": "4"}) for name in ("contact", "subscription", "consent", "leftout")),
    *((name, {"q": term}) for name in ("contact", "subscription", "consent", "leftout") for term in ("c4711@example.net", "c4", "zz")),
    *(("contact", {"q": term}) for term in ("Person 4711", "person", "rson 29999", "Nobody")),
    *(("contact", {"list": name}) for name in ("Old", "Half", "Few")),
    *(("contact", {"list": name, "language__exact": code}) for name in ("Old", "Half", "Few") for code in ("en", "ja")),
    *(("contact", {"language__exact": code}) for code in ("en", "ja")),
    *((row, {"list__id__exact": name}) for row in ("subscription", "consent") for name in ("Old", "Half", "Few")),
    *(("subscription", {"list__id__exact": name, "status__exact": "unsubscribed"}) for name in ("Old", "Half", "Few")),
    *(("consent", {"list__id__exact": name, "basis__exact": "published"}) for name in ("Old", "Half", "Few")),
    ("subscription", {"status__exact": "unsubscribed"}),
    ("consent", {"basis__exact": "published"}),
    ("leftout", {"campaign": "campaign"}),
    ("leftout", {"campaign": "campaign", "reason__exact": "unsubscribed"}),
    ("leftout", {"reason__exact": "unsubscribed"}),
]


def test_no_list_of_people_reads_more_than_its_window(admin_client: Client, crowd: dict[str, int]) -> None:
    wrong = []
    for name, asked in EVERY_WAY:
        query = "&".join(f"{key}={crowd.get(value, value)}" for key, value in asked.items())
        path = reverse(f"admin:campaigns_{name}_changelist") + f"?{query}"
        for sql, plan in plans(admin_client, path):
            if (read := rows_read(plan)) > MOST:
                wrong.append(f"{path} reads {read:.0f} rows:\n{sql}\n{json.dumps(plan)}")
    assert not wrong, "\n\n".join(wrong)


def test_the_page_of_a_list_does_not_read_its_people(admin_client: Client, crowd: dict[str, int]) -> None:
    path = reverse("admin:campaigns_mailinglist_change", args=[crowd["Old"]])
    assert sum(rows_read(plan) for _sql, plan in plans(admin_client, path)) == 0
    assert Contact.objects.count() == CONTACTS


def test_an_expansion_reads_its_own_part_of_a_list_and_counting_none_of_its_contacts(campaign: Campaign, crowd: dict[str, int]) -> None:
    # One whom the campaign has not left out already.
    some = Contact.objects.filter(subscriptions__list=crowd["Half"]).order_by("pk")[:10]
    Suppression.objects.create(address=next(contact.email for contact in some if contact.pk % 5 == 4), reason="bounce")
    for lists in (["Half", "Few"], ["Half"]):
        campaign.lists.set([crowd[name] for name in lists])
        with CaptureQueriesContext(connection) as captured:
            assert audience.count(campaign) == audience.Count(CONTACTS // 2 - 1, {"suppressed": 1})
        counting = [query["sql"] for query in captured.captured_queries if "AS judged" in query["sql"]]
        assert ["campaigns_contact" in sql for sql in counting] == [False, True]
    launch.launch(campaign, None)
    with CaptureQueriesContext(connection) as captured, connection.cursor() as cursor:
        assert audience.grow(campaign, 200)
        sql = next(query["sql"] for query in captured.captured_queries if "INSERT INTO delivery_message" in query["sql"])
        cursor.execute("EXPLAIN (COSTS OFF) " + sql.replace("%", "%%"), [])
        plan = "\n".join(line for (line,) in cursor.fetchall())
    # Either has the range of contacts that is looked at, and nothing else; which costs less depends on how many lists there are.
    assert re.search(r"using campaigns_subscription_(walk|once)", plan) and "using campaigns_contact_pkey" in plan, plan
    assert not re.search(r"Seq Scan on campaigns_", plan), plan
