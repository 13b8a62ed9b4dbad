"""What of opens and clicks each stream tracks: one page that answers for all of the installation."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from campaigns.models import Campaign, MailingList
from mailhub.senders.models import Domain
from transactional.models import Project

# The newest.
MOST_CAMPAIGNS = 50


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    if not request.user.has_perms(["campaigns.view_campaign", "campaigns.view_mailinglist", "transactional.view_project"]):
        raise PermissionDenied
    campaigns = Campaign.objects.select_related("batch__content").prefetch_related("lists").order_by("-pk")[:MOST_CAMPAIGNS]
    context = {
        "title": _("What is tracked"),
        "tracking": settings.MAILHUB_TRACKING,
        "lists": MailingList.objects.order_by("name"),
        "projects": Project.objects.order_by("name"),
        "campaigns": [(campaign, *_tracks(campaign)) for campaign in campaigns],
        "hosts": Domain.objects.exclude(link_host="").order_by("name"),
    }
    return TemplateResponse(request, "admin/mailhub/tracked.html", {**admin.site.each_context(request), **context})


def _tracks(campaign: Campaign) -> tuple[bool, bool]:
    """Opens and clicks: as they went out, or would now."""
    if campaign.batch:
        content = campaign.batch.content
        return content.tracks_opens, content.links is not None
    may = settings.MAILHUB_TRACKING != "off" and all(each.may_track for each in campaign.lists.all())
    return campaign.tracks_opens and may, campaign.tracks_clicks and may
