from __future__ import annotations

from datetime import timedelta

from django import template
from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from mailhub.delivery import progress
from mailhub.delivery.models import Batch
from mailhub.lib.charts import grouped

register = template.Library()
register.filter(grouped)


@register.filter
def lasting(span: timedelta) -> str:
    """In the two largest units that matter."""
    seconds = max(int(span.total_seconds()), 0)
    if seconds < 60:
        return _("%(seconds)s s") % {"seconds": seconds}
    if seconds < 3600:
        return _("%(minutes)s min %(seconds)s s") % {"minutes": seconds // 60, "seconds": seconds % 60}
    if seconds < 86_400:
        return _("%(hours)s h %(minutes)s min") % {"hours": seconds // 3600, "minutes": seconds // 60 % 60}
    return _("%(days)s d %(hours)s h") % {"days": seconds // 86_400, "hours": seconds // 3600 % 24}


@register.filter
def spell(span: timedelta) -> str:
    """A long time as people say it: "3 days 4 h"; what is shorter than a day like lasting()."""
    days, rest = divmod(max(round(span.total_seconds() / 3600), 0), 24)
    if not days:
        return lasting(span)
    words = ngettext("%(days)s day", "%(days)s days", days) % {"days": days}
    return _("%(days)s %(hours)s h") % {"days": words, "hours": rest} if rest else words


@register.filter
def brief(span: timedelta) -> str:
    """Like lasting(), and what took less than ten seconds to the hundredth."""
    seconds = max(span.total_seconds(), 0)
    if seconds >= 10:
        return lasting(span)
    return _("%(seconds)s s") % {"seconds": number_format(seconds, decimal_pos=2)}


@register.filter
def pace(rate: float) -> str:
    """Messages a second, or a minute where that is more telling."""
    if rate >= 1:
        return _("%(rate)s a second") % {"rate": grouped(rate)}
    return _("%(rate)s a minute") % {"rate": grouped(60 * rate)}


@register.filter
def meter(batch: Batch) -> SafeString:
    """A small picture of how far a batch has come."""
    parts = ((part.name, part.x, part.width) for part in progress.bar(batch))
    return format_html(
        '<span class="measure"><svg class="meter" viewBox="0 0 1000 40" preserveAspectRatio="none" aria-hidden="true">'
        '<rect width="1000" height="40"/>{parts}</svg> {percent}</span>',
        percent=_("%(percent)s %%") % {"percent": progress.percent(batch)},
        parts=format_html_join("", '<rect class="{}" x="{}" width="{}" height="40"/>', parts),
    )
