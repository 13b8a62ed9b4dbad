"""Books that agree, and every way in which they may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mailhub.demo.receiver import Answer
from mailhub.demo.reckoning import Mail, Try, reckon, sums

TAKEN = Mail("a@example.com", "1@shop", "sent")
GREYLISTED = Mail("b@example.com", "2@shop", "sent")
NOBODY = Mail("c@example.com", "3@shop", "bounced")
KEPT_BACK = Mail("d@example.com", "4@shop", "suppressed")
MAILS = [TAKEN, GREYLISTED, NOBODY, KEPT_BACK]

ANSWERS = [
    Answer(1, "a@example.com", "1@shop", 250),
    Answer(2, "b@example.com", "", 451),
    Answer(3, "c@example.com", "", 550),
    Answer(4, "b@example.com", "2@shop", 250),
]
TRIES = [
    Try("a@example.com", "1@shop", 250),
    Try("b@example.com", "2@shop", 451),
    Try("c@example.com", "3@shop", 550),
    Try("b@example.com", "2@shop", 250),
]


def test_books_that_agree_add_up() -> None:
    found = reckon(MAILS, TRIES, ANSWERS)
    assert found.problems == []
    assert (found.received, found.others, found.lost, found.doubled) == (2, 0, 0, 0)
    assert found.replies == {2: 2, 4: 1, 5: 1}


def test_nothing_at_all_adds_up_too() -> None:
    assert reckon([], [], []).problems == []


def test_a_mail_that_the_server_has_not_got_is_lost() -> None:
    found = reckon(MAILS, TRIES, ANSWERS[1:])
    assert found.lost == 1 and found.received == 1
    assert found.problems[0] == "lost: <1@shop> to a@example.com is sent, but the server has not got it"


def test_a_mail_that_came_to_another_recipient_is_lost_to_its_own() -> None:
    found = reckon(MAILS, TRIES, [replace(ANSWERS[0], recipient="x@example.com"), *ANSWERS[1:]])
    assert found.lost == 1
    assert any(problem.startswith("unknown: the server got <1@shop> for x@example.com") for problem in found.problems)


def test_a_mail_that_the_server_got_twice_is_doubled() -> None:
    found = reckon(MAILS, TRIES, [*ANSWERS, ANSWERS[0]])
    assert (found.doubled, found.received, found.lost) == (1, 3, 0)
    assert found.problems[0] == "doubled: a@example.com got 2 copies of <1@shop>"


def test_a_mail_that_was_tried_twice_and_taken_twice_is_doubled_though_both_books_say_so() -> None:
    found = reckon(MAILS, [*TRIES, TRIES[0]], [*ANSWERS, ANSWERS[0]])
    assert found.doubled == 1
    assert len(found.problems) == 1


@pytest.mark.parametrize("status", ["bounced", "failed", "suppressed", "canceled"])
def test_a_mail_that_is_settled_as_not_sent_and_was_taken_is_told(status: str) -> None:
    found = reckon([replace(TAKEN, status=status), *MAILS[1:]], TRIES, ANSWERS)
    assert found.problems == [f"<1@shop> to a@example.com is {status}, but the server has got it"]


@pytest.mark.parametrize("status", ["queued", "deferred", "claimed", "unknown"])
@pytest.mark.parametrize("mail", [TAKEN, NOBODY], ids=["taken", "refused"])
def test_a_mail_that_is_not_settled_does_not_add_up_whatever_the_server_says(mail: Mail, status: str) -> None:
    others = [other for other in MAILS if other is not mail]
    assert reckon([replace(mail, status=status), *others], TRIES, ANSWERS).problems == [
        f"not settled: <{mail.message_id}> to {mail.recipient} is {status}"
    ]


def test_a_reply_that_mailhub_has_not_recorded_is_told() -> None:
    assert reckon(MAILS, TRIES[:1] + TRIES[2:], ANSWERS).problems == [
        "b@example.com: the server said 451 1 times, and MailHub has recorded it 0 times"
    ]


def test_a_reply_that_the_server_never_gave_is_told() -> None:
    invented = Try("c@example.com", "3@shop", 451)
    assert reckon(MAILS, [*TRIES, invented], ANSWERS).problems == [
        "c@example.com: the server said 451 0 times, and MailHub has recorded it 1 times"
    ]


def test_a_reply_that_was_misread_is_told_from_both_sides() -> None:
    misread = [Try("c@example.com", "3@shop", 552) if each.code == 550 else each for each in TRIES]
    assert len(reckon(MAILS, misread, ANSWERS).problems) == 2


def test_tries_without_a_reply_are_held_against_nobody() -> None:
    assert reckon(MAILS, [*TRIES, Try("a@example.com", "1@shop", None)], ANSWERS).problems == []


def test_mails_of_an_earlier_run_that_leave_now_disturb_nothing() -> None:
    found = reckon(MAILS, [*TRIES, Try("a@example.com", "old@shop", 250)], [*ANSWERS, Answer(5, "a@example.com", "old@shop", 250)])
    assert found.problems == []
    assert (found.received, found.others) == (2, 1)


def test_mail_that_mailhub_knows_nothing_of_is_told() -> None:
    found = reckon(MAILS, [*TRIES, Try("e@example.com", "5@shop", 250)], [*ANSWERS, Answer(5, "e@example.com", "6@shop", 250)])
    assert found.problems == ["unknown: the server got <6@shop> for e@example.com, which MailHub has not sent"]


def test_everybody_on_the_lists_is_accounted_for() -> None:
    assert sums(accepted=10, left_out=2, contacts=12, counters={"sent": 9, "bounced": 1}, rows={"sent": 9, "bounced": 1}) == []
    assert sums(accepted=10, left_out=2, contacts=13, counters={}, rows={}) == [
        "13 contacts are on the lists, but 10 accepted and 2 left out are not as many"
    ]


def test_counters_are_held_against_the_messages_themselves() -> None:
    assert sums(accepted=2, left_out=0, contacts=2, counters={"sent": 2, "waiting": 0}, rows={"sent": 1, "bounced": 1}) == [
        "the campaign counts 0 bounced, and 1 of its messages are",
        "the campaign counts 2 sent, and 1 of its messages are",
    ]
