from __future__ import annotations

import pytest

from mailhub.feedback import addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("rfc822; bob@recipient.example", "bob@recipient.example"),
        ("rfc822;<bob@recipient.example>", "bob@recipient.example"),
        ("<bob@recipient.example> (expanded)", "bob@recipient.example"),
        ('"bob brown"@recipient.example', '"bob brown"@recipient.example'),
        ("<@relay.example:bob@recipient.example>", "bob@recipient.example"),
        ("mailto:bob@recipient.example", "bob@recipient.example"),
        ("bob..brown.@docomo.example", "bob..brown.@docomo.example"),
        ("bob+news=x@recipient.example.", "bob+news=x@recipient.example"),
        ("bob@[192.0.2.9]", "bob@[192.0.2.9]"),
        ("収件人：bob@recipient.example様", "bob@recipient.example"),
        ("宛先bob@recipient.exampleが見つかりません", "bob@recipient.example"),
        ("用户@例え.example", "用户@例え.example"),
        ("nobody here", ""),
        ("@", ""),
    ],
)
def test_an_address_is_found_in_what_surrounds_it(text: str, address: str) -> None:
    assert addresses.first(text) == address


def test_all_addresses_of_a_header_are_found_once() -> None:
    header = "Bob <bob@recipient.example>, carol@recipient.example, <bob@recipient.example>"
    assert addresses.every(header) == ["bob@recipient.example", "carol@recipient.example"]
