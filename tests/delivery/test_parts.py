from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from mailhub.delivery import mime, rendering
from mailhub.delivery.parts import Part
from mailhub.delivery.rendering import TooMuch
from mailhub.relays.client import END, stuffed
from mailhub.senders import dkim

TEMPLATES = [
    "", "\n", "Dear {{ name }}", "Dear {{ name }}\n", "{{ name }}", "\n{{ name }}", "50% off, {{ name }} %s\nand more\n.\n {{ name }} \n",
    "tea " * 40 + "{{ name }}" + " tea" * 40 + "\nend", ".{{ name }}\n..\n" + "." * 200 + "\n." + "é" * 40 + "{{ name }}\n  two  \t spaces \n", "{{ name }}{{ other }}\n\n{{ other }}\nend \n",
    "{{ 'Tea & <Co>' }} {{ name }}\nend {{ 'a\\n50%\\n' }}\n", "{{ firm }}{% set firm = 'Tea <Co>' %}\n{{ firm }} {{ name }}", "{{ range }}\n", "{{ 5 }}{{ none }}\n",
    "{% if name %}Dear {{ name }}{% endif %}\n", "{{ name | default('Tea') }}\n", "{{ name.first }}\n",
]  # fmt: skip
VALUES: list[Any] = [
    "Taro",
    "",
    "a\r\nb",
    "\n",
    "\r",
    "\n.\n",
    ".",
    "<b>&",
    "日本",
    "a=b ",
    "50%s",
    "y" * 100,
    None,
    5,
    True,
    ["<"],
    {"first": "x"},
]


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64"])
@pytest.mark.parametrize("kind", ["plain", "html"])
def test_a_part_made_by_lines_is_the_one_made_whole(kind: str, encoding: str) -> None:
    for source, value in product(TEMPLATES, VALUES):
        template = rendering.template(source, escaped=kind == "html", strict=False)
        part = Part(kind, template, source, encoding)
        data = {"name": value}
        sent, signed = part.make(data)
        assert sent == mime.body(rendering.render(template, data), encoding), (source, value)
        assert signed == dkim.relaxed_lines(sent), (source, value)
        assert stuffed(sent) == sent + END, (source, value)


def test_only_text_and_variables_are_filled_in_without_jinja2() -> None:
    plain = [source for source in TEMPLATES if rendering.plain(source, escaped=True)]
    assert plain == TEMPLATES[:12]


def test_lines_that_are_the_same_for_everybody_are_told_from_the_others() -> None:
    plain = rendering.plain("One\nTwo\nDear {{ name }},\nfour\n", escaped=False)
    assert plain
    assert [(stretch.text, stretch.names) for stretch in plain.stretches] == [("One\nTwo\n", ()), ("Dear %s,\n", ("name",)), ("four\n", ())]


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64"])
def test_a_part_has_an_end(encoding: str) -> None:
    source = "{{ name }}\nand\n{{ name }}\n"
    part = Part("plain", rendering.template(source, escaped=False, strict=False), source, encoding)
    half = rendering.LARGEST // 2
    assert part.make({"name": "x" * (half - 10)})
    with pytest.raises(TooMuch):
        part.make({"name": "x" * half})
