from __future__ import annotations

import re

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

# Every character at which str.splitlines() breaks, and NUL: Python's header folding would turn them into CRLF (bpo-46462).
LINE_BREAKS = re.compile("[\r\n\v\f\x1c-\x1e\x85\u2028\u2029\0]")


def one_line(value: str) -> None:
    """Raises ValidationError when `value` could end a header line and begin another."""
    if LINE_BREAKS.search(value):
        raise ValidationError(_("This must be a single line: it holds a line break or a NUL character."), code="line_break")
