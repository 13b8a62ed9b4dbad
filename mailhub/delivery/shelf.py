"""Made mails, and how many connections the destination of each allows this drain.

A destination that allows few holds back its own mails and no others: what has no free connection stays on the shelf, and those behind it
pass. Where nothing is limited these are two queues, urgent mail first.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mailhub.delivery.models import Message
from mailhub.relays.base import Envelope
from mailhub.relays.models import OTHER, Stream

# A drain claims so many mails for each of its connections to a destination that limits them, and more when half of them have left.
AHEAD = 8


@dataclass(frozen=True, slots=True)
class Ready:
    """A message with its mail."""

    message: Message
    envelope: Envelope
    sender_domain: str

    @property
    def destination(self) -> str:
        return self.message.destination_id or OTHER


class Shelf:
    def __init__(self, slots: Mapping[str, int]) -> None:
        """`slots`: connections by destination, of those that limit them."""
        self.slots = dict(slots)
        #: of the mails on the shelf
        self.bytes = 0
        # What waits for nothing but its turn, and by destination what also waits for a connection: the urgent, and the others.
        self.free = self._queues()
        self.kept = {key: self._queues() for key in self.slots}
        # Of destinations that limit connections: what is claimed and has no outcome, and what of it was handed out.
        self.claimed: Counter[str] = Counter()
        self.out: Counter[str] = Counter()

    @staticmethod
    def _queues() -> tuple[deque[Ready], deque[Ready]]:
        return deque(), deque()

    def __len__(self) -> int:
        """How many could be taken now."""
        waiting = ((key, sum(map(len, queues))) for key, queues in self.kept.items())
        return sum(map(len, self.free)) + sum(min(count, self._spare(key)) for key, count in waiting)

    def _spare(self, key: str) -> int:
        return max(self.slots[key] - self.out[key], 0)

    @property
    def is_empty(self) -> bool:
        return not any(self.free) and not any(any(queues) for queues in self.kept.values())

    # -- claiming

    @property
    def room(self) -> dict[str, int]:
        """How many more may be claimed of each destination that limits connections: none until half of what was claimed is through."""
        return {key: AHEAD * count - self.claimed[key] if self._is_low(key) else 0 for key, count in self.slots.items()}

    @property
    def is_full(self) -> bool:
        """Some destination has so much here that no more of it was claimed."""
        return not all(self._is_low(key) for key, count in self.slots.items() if count)

    def _is_low(self, key: str) -> bool:
        return self.claimed[key] <= AHEAD * self.slots[key] // 2

    def claim(self, messages: Iterable[Message]) -> None:
        self.claimed.update(key for message in messages if (key := message.destination_id) in self.slots)

    def end(self, message: Message) -> None:
        """It has an outcome, or will have none here."""
        if message.destination_id in self.slots:
            self.claimed[message.destination_id] -= 1

    # -- made mails

    def put(self, item: Ready) -> None:
        self.kept.get(item.destination, self.free)[item.message.stream != Stream.TRANSACTIONAL].append(item)
        self.bytes += len(item.envelope.data)

    def take(self) -> Ready:
        """The next that may go now, urgent mail first. Raises IndexError where none may."""
        for late in (False, True):
            # The few that may go to these are not for long; the others have all the other connections.
            for key, queues in self.kept.items():
                if queues[late] and self._spare(key):
                    self.out[key] += 1
                    return self._off(queues[late])
            if self.free[late]:
                return self._off(self.free[late])
        raise IndexError

    def _off(self, queue: deque[Ready]) -> Ready:
        item = queue.popleft()
        self.bytes -= len(item.envelope.data)
        return item

    def back(self, item: Ready) -> bool:
        """Its connection is free again. Returns whether one was waited for."""
        if item.destination not in self.slots:
            return False
        self.out[item.destination] -= 1
        return True

    def drop(self, is_closed: Callable[[Ready], bool]) -> None:
        """Leave mails out that are not to be handed over."""
        for queue in (*self.free, *(queue for queues in self.kept.values() for queue in queues)):
            for item in [item for item in queue if is_closed(item)]:
                queue.remove(item)
                self.bytes -= len(item.envelope.data)
                self.end(item.message)
