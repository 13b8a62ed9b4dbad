from __future__ import annotations

import json
import math

import pytest

from mailhub.bench import report
from mailhub.bench.accepting import Taken
from mailhub.bench.memory import Peak
from mailhub.bench.rounds import Figures, Plan

PLAN = Plan(messages=40_000, rounds=3, large=200_000, relays=1, alone=False)
KEYS = [
    "signed_per_s", "signed_ratio", "unsigned_per_s", "unsigned_ratio", "expand_per_s", "first_mail_s", "api_per_s", "smtp_per_s",
    "worker_peak_mb", "transactional_p95_s",
]  # fmt: skip


@pytest.fixture
def figures() -> Figures:
    return Figures(
        signed=[1000, 3000, 2000],
        signed_limit=[2000, 4000, 2000],
        unsigned=[5000.4, 5000.4, 5000.4],
        unsigned_limit=[10_000, 10_000, 5000.4],
        peers={"django": [800, 900, 700], "post_office": [1000, 1000, 1000]},
        one_worker=900,
        two_workers=1700,
        imported=40_000,
        expanded=50_000.7,
        first_mail=0.45678,
        transactional=[0.01 * number for number in range(1, 101)],
        by_api=1500.2,
        by_smtp=2500,
        costs={"smtp": Taken(2500, 600.4, 120, 50)},
        peak=Peak(single=101.26, together=300, summed=900, processes=18),
        loop="uvloop",
    )


def test_a_ratio_is_the_median_of_what_was_run_side_by_side(figures: Figures) -> None:
    assert figures.ratio("signed") == 0.75
    assert figures.ratio("unsigned") == pytest.approx(0.50004)


def test_the_last_line_is_for_programs(figures: Figures) -> None:
    found = json.loads(report.as_json(figures))
    assert list(found) == KEYS
    assert found == {
        "signed_per_s": 2000,
        "signed_ratio": 0.75,
        "unsigned_per_s": 5000,
        "unsigned_ratio": 0.5,
        "expand_per_s": 50001,
        "first_mail_s": 0.457,
        "api_per_s": 1500,
        "smtp_per_s": 2500,
        "worker_peak_mb": 101.3,
        "transactional_p95_s": pytest.approx(0.96, abs=0.01),
    }


def test_what_could_not_be_measured_is_null(figures: Figures) -> None:
    figures.transactional, figures.expanded = [], math.nan
    found = json.loads(report.as_json(figures))
    assert found["transactional_p95_s"] is found["expand_per_s"] is None


def test_the_table_has_every_figure_with_its_rounds_and_its_bar(figures: Figures) -> None:
    table = "\n".join(report.lines(PLAN, figures))
    for words in (
        "40,000 recipients, 3 rounds (the limit on uvloop)",
        "2,000   rounds: 1,000  3,000  2,000",
        "0.75   bar 0.8",
        "Django's SMTP backend in a loop, unsigned",
        "1,700",
        "us of a processor for one by SMTP",
        "770   MailHub 600, database 120, clients 50",
        "50,001   bar 50,000",
        "bar 1; 100 mails",
        "1,500   bar 1,000",
        "all 18 processes",
    ):
        assert words in table
