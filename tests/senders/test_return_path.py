from __future__ import annotations

from uuid import uuid4

import pytest
from django.core.exceptions import ValidationError
from pytest_django.fixtures import Settings

from mailhub.lib.tokens import BadToken
from mailhub.senders import return_path

BOUNCES = "bounces@bounce.example.com"


def test_a_return_path_tells_the_message_that_it_was_made_for() -> None:
    message = uuid4()
    address = return_path.make(BOUNCES, message)
    local, _at, domain = address.rpartition("@")
    assert (len(local) <= 64, domain, address) == (True, "bounce.example.com", address.lower())
    assert return_path.read(return_path.found(address)) == message
    # Some servers change the case, some the delimiter.
    assert return_path.read(return_path.found(f"<{address.upper()}>")) == message
    assert return_path.read(return_path.found(address.replace("+", "-"))) == message


def test_nobody_else_can_make_one() -> None:
    token = return_path.token(uuid4())
    other = "a" if token[-2] != "a" else "b"
    for forged in (token[:-2] + other + token[-1], return_path.token(uuid4())[:26] + token[26:], "a" * 52, "1" * 52, "", "é"):
        with pytest.raises(BadToken):
            return_path.read(forged)


def test_the_token_of_a_test_is_none_of_a_message() -> None:
    with pytest.raises(BadToken):
        return_path.read(return_path.token(uuid4(), return_path.PROBE))


def test_a_key_that_was_replaced_still_verifies(settings: Settings) -> None:
    message = uuid4()
    token = return_path.token(message)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"  # noqa: S105
    assert return_path.read(token) == message


def test_a_name_that_leaves_no_room_for_tokens_is_refused() -> None:
    assert return_path.check("Bounces@Bounce.Example.COM") == "Bounces@bounce.example.com"
    with pytest.raises(ValidationError):
        return_path.check("newsletters1@example.com")
