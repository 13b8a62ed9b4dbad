"""The settings that MailHub was started with, for those who may see how it runs. They are read here and changed in the environment."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import pgettext
from django.views.decorators.http import require_safe

from mailhub.delivery.models import Worker
from mailhub.relays.pages import demand

# Of those that are not ours by name, what an operator sets.
OTHERS = ("ALLOWED_HOSTS", "DATABASE_URL", "DEBUG", "DEFAULT_FROM_EMAIL", "LANGUAGE_CODE", "LOG_FORMAT", "REDIS_URL", "TIME_ZONE")
SECRETS = frozenset({"MAILHUB_ENCRYPTION_KEYS"})


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    value: str
    #: the environment says it; False: it is as MailHub has it by itself
    given: bool


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    demand(request, "delivery.view_worker")
    context = {"title": _("Settings"), "opts": Worker._meta, "found": found()}
    return TemplateResponse(request, "admin/mailhub/environment.html", {**admin.site.each_context(request), **context})


def found() -> list[Setting]:
    names = sorted({name for name in dir(settings) if name.startswith("MAILHUB_")} | set(OTHERS))
    return [Setting(name, _shown(name), name in os.environ) for name in names]


def _shown(name: str) -> str:
    if name in SECRETS:
        return _("hidden")
    return _written(os.environ.get(name, "") if name == "DATABASE_URL" else getattr(settings, name, os.environ.get(name, "")))


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return pgettext("a setting", "on") if value else pgettext("a setting", "off")
    if not isinstance(value, str) and isinstance(value, Iterable):
        return ", ".join(map(_written, value)) or "—"
    return _without_password(str(value)) or "—"


def _without_password(text: str) -> str:
    parts = urlsplit(text) if "://" in text else None
    if parts is None or parts.password is None:
        return text
    user, _at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:…@{host}"))
