from __future__ import annotations

import time_machine

from mailhub.lib.notes import Notes


def test_a_note_is_read_until_its_time_is_over() -> None:
    notes: Notes[str] = Notes(keep=60, most=10)
    with time_machine.travel(1_000_000, tick=False) as clock:
        notes.write("a", "why")
        clock.shift(59)
        assert notes.read("a") == "why"
        clock.shift(1)
        assert notes.read("a") is None


def test_an_empty_text_is_a_note_too_and_can_be_struck_out() -> None:
    notes: Notes[str] = Notes(keep=60, most=10)
    notes.write("a")
    assert notes.read("a") == ""
    notes.strike("a")
    notes.strike("a")
    assert notes.read("a") is None


def test_there_are_never_more_than_allowed() -> None:
    notes: Notes[int] = Notes(keep=60, most=3)
    for key in range(10):
        notes.write(key)
        assert sum(notes.read(key) is not None for key in range(10)) <= 3
    assert notes.read(9) == ""
