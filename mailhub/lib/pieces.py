"""A file that is sent while it is written, so that no more than a piece of it is in memory."""

from __future__ import annotations


class Pieces:
    """What zipfile writes to; it cannot be gone back in."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        data = b"".join(self.written)
        self.written.clear()
        return data
