"""What a process knows for a while, such as that a server does not answer: bounded in time and in number."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Notes(Generic[K]):
    """A text under a key, for `keep` seconds. When there are `most` of them all are dropped: what is still true is soon learnt again."""

    def __init__(self, keep: float, most: int) -> None:
        self.keep = keep
        self.most = most
        self._texts: dict[K, tuple[float, str]] = {}

    def write(self, key: K, text: str = "") -> None:
        if len(self._texts) >= self.most:
            self._texts.clear()
        self._texts[key] = (time.time() + self.keep, text)

    def read(self, key: K) -> str | None:
        until, text = self._texts.get(key, (0.0, ""))
        return text if time.time() < until else None

    def strike(self, key: K) -> None:
        self._texts.pop(key, None)

    def clear(self) -> None:
        self._texts.clear()
