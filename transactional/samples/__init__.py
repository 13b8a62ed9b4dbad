"""Three mails that most shops send, in English and Japanese, to begin with: in files beside this one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

from transactional.models import Template

FILES = Path(__file__).parent
KEYS = ("order-confirmation", "purchase-details", "registration-complete")
LANGUAGES = ("en", "ja")


@dataclass(frozen=True, slots=True)
class Sample:
    key: str
    language: str
    subject: str
    html: str
    text: str
    #: values for all of its placeholders
    data: dict[str, Any]


def read(key: str, language: str) -> Sample:
    name = f"{key}.{language}"
    described = json.loads((FILES / f"{name}.json").read_text())
    layout = (FILES / "layout.html").read_text().replace('lang="en"', f'lang="{language}"', 1)
    return Sample(
        key=key,
        language=language,
        subject=described["subject"],
        html=layout.replace("<!-- content -->\n", (FILES / f"{name}.html").read_text()),
        text=(FILES / f"{name}.txt").read_text(),
        data=described["data"],
    )


def load() -> int:
    """Add the sample templates that are missing, published; returns how many. Those that staff have changed stay as they are."""
    count = 0
    for key in KEYS:
        for language in LANGUAGES:
            sample = read(key, language)
            words = {"subject": sample.subject, "source": sample.html, "text": sample.text, "sample": sample.data}
            template, created = Template.objects.get_or_create(key=key, language=language, defaults=words)
            if created:
                template.publish(None, _("As MailHub brings it."))
                count += 1
    return count
