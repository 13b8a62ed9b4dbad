from __future__ import annotations

import base64
import hashlib
import subprocess

import pytest

from mailhub.lib import signing

# The example that the specification's own libraries are tested with.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def by_hand(secret: str, id: str, at: int, body: bytes) -> str:
    """HMAC-SHA256 (RFC 2104) from SHA-256 alone, as another program would compute it."""
    key = base64.b64decode(secret[len("whsec_") :]).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(octet ^ 0x36 for octet in key) + f"{id}.{at}.".encode() + body).digest()
    return "v1," + base64.b64encode(hashlib.sha256(bytes(octet ^ 0x5C for octet in key) + inner).digest()).decode()


def test_it_signs_what_the_specification_gives_as_example() -> None:
    assert signing.headers([SECRET], ID, AT, BODY) == {"webhook-id": ID, "webhook-timestamp": "1614265330", "webhook-signature": SIGNATURE}


@pytest.mark.parametrize("body", [b"", b"{}", "件名".encode(), bytes(range(256)) * 300])
def test_it_signs_as_another_computation_does(body: bytes) -> None:
    secret = signing.new_secret()
    assert signing.headers([secret], "evt_1", AT, body)["webhook-signature"] == by_hand(secret, "evt_1", AT, body)


def test_openssl_signs_the_same() -> None:
    key = base64.b64decode(SECRET.removeprefix("whsec_")).hex()
    command = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key}", "-binary"]
    mac = subprocess.run(command, input=f"{ID}.{AT}.".encode() + BODY, capture_output=True, check=True).stdout  # noqa: S603
    assert "v1," + base64.b64encode(mac).decode() == SIGNATURE


def test_what_it_signed_is_taken() -> None:
    assert signing.verify([SECRET], signing.headers([SECRET], ID, AT, BODY), BODY, now=AT) == ID


def test_header_fields_may_come_in_capitals() -> None:
    fields = {name.title(): value for name, value in signing.headers([SECRET], ID, AT, BODY).items()}
    assert signing.verify([SECRET], fields, BODY, now=AT) == ID


def test_while_a_secret_is_changed_the_old_and_the_new_one_are_right() -> None:
    new, old, other = (signing.new_secret() for _ in range(3))
    fields = signing.headers([new, old], ID, AT, BODY)
    assert fields["webhook-signature"] == f"{by_hand(new, ID, AT, BODY)} {by_hand(old, ID, AT, BODY)}"
    assert signing.verify([new], fields, BODY, now=AT) == signing.verify([old], fields, BODY, now=AT) == ID
    assert signing.verify([other, old], fields, BODY, now=AT) == ID
    with pytest.raises(signing.BadSignature):
        signing.verify([other], fields, BODY, now=AT)


def test_signatures_of_a_kind_that_we_do_not_know_are_passed_over() -> None:
    fields = signing.headers([SECRET], ID, AT, BODY)
    fields["webhook-signature"] = f"v1a,abc {fields['webhook-signature']}"
    assert signing.verify([SECRET], fields, BODY, now=AT) == ID


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-id", "msg_other"),
        ("webhook-id", ""),
        ("webhook-timestamp", str(AT + 1)),
        ("webhook-timestamp", ""),
        ("webhook-timestamp", "-1"),
        ("webhook-timestamp", "٣"),
        ("webhook-timestamp", "9" * 5000),
        ("webhook-signature", ""),
        ("webhook-signature", "v1,"),
        ("webhook-signature", "v1,件名"),
        ("webhook-signature", SIGNATURE.removeprefix("v1,")),
        ("webhook-signature", SIGNATURE.replace("v1", "v2")),
    ],
)
def test_a_changed_field_is_found(name: str, value: str) -> None:
    with pytest.raises(signing.BadSignature):
        signing.verify([SECRET], {**signing.headers([SECRET], ID, AT, BODY), name: value}, BODY, now=AT)


def test_a_changed_body_is_found() -> None:
    with pytest.raises(signing.BadSignature, match="fits"):
        signing.verify([SECRET], signing.headers([SECRET], ID, AT, BODY), BODY + b" ", now=AT)


@pytest.mark.parametrize("off", [-301, 301])
def test_an_old_message_is_not_taken_once_more_nor_one_from_the_future(off: int) -> None:
    fields = signing.headers([SECRET], ID, AT, BODY)
    with pytest.raises(signing.BadSignature, match="time"):
        signing.verify([SECRET], fields, BODY, now=AT + off)
    assert signing.verify([SECRET], fields, BODY, now=AT + off - off // 301) == ID


def test_with_no_secret_nothing_is_taken() -> None:
    with pytest.raises(signing.BadSignature):
        signing.verify([], signing.headers([SECRET], ID, AT, BODY), BODY, now=AT)


@pytest.mark.parametrize("secret", ["", "whsec_", SECRET.removeprefix("whsec_"), "whsec_MfKQ", "whsec_件名", "whsec_" + "QUJD" * 30])
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    with pytest.raises(signing.BadSecret):
        signing.headers([secret], ID, AT, BODY)


def test_each_new_secret_is_another_of_256_bits() -> None:
    made = {signing.new_secret() for _ in range(50)}
    assert len(made) == 50
    assert {len(signing.key(secret)) for secret in made} == {32}
