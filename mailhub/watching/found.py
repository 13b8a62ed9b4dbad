from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mailhub.watching.models import Rule, Trouble


@dataclass(frozen=True, slots=True)
class Found:
    """Something that is in trouble at this moment, as a source found it."""

    kind: Trouble.Kind
    #: what it is about: the same as long as it is the same trouble
    subject: str
    #: names and figures for its words (words.py)
    about: dict[str, Any] = field(default_factory=dict)
    tone: Trouble.Tone = Trouble.Tone.WARN
    #: the row on whose page it is mended: label of its model, and key
    model: str = ""
    object_id: str = ""
    #: key of the relay that is in trouble: alerts by mail go around it
    relay: int | None = None
    rule: Rule | None = None
