from __future__ import annotations

from collections.abc import Iterable

from django import template
from django.db.models import Model
from django.db.models.options import Options
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from mailhub.admin import GROUPS, PART_OF
from mailhub.lib import sentences

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """One of the pictures of static/mailhub/icons.svg, in the colour and size of the words beside it."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"/></svg>', static("mailhub/icons.svg"), name)


@register.filter
def icon_of(opts: Options[Model]) -> str:
    """The icon that the side bar gives to a model, by its _meta."""
    icons = {label: icon for group in GROUPS for label, icon in group.icons.items()}
    return icons.get(PART_OF.get(opts.label, opts.label), "other")


@register.simple_tag
def gap() -> str:
    """Between two sentences: a space, where the language has one there."""
    return sentences.gap()


@register.filter
def in_a_row(said: Iterable[object]) -> str:
    """Sentences, one after another."""
    return sentences.joined(*said)
