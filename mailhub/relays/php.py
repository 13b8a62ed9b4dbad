"""What PHP writes, as far as settings are kept in it: values of serialize(), and define() lines. No objects; nothing is ever run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

# As deep, and with as many values, as no plugin's settings are.
DEEPEST = 16
MOST_VALUES = 10_000

VALUE = re.compile(rb'N;|b:([01]);|i:(-?\d{1,19});|d:([-+.\deE]{1,40});|s:(\d{1,7}):"|a:(\d{1,5}):\{')
SERIALIZED = re.compile(r"\s*a:\d{1,5}:\{")

# A quoted string, a number, or a word such as true; anything else is worked out when PHP runs.
DEFINE = re.compile(
    r"""define\s*\(\s*(['"])(\w{1,100})\1\s*,\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(-?\d{1,19}|\w{1,10}))?\s*(\))?"""
)
COMMENT = re.compile(r"\s*(?://|#|\*|/\*)")
WORDS = {"true": True, "false": False, "null": None}


class Malformed(Exception):
    """It is not what serialize() writes."""

    def __init__(self, line: int) -> None:
        super().__init__()
        #: of the text, counted from 1
        self.line = line


def unserialize(text: str) -> Any:
    """Strings, numbers, booleans, null and arrays; an array is a dict. Raises Malformed."""
    return _Reader(text.strip().encode("utf-8", "replace")).read()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.values = 0

    def read(self) -> Any:
        found = self._value(0)
        if self.data[self.at :].strip():
            raise self._malformed()
        return found

    def _malformed(self) -> Malformed:
        return Malformed(self.data.count(b"\n", 0, self.at) + 1)

    def _value(self, depth: int) -> Any:
        self.values += 1
        match = VALUE.match(self.data, self.at)
        if not match or depth > DEEPEST or self.values > MOST_VALUES:
            raise self._malformed()
        self.at = match.end()
        truth, whole, real, length, count = match.groups()
        if truth:
            return truth == b"1"
        if whole:
            return int(whole)
        if real:
            return real.decode()
        if length:
            return self._string(int(length))
        return self._array(int(count), depth) if count else None

    def _string(self, length: int) -> str:
        """`length` is in bytes."""
        end = self.at + length
        if self.data[end : end + 2] != b'";':
            raise self._malformed()
        found = self.data[self.at : end].decode("utf-8", "replace")
        self.at = end + 2
        return found

    def _array(self, count: int, depth: int) -> dict[str, Any]:
        found = {}
        for _place in range(count):
            key = self._value(depth + 1)
            if not isinstance(key, str | int):
                raise self._malformed()
            found[str(key)] = self._value(depth + 1)
        if self.data[self.at : self.at + 1] != b"}":
            raise self._malformed()
        self.at += 1
        return found


def constants(text: str) -> Iterator[tuple[int, str, Any]]:
    """Line, name and value of each define(); the value of one that is not written out is Ellipsis."""
    for number, line in enumerate(text.splitlines(), 1):
        if COMMENT.match(line):
            continue
        for match in DEFINE.finditer(line):
            _quote, name, single, double, bare, end = match.groups()
            value: Any = ...
            if not end:
                pass
            elif single is not None:
                value = re.sub(r"\\([\\'])", r"\1", single)
            elif double is not None:
                value = ... if re.search(r"(?<!\\)\$", double) else re.sub(r'\\([\\"$])', r"\1", double)
            elif bare is not None:
                value = WORDS.get(bare.lower(), bare if bare.lstrip("-").isdigit() else ...)
            yield number, name, value
