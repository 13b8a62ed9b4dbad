"""The real mails whose results are known, where they are at hand."""

from __future__ import annotations

import json

import pytest

from mailhub.feedback import bounces
from tests.feedback import mails, score
from tests.feedback.score import Score

needs_mails = pytest.mark.skipif(not (score.FOLDER / "expected.jsonl").exists(), reason=f"no real bounce mails in {score.FOLDER}")


@pytest.fixture(scope="module")
def result() -> Score:
    return score.score(score.FOLDER)


@needs_mails
@pytest.mark.parametrize(
    ("figure", "least"),
    [
        ("recipients found", 0.99),
        ("recipients right", 0.99),
        ("hard found", 0.95),
        ("hard right", 0.99),
        ("reason strict", 0.92),
        ("reason lenient", 0.98),
        ("complaints found", 1),
    ],
)
def test_real_mails_are_understood(result: Score, figure: str, least: float) -> None:
    name, part, whole = next(line for line in result.lines() if line[0] == figure)
    assert part / whole >= least, (name, part, whole)


@needs_mails
@pytest.mark.parametrize("figure", ["soft called hard", "false bounces"])
def test_no_living_address_is_called_dead(result: Score, figure: str) -> None:
    assert next(part for name, part, _whole in result.lines() if name == figure) == 0


@needs_mails
def test_real_mails_are_read_alike_with_any_line_ends() -> None:
    for path in sorted((score.FOLDER / "mails").rglob("*.eml")):
        data = path.read_bytes().replace(b"\r\n", b"\n")
        assert bounces.read(data) == bounces.read(data.replace(b"\n", b"\r\n")), path


def test_the_score_counts_what_is_missing_and_what_is_too_much() -> None:
    line = {
        "file": "a",
        "mail_kind": "bounce",
        "expected": [
            {"recipient": "Carol@recipient.example", "category": "mailbox_full", "categories_ok": ["mailbox_full"], "kinds_ok": ["soft"]}
        ],
    }
    result = Score()
    result.add(line, bounces.read(mails.STATUSES[0].mail.encode()))
    result.add({"file": "b", "mail_kind": "not_bounce", "expected": []}, bounces.read(mails.STATUSES[0].mail.encode()))
    figures = {name: (part, whole) for name, part, whole in result.lines()}
    assert figures["recipients found"] == (0, 1)
    assert figures["recipients right"] == (0, 1)
    assert figures["false bounces"] == (1, 1)
    assert json.dumps(result.wrong)
