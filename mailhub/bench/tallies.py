"""What MailHub counts of its mail as it goes, and posts of it to others: for the data set, chunk by chunk."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.backends.utils import CursorWrapper

from mailhub.delivery.models import Event
from mailhub.webhooks.log import KEPT
from mailhub.webhooks.models import Delivery, Endpoint

# Posts to a site that takes events of all mail, in the days that they are kept.
POSTS = 100_000


def post(cursor: CursorWrapper, now: datetime) -> None:
    """The log of a webhook that staff have paused since, so that nothing is posted while others are measured."""
    newest = Event.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    endpoint = Endpoint.objects.create(name="Shop", url="https://shop.example/events", cursor=newest)
    endpoint.pause()
    posts = min(POSTS, newest)
    span: dict[str, Any] = {"posts": posts, "first": newest - posts, "now": now, "each": KEPT[Delivery.Status.DELIVERED] / max(posts, 1)}
    cursor.execute(POST, {"endpoint": endpoint.pk, **span})


# As queue.settle() counts; of what was accepted, none came back later.
THROUGHPUT = """
INSERT INTO delivery_throughput (hour, relay_key, destination_key, source, stream, accepted, deferred, bounced, refused, unanswered,
    returned, complained, seconds, within_1, within_5, within_30, within_300, within_3600, within_86400, later)
SELECT hour, relay, destination, '', stream, count(*) FILTER (WHERE accepted), count(*) FILTER (WHERE outcome = 'deferred'),
    count(*) FILTER (WHERE outcome = 'refused' AND bounced), count(*) FILTER (WHERE outcome = 'refused' AND NOT bounced),
    count(*) FILTER (WHERE outcome = 'unknown'), 0, count(*) FILTER (WHERE complained), COALESCE(sum(seconds) FILTER (WHERE accepted), 0),
    count(*) FILTER (WHERE accepted AND seconds <= 1), count(*) FILTER (WHERE accepted AND seconds > 1 AND seconds <= 5),
    count(*) FILTER (WHERE accepted AND seconds > 5 AND seconds <= 30),
    count(*) FILTER (WHERE accepted AND seconds > 30 AND seconds <= 300),
    count(*) FILTER (WHERE accepted AND seconds > 300 AND seconds <= 3600),
    count(*) FILTER (WHERE accepted AND seconds > 3600 AND seconds <= 86400), count(*) FILTER (WHERE accepted AND seconds > 86400)
FROM (
    SELECT date_trunc('hour', finished_at, 'UTC') AS hour, attempt.relay_id AS relay, destination_id AS destination, stream, outcome,
        outcome = 'sent' AS accepted, status = 'bounced' AS bounced, status = 'complained' AS complained,
        GREATEST(floor(date_part('epoch', finished_at - created_at)), 0)::bigint AS seconds
    FROM delivery_attempt AS attempt JOIN delivery_message AS message ON message.id = message_id
    WHERE message.id > %(before)s AND attempt.id > %(tried_before)s
) AS made
GROUP BY hour, relay, destination, stream
ON CONFLICT (hour, relay_key, destination_key, source, stream) DO UPDATE SET
    accepted = delivery_throughput.accepted + excluded.accepted, deferred = delivery_throughput.deferred + excluded.deferred,
    bounced = delivery_throughput.bounced + excluded.bounced, refused = delivery_throughput.refused + excluded.refused,
    unanswered = delivery_throughput.unanswered + excluded.unanswered, complained = delivery_throughput.complained + excluded.complained,
    seconds = delivery_throughput.seconds + excluded.seconds, within_1 = delivery_throughput.within_1 + excluded.within_1,
    within_5 = delivery_throughput.within_5 + excluded.within_5, within_30 = delivery_throughput.within_30 + excluded.within_30,
    within_300 = delivery_throughput.within_300 + excluded.within_300, within_3600 = delivery_throughput.within_3600 + excluded.within_3600,
    within_86400 = delivery_throughput.within_86400 + excluded.within_86400, later = delivery_throughput.later + excluded.later
"""

# As carried.py counts, which is a little behind: of the last chunk, nothing is counted.
CARRIED = """
INSERT INTO delivery_carried (hour, sender_key, relay_key, stream, accepted, deferred, bounced, refused, unanswered)
SELECT date_trunc('hour', finished_at, 'UTC'), sender_id, attempt.relay_id, stream, count(*) FILTER (WHERE outcome = 'sent'),
    count(*) FILTER (WHERE outcome = 'deferred'), count(*) FILTER (WHERE outcome = 'refused' AND status = 'bounced'),
    count(*) FILTER (WHERE outcome = 'refused' AND status <> 'bounced'), count(*) FILTER (WHERE outcome = 'unknown')
FROM delivery_attempt AS attempt JOIN delivery_message AS message ON message.id = message_id
WHERE message.id > %(before)s AND attempt.id > %(tried_before)s
GROUP BY 1, 2, 3, 4
ON CONFLICT (hour, sender_key, relay_key, stream) DO UPDATE SET
    accepted = delivery_carried.accepted + excluded.accepted, deferred = delivery_carried.deferred + excluded.deferred,
    bounced = delivery_carried.bounced + excluded.bounced, refused = delivery_carried.refused + excluded.refused,
    unanswered = delivery_carried.unanswered + excluded.unanswered
"""

COUNTED = "INSERT INTO delivery_carriedupto (id, read, seen, seen_at) VALUES (1, %(tried_before)s, %(tried_before)s, %(now)s)"

POST = """
INSERT INTO webhooks_delivery (endpoint_id, public_id, kind, status, first_event, last_event, count, types, tries, tried_at, seconds,
    response_status, response_body, problem, created_at)
SELECT %(endpoint)s, gen_random_uuid(), 'events', CASE WHEN n %% 200 = 0 THEN 'refused' ELSE 'delivered' END, %(first)s + n, %(first)s + n,
    1, '[]', 1, at, 0.1, CASE WHEN n %% 200 = 0 THEN 410 ELSE 200 END, '', '', at
FROM generate_series(1, %(posts)s) AS n, LATERAL (SELECT %(now)s::timestamptz - (%(posts)s - n) * %(each)s::interval AS at) AS timed
"""
