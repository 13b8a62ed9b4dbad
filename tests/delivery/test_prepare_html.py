from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest

from mailhub.delivery import html

STYLE = "<style>td{padding:2px}</style>"


def test_rules_go_to_their_elements_and_media_queries_stay() -> None:
    made = html.inlined("<html><head><style>p{color:red}@media (max-width:600px){p{color:blue}}</style></head><body><p>A</p></body></html>")
    assert '<p style="color: red;">A</p>' in made
    assert "@media (max-width:600px)" in made
    assert "p{color:red}" not in made


def test_html_without_styles_stays_as_it_is() -> None:
    source = "<p>{{ a > b }}<table>{% for x in y %}<tr></tr>{% endfor %}</table>"
    assert html.inlined(source) == source


@pytest.mark.parametrize(
    "body",
    [
        "<table>{% for x in y %}<tr><td>{{ x }}</td></tr>{% endfor %}</table>",
        "<table><tbody>{% for x in y %}<tr><td>{{ x }}</td></tr>{% endfor %}</tbody></table>",
        "<table><tr>{% if a %}<td>1</td>{% else %}<td>2</td>{% endif %}</tr></table>",
        '<a href="{{ url }}?a={{ b|urlencode }}&amp;c={{ d[\'e\'] }}">{{ a < b }}</a>',
        '<p {% if a > b %}class="c" {% endif %}>x</p>',
        "<select>{% for o in os %}<option>{{ o }}</option>{% endfor %}</select>",
        "<textarea>{{ x }}</textarea>",
        "<!--[if mso]>{{ x }}<![endif]-->",
        "{# a <remark> #}",
    ],
)  # fmt: skip
def test_template_tags_stay_where_they_are(body: str) -> None:
    made = html.inlined(f"<html><head>{STYLE}<title>{{{{ title }}}}</title></head><body>{body}</body></html>")
    assert "<title>{{ title }}</title>" in made
    assert made.partition("<body>")[2].replace(' style="padding: 2px;"', "") == f"{body}</body></html>"


def test_placeholders_may_stand_in_rules() -> None:
    made = html.inlined("<style>p{color:{{ colour }};width:{{ w }}px}</style><p>A</p>")
    assert 'style="color: {{ colour }};width: {{ w }}px;"' in made


def test_no_style_sheet_is_fetched_from_anywhere(tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

    local = tmp_path / "a.css"
    local.write_text("p{color:red}")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.css"
        made = html.inlined(f'<link rel="stylesheet" href="{url}"><link rel="stylesheet" href="{local}">{STYLE}<p>A</p>')
        server.shutdown()
    assert asked == []
    assert "<p>A</p>" in made


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("<h1>Title</h1><p>One<br>two</p><p>Three</p>", "Title\n\nOne\ntwo\n\nThree\n"),
        ('<p>See <a href="https://a.example/x?a=1&amp;b=2">our page</a>.</p>', "See our page <https://a.example/x?a=1&b=2>.\n"),
        ('<a href="https://a.example/">https://a.example/</a>', "https://a.example/\n"),
        ('<a href="mailto:a@example.com">a@example.com</a> <a href="tel:+8131234">+8131234</a>', "a@example.com +8131234\n"),
        ('<a href="#top">Top</a>', "Top\n"),
        ('<a href="mailto:{{ a }}">{{ a }}</a> <a href="{{ b }}">{{ c }}</a>', "{{ a }} {{ c }} <{{ b }}>\n"),
        ('<a href="https://a.example/"><img src="x" alt="Shop"></a>', "Shop <https://a.example/>\n"),
        ("<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul><ol><li>x<li>y</ol>", "- a\n  - b\n- c\n\n1. x\n2. y\n"),
        ("<table><tr><th>Tea</th><td>  1,200 </td></tr><tr><td><div>A</div><div>B</div></td></tr></table>", "Tea  1,200\nA\nB\n"),
        ("<p>a</p><hr><p>b</p>", "a\n\n" + "-" * 40 + "\n\nb\n"),
        ("<pre>a\n  b</pre>", "a\n  b\n"),
        ('<div style="display:none">pre<p>header</div><p>A</p>', "A\n"),
        ("<head><title>T</title><style>p{}</style></head><script>1</script><p>A</p>", "A\n"),
        ("<p>日本語の\n   文章&nbsp;です &amp; &lt;b&gt;</p>", "日本語の 文章 です & <b>\n"),
        ("<b>a</b><i>b</i> <u>c</u>", "ab c\n"),
        ("", "\n"),
    ],
)
def test_html_reads_well_as_text(source: str, wanted: str) -> None:
    assert html.text(source) == wanted


def test_a_loop_over_rows_is_a_loop_over_lines() -> None:
    source = """<p>Dear {{ name }}</p>
    <table>
      {% for item in items %}
      <tr><td>{{ item.name }}</td><td>{{ item.price }}</td></tr>
      {% endfor %}
    </table>
    <p>{% if late %}Late{% else %}In time{% endif %}</p>"""
    assert html.text(source) == (
        "Dear {{ name }}\n\n{% for item in items %}{{ item.name }}  {{ item.price }}\n{% endfor %}\n"
        "{% if late %}Late{% else %}In time{% endif %}\n"
    )


def test_a_line_that_only_steers_leaves_nothing_behind() -> None:
    assert (
        html.tidy("a\n  {% if b %}  \nc\n{% endif %}\nd{% if e %}\nf{% endif %}\n")
        == "a\n{% if b %}c\n{% endif %}d{% if e %}\nf{% endif %}\n"
    )
