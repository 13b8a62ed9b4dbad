"""The quick way to a normalised address comes to what the thorough one does."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given
from hypothesis import strategies as st

from mailhub.lib import addresses

LOCALS = st.one_of(st.text('aB0._+=-" ü\\(', max_size=8), st.integers(60, 70).map("a".__mul__))
DOMAINS = st.one_of(
    st.text("aB0.-_[] 例ü", max_size=8),
    st.sampled_from(["Example.NET", "例え.jp", "localhost", "example.net.", "[192.0.2.1]", "-a.example", "a" * 64 + ".example"]),
    st.integers(176, 195).map(lambda length: ".".join(["a" * 59] * 3 + ["b" * (length - 179)]) if length > 180 else "example.net"),
)


@given(LOCALS, DOMAINS)
@example("a" * 64, ".".join(["a" * 62] * 3))
@example("a" * 64, ".".join(["a" * 62] * 3) + "a")
@example("a.", "example.net")
@example("a\n", "example.net")
def test_an_address_is_what_the_whole_check_makes_of_it(local: str, domain: str) -> None:
    text = f"{local}@{domain}".strip()
    try:
        parsed = validate_email(text, check_deliverability=False, globally_deliverable=False)
        expected = f"{parsed.local_part}@{parsed.ascii_domain.lower()}"
    except EmailNotValidError:
        expected = ""
    try:
        found = addresses.normalise.__wrapped__(text)
    except ValidationError:
        found = ""
    assert found == expected
