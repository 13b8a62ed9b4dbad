"""What came of all faults together: the line that `make faults` prints."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass
class Tally:
    #: processes killed with SIGKILL, the database's crashes included
    kills: int = 0
    #: messages accepted
    accepted: int = 0
    #: accepted and gone, or said to have left and never arrived
    lost: int = 0
    #: campaign messages that arrived more often than once
    doubled_campaign: int = 0
    #: transactional messages that arrived twice, which is their promise where the outcome was unknown
    doubled_transactional: int = 0
    #: outcomes that stay unknown
    unknown: int = 0
    #: never settled
    stuck: int = 0

    def add(self, other: Tally) -> None:
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def kept(self) -> bool:
        """The promise was kept."""
        from mailhub.delivery import engine  # needs Django, which pytest sets up

        return not (self.lost or self.doubled_campaign or self.stuck) and self.unknown <= self.kills * engine.WINDOW

    def __str__(self) -> str:
        return json.dumps(asdict(self))


#: of this run
TOTAL = Tally()
