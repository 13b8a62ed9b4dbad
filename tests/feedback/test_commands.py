from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.feedback import mails


def said(*args: str, **options: str) -> list[dict[str, Any]]:
    out = io.StringIO()
    call_command(*args, stdout=out, **options)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_parse_bounce_prints_one_line_a_mail(tmp_path: Path) -> None:
    bounce, letter = tmp_path / "bounce.eml", tmp_path / "letter.eml"
    bounce.write_text(mails.STATUSES[0].mail)
    letter.write_text("From: bob@recipient.example\nSubject: Hello\n\nHello.\n")
    assert said("parse_bounce", str(bounce), str(letter)) == [
        {
            "file": str(bounce),
            "results": [
                {"recipient": "bob@recipient.example", "status": "5.1.1", "kind": "hard", "reason": "user_unknown", "action": "failed"}
            ],
        },
        {"file": str(letter), "results": []},
    ]


def test_parse_bounce_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(mails.COMPLAINTS[0].mail.encode())))
    (line,) = said("parse_bounce", "-")
    assert [result["kind"] for result in line["results"]] == ["complaint"]


def test_parse_bounce_says_which_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"missing\.eml cannot be read"):
        call_command("parse_bounce", str(tmp_path / "missing.eml"))


def test_classify_reply_says_what_a_reply_means_and_what_to_do() -> None:
    lines = said("classify_reply", "550 5.1.1 no such user", "450 4.7.1 too many connections")
    assert [(line["category"], line["kind"], line["fault"]) for line in lines] == [
        ("user_unknown", "hard", "recipient"),
        ("rate_limited", "soft", "capacity"),
    ]
    assert lines[0]["advice"] == {"suppress": True, "retry_after": None, "pause": "nothing"}
    assert lines[1]["advice"] == {"suppress": False, "retry_after": 900, "pause": "destination"}


def test_classify_reply_heeds_who_spoke_and_what_was_answered() -> None:
    (line,) = said("classify_reply", "550 Unknown user", "--provider", "mfsmax.docomo.ne.jp", "--command", "DATA")
    assert (line["category"], line["kind"]) == ("rejected", "soft")
