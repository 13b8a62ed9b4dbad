"""How far a campaign has come, in numbers and words."""

from __future__ import annotations

from django.db.models import Count
from django.utils.translation import gettext as _

from campaigns.models import Campaign, LeftOut
from mailhub.delivery import progress


def words(campaign: Campaign) -> str:
    """The campaign's state as a sentence."""
    if campaign.batch:
        return progress.words(campaign.batch)
    if campaign.status == Campaign.Status.SCHEDULED:
        return _("It will be sent on %(when)s.") % {"when": progress.moment(campaign.scheduled_at)}
    return _("A draft: nothing of it has been sent.")


def left_out(campaign: Campaign) -> list[tuple[str, int]]:
    """LeftOut.Reason in words, and how many contacts it kept from getting a mail. Index campaigns_leftout_once."""
    found = LeftOut.objects.filter(campaign=campaign).values_list("reason").annotate(n=Count("pk")).order_by("-n")
    return [(str(LeftOut.Reason(reason).label), count) for reason, count in found]
