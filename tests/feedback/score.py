"""How well the parser does on real mails whose results are known: python -m tests.feedback.score [FOLDER]"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailhub.feedback import bounces
from mailhub.feedback.reports import Reading

FOLDER = Path(__file__).resolve().parents[3] / "shared/reference/bounces"
FAILED = ("hard", "soft")


@dataclass
class Score:
    mails: int = 0
    expected: int = 0
    found: int = 0
    given: int = 0
    right: int = 0
    dead: int = 0
    dead_found: int = 0
    hard: int = 0
    hard_right: int = 0
    alive: int = 0
    alive_hard: int = 0
    strict: int = 0
    lenient: int = 0
    complaints: int = 0
    complaints_found: int = 0
    harmless: int = 0
    false: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, line: dict[str, Any], reading: Reading) -> None:
        self.mails += 1
        if line["mail_kind"] == "complaint":
            self.complaint(line, reading)
        elif line["mail_kind"] == "bounce":
            self.bounce(line, reading)
        else:
            self.harmless += 1
            if any(report.kind in (*FAILED, "complaint") for report in reading.reports):
                self.false += 1
                self.note(line, "taken for a bounce or complaint")

    def complaint(self, line: dict[str, Any], reading: Reading) -> None:
        wanted = {(each["recipient"] or "").lower() for each in line["expected"]}
        given = {report.recipient.lower() for report in reading.reports if report.kind == "complaint"}
        self.complaints += 1
        if wanted <= given:
            self.complaints_found += 1
        else:
            self.note(line, f"complaints {given} instead of {wanted}")

    def bounce(self, line: dict[str, Any], reading: Reading) -> None:
        given = {report.recipient.lower(): report for report in reading.reports if report.kind in FAILED}
        wanted = {each["recipient"].lower() for each in line["expected"]}
        self.given += len(given)
        self.right += len(wanted & given.keys())
        if given.keys() - wanted:
            self.note(line, f"too many: {given.keys() - wanted}")
        for each in line["expected"]:
            self.recipient(line, each, given.get(each["recipient"].lower()))

    def recipient(self, line: dict[str, Any], expected: dict[str, Any], report: Any) -> None:
        kinds = expected["kinds_ok"]
        self.expected += 1
        self.dead += kinds == ["hard"]
        self.alive += kinds == ["soft"]
        if report is None:
            self.note(line, f"not found: {expected['recipient']}")
            return
        self.found += 1
        self.hard += report.kind == "hard"
        self.hard_right += report.kind == "hard" and "hard" in kinds
        self.dead_found += report.kind == "hard" and kinds == ["hard"]
        self.alive_hard += report.kind == "hard" and kinds == ["soft"]
        ok = report.category in (expected["category"], *expected["categories_ok"]) or not expected["categories_ok"]
        self.strict += report.category == expected["category"]
        self.lenient += ok
        if report.kind not in kinds or report.category != expected["category"]:
            grade = "WRONG" if not ok or report.kind not in kinds else "near"
            self.note(
                line,
                f"{grade} {report.kind} {report.category} instead of {'/'.join(kinds)} {expected['category']} {expected['categories_ok']}: {report.diagnostic[:160]!r} by {report.verdict.rule[:70]}",
            )

    def note(self, line: dict[str, Any], text: str) -> None:
        self.wrong.append(f"{line['file']}: {text}")

    def lines(self) -> Iterable[tuple[str, int, int]]:
        yield "recipients found", self.found, self.expected
        yield "recipients right", self.right, self.given
        yield "hard found", self.dead_found, self.dead
        yield "hard right", self.hard_right, self.hard
        yield "soft called hard", self.alive_hard, self.alive
        yield "reason strict", self.strict, self.expected
        yield "reason lenient", self.lenient, self.expected
        yield "complaints found", self.complaints_found, self.complaints
        yield "false bounces", self.false, self.harmless


def score(folder: Path, only: frozenset[str] | None = None) -> Score:
    result = Score()
    for text in (folder / "expected.jsonl").read_text().splitlines():
        line = json.loads(text)
        if only is None or line["file"] in only:
            result.add(line, bounces.read((folder / "mails" / line["file"]).read_bytes()))
    return result


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    result = score(folder)
    for name, part, whole in result.lines():
        print(f"{name:18} {part:4} of {whole:4}  {part / whole if whole else 0:7.1%}")  # noqa: T201
    if "-v" in sys.argv:
        print(*result.wrong, sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
