"""Templates are data: nothing they say holds a worker up, fills its memory or reaches what is not the mail's."""

from __future__ import annotations

import time

import jinja2
import pytest

from mailhub.delivery import rendering
from mailhub.delivery.rendering import TooMuch


def render(source: str, *, escaped: bool = False, strict: bool = False, **data: object) -> str:
    return rendering.render(rendering.template(source, escaped=escaped, strict=strict), data)


def test_the_language_has_what_mails_need() -> None:
    order = {"items": [{"name": "茶", "price": 1200, "count": 2}, {"name": "菓子", "price": 800.5, "count": 1}], "total": 3200.5}
    source = (
        "{% for item in order.items if item.count %}{{ loop.index }}/{{ loop.length }} {{ item.name }} {{ (item.price * item.count)|number }}"
        "{% if not loop.last %}, {% endif %}{% else %}nothing{% endfor %} | {{ order['total']|number(2) }} | {{ order.items|sum('price') }}"
        " | {{ order.items|map(attribute='name')|join('、') }} | {% set x = 'a' ~ 1 ~ 'b' %}{{ x|upper }} | {{ '-' * 3 }} | {{ gone|d('none') }}"
        " | {{ order|items|list|length }} | {{ 'a-b'|replace('-', '+') }} | {{ 2.456|round(1) }} | {{ order.items[-1].name }}"
    )
    assert render(source, order=order) == (
        "1/2 茶 2,400, 2/2 菓子 800.5 | 3,200.50 | 2000.5 | 茶、菓子 | A1B | --- | none | 2 | a+b | 2.5 | 菓子"
    )


@pytest.mark.parametrize(
    "value",
    ["{{ null }}{{ none }}", "{{ gone|number }}", "{{ null|number(2) }}", "{{ gone|round }}", "{{ empty|number }}", "{{ gone|upper }}"],
)
def test_what_is_empty_stays_empty(value: str) -> None:
    assert render(f"[{value}]", null=None, empty="") == "[]"
    if "gone" in value:
        with pytest.raises(jinja2.UndefinedError, match="gone"):
            render(value, strict=True)


def test_text_that_templates_put_together_is_escaped_once() -> None:
    assert render("{{ a ~ '<' }} {{ [a, '<']|join('&') }} {{ a|e ~ a }}", escaped=True, a="&") == "&amp;&lt; &amp;&amp;&lt; &amp;&amp;"


@pytest.mark.parametrize(
    "source",
    [
        "{% macro m() %}{% endmacro %}",
        "{% set x %}long{% endset %}",
        "{% filter upper %}x{% endfilter %}",
        "{% call m() %}{% endcall %}",
        "{% include 'settings.py' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{% block b %}{% endblock %}",
        "{% with a = 1 %}{% endwith %}",
        "{% for x in [1] recursive %}{{ loop([2]) }}{% endfor %}",
        "{{ ''.__class__.__mro__ }}{{ ''.format(1) }}",
        "{{ 'x'.join([1]) }}",
        "{{ namespace(a=1) }}",
        "{{ lipsum() }}",
        "{{ 2 ** 999999999 }}",
        "{{ 'x'|attr('__class__') }}",
        "{{ 'x'|center(999999999) }}",
        "{{ '%99999999d'|format(1) }}",
        "{{ x" + " ~ x" * 30_000 + " }}",
        "{% do x %}",
        "{{ self._TemplateReference__context }}",
    ],
)
def test_what_a_mail_does_not_need_is_a_syntax_error(source: str) -> None:
    with pytest.raises(jinja2.TemplateSyntaxError):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ data.__class__.__init__.__globals__ }}",
        "{{ data['__init__'] }}",
        "{{ [].append }}",
        "{{ range.__init__ }}{{ range.start }}",
        "{% for x in [1] %}{{ loop.__class__ }}{{ loop._iterator }}{{ loop.__init__ }}{% endfor %}",
        "{{ [{}]|map(attribute='__class__')|first }}",
        "{{ settings.SECRET_KEY }}{{ request }}{{ environ }}{{ cycler }}{{ config }}",
    ],
)
def test_templates_reach_data_and_nothing_else(source: str) -> None:
    """listmonk CVE-2025-49136: a template function gave campaign authors the environment's secrets."""
    assert render(source, data={}) == ""


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in range(1000) %}{% for b in range(1000) %}{% if range(1000)|sort|list|length == 3 %}x{% endif %}{% endfor %}{% endfor %}",
        "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}{{ 'x' * 1000 }}{% endfor %}{% endfor %}{% endfor %}",
        "{{ range(10000000000) }}",
        "{{ 'x' * 999999999 }}",
        "{% set a = 'xxxxxxxxxx' %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}",
        "{% set a = 'xxxxxxxxxx' %}" + "{% set a = a + a %}" * 40 + "{{ a }}",
        "{% set a = 'xxxxxxxxxx' %}" + "{% set a = a|replace('x', a) %}" * 40 + "{{ a }}",
        "{% set a = range(1000)|join('xxxxxxxxxx') %}" + "{% set a = range(1000)|join(a) %}" * 40,
        "{% set a = 999999999 %}" + "{% set a = a * a %}" * 60 + "{{ a }}",
        "{% for a in range(1000) %}{{ 'x' * 9999 }}{% endfor %}",
    ],
)
def test_a_template_ends_in_time_and_within_bounds(source: str) -> None:
    begun = time.process_time()
    with pytest.raises(TooMuch):
        render(source)
    assert time.process_time() - begun < 10 * rendering.LONGEST


@pytest.mark.parametrize(
    "source", ["{{ [1] * 999999999 }}", "{{ '%999999999d' % 1 }}", "{{ 1 + 'a' }}", "{{ 3.14|round(-999999999) + [] }}"]
)
def test_operators_are_for_numbers_and_words(source: str) -> None:
    with pytest.raises(TypeError):
        render(source)


def test_deep_nesting_is_an_error_and_not_a_crash() -> None:
    for source in ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "{% for a in b %}" * 50 + "{% endfor %}" * 50, "{{ " + "-" * 5000 + "1 }}"):
        (problem,) = rendering.check(source, "text", None)
        assert problem.line


def test_strict_templates_name_what_is_missing() -> None:
    with pytest.raises(jinja2.UndefinedError, match="no value for “order”"):
        render("{{ order.number }}", strict=True)
    with pytest.raises(jinja2.UndefinedError, match="no value for “number”"):
        render("{{ order.number }}", strict=True, order={})


def test_data_never_becomes_template() -> None:
    assert render("{{ name }}", name="{{ 7 * 7 }}{% for %}") == "{{ 7 * 7 }}{% for %}"


def test_names_are_those_wanted_from_outside_with_their_lines() -> None:
    source = "{{ name }}\n{% for item in items %}{{ item.price }}{{ loop.index }}{{ range(3) }}\n{{ shop ~ name }}{% endfor %}{% set z = 1 %}{{ z }}"
    assert rendering.names(source) == {"name": 1, "items": 2, "shop": 3}
