from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.relays import imports, php
from mailhub.relays.imports import Account, Unreadable

SECRET = "open-sesame-47"
OPEN_SECRET = "b3Blbi1zZXNhbWUtNDc="  # the same in Base64
HOST = "smtp.example.com"


def found(text: str) -> list[Account]:
    return imports.read(text).accounts


def only(text: str) -> Account:
    (account,) = found(text)
    return account


def serialized(value: Any) -> str:
    """As PHP's serialize() writes it."""
    if value is None:
        return "N;"
    if isinstance(value, bool):
        return f"b:{int(value)};"
    if isinstance(value, int):
        return f"i:{value};"
    if isinstance(value, str):
        return f's:{len(value.encode())}:"{value}";'
    return f"a:{len(value)}:{{{''.join(serialized(each) for pair in value.items() for each in pair)}}}"


WP_MAIL_SMTP = {
    "mail": {"from_email": "shop@example.com", "from_name": "店", "mailer": "smtp", "return_path": True},
    "smtp": {"host": HOST, "port": 587, "encryption": "tls", "autotls": True, "auth": True, "user": "shop", "pass": SECRET},
    "sendgrid": {"api_key": ""},
}
FLUENT = {
    "connections": {
        "a1": {
            "title": "Main",
            "provider_settings": {
                "provider": "smtp", "sender_email": "shop@example.com", "host": HOST, "port": "587", "auth": "yes", "username": "shop",
                "password": SECRET, "encryption": "tls",
            },
        }
    },
    "misc": {"default_connection": "a1"},
}  # fmt: skip
POST_SMTP = {
    "transport_type": "smtp", "hostname": HOST, "port": 587, "enc_type": "tls", "auth_type": "login", "sender_email": "shop@example.com",
    "basic_auth_username": "shop", "basic_auth_password": OPEN_SECRET,
}  # fmt: skip
EASY_WP_SMTP = {
    "from_email_field": "shop@example.com",
    "smtp_settings": {
        "host": HOST, "type_encryption": "tls", "port": 587, "autentication": "yes", "username": "shop", "password": OPEN_SECRET,
    },
}  # fmt: skip
SMTP_MAILER = {
    "smtp_host": HOST, "smtp_auth": "true", "smtp_username": "shop", "smtp_password": OPEN_SECRET, "type_of_encryption": "tls",
    "smtp_port": "587", "from_email": "shop@example.com",
}  # fmt: skip
WP_SMTP = {
    "from": "shop@example.com",
    "host": HOST,
    "smtpsecure": "tls",
    "port": "587",
    "smtpauth": "yes",
    "username": "shop",
    "password": SECRET,
}
LISTMONK = {
    "data": {
        "smtp": [
            {
                "name": "main", "enabled": True, "host": HOST, "port": 587, "auth_protocol": "login", "username": "shop", "password": SECRET,
                "tls_type": "STARTTLS", "max_conns": 8, "hello_hostname": "",
            }
        ]
    }
}  # fmt: skip

# All of them are the same account at smtp.example.com, port 587, STARTTLS.
SAME = {
    "wp_config": f"""<?php
define( 'WPMS_ON', true );
// define( 'WPMS_SMTP_HOST', 'old.example.com' );
define( 'WPMS_MAIL_FROM', 'shop@example.com' );
define( 'WPMS_MAILER', 'smtp' );
define('WPMS_SMTP_HOST', '{HOST}');
define( "WPMS_SMTP_PORT", 587 );
define( 'WPMS_SSL', 'tls' );
define( 'WPMS_SMTP_AUTH', true );
define( 'WPMS_SMTP_USER', 'shop' );
define( 'WPMS_SMTP_PASS', '{SECRET}' );
""",
    "wp_mail_smtp": json.dumps(WP_MAIL_SMTP),
    "fluent_smtp": json.dumps(FLUENT),
    "post_smtp": json.dumps(POST_SMTP),
    "easy_wp_smtp": json.dumps(EASY_WP_SMTP),
    "smtp_mailer": json.dumps(SMTP_MAILER),
    "wp_smtp": json.dumps(WP_SMTP),
    "listmonk": json.dumps(LISTMONK),
    "json": json.dumps({"host": HOST, "port": 587, "secure": False, "auth": {"user": "shop", "pass": SECRET}}),
    "django": f"""
from pathlib import Path
EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
EMAIL_HOST = "{HOST}"
EMAIL_PORT = 587
EMAIL_HOST_USER = "shop"
EMAIL_HOST_PASSWORD = "{SECRET}"
EMAIL_USE_TLS = True
DEFAULT_FROM_EMAIL = "Shop <shop@example.com>"
""",
    "postfix": f"relayhost = [{HOST}]:587\nsmtp_sasl_auth_enable = yes\n\n# sasl_passwd\n[{HOST}]:587 shop:{SECRET}\n",
    "msmtp": f"defaults\ntls on\nauth on\n\naccount shop\nhost {HOST}\nport 587\nuser shop\npassword {SECRET}\n\naccount default : shop\n",
    "ssmtp": f"root=postmaster\nmailhub={HOST}:587\nUseSTARTTLS=YES\nAuthUser=shop\nAuthPass={SECRET}\n",
    "nullmailer": f"{HOST} smtp --port=587 --starttls --user=shop --pass={SECRET}\n",
    "csv": f"名前,サーバー,ポート,暗号化,ユーザー名,パスワード\n店,{HOST},587,STARTTLS,shop,{SECRET}\n",
    "toml": f'[app]\naddress = "0.0.0.0:9000"\n[smtp.my0]\nhost = "{HOST}"\nport = 587\nauth_protocol = "plain"\nusername = "shop"\n'
    f'password = "{SECRET}"\ntls_type = "STARTTLS"\n',
}
ENVIRONMENTS = {
    "Laravel": f'MAIL_MAILER=smtp\nMAIL_HOST={HOST}\nMAIL_PORT=587\nMAIL_USERNAME=shop\nMAIL_PASSWORD="{SECRET}"\nMAIL_ENCRYPTION=tls\n'
    'MAIL_FROM_ADDRESS="shop@example.com"\n',
    "Symfony": f"APP_ENV=prod\nMAILER_DSN=smtp://shop:{SECRET}@{HOST}:587\n",
    "django-environ": f"EMAIL_URL=smtp+tls://shop:{SECRET}@{HOST}:587\n",
    "Django": f"EMAIL_HOST={HOST}\nEMAIL_PORT=587\nEMAIL_HOST_USER=shop\nEMAIL_HOST_PASSWORD={SECRET}\nEMAIL_USE_TLS=True\n",
    "Rails": f"export SMTP_ADDRESS={HOST}\nexport SMTP_PORT=587\nexport SMTP_USERNAME=shop\nexport SMTP_PASSWORD='{SECRET}'\nSMTP_DOMAIN=localhost\n",
    "Mastodon": f"SMTP_SERVER={HOST}\nSMTP_PORT=587\nSMTP_LOGIN=shop\nSMTP_PASSWORD={SECRET}\nSMTP_FROM_ADDRESS=shop@example.com\n",
    "Keila": f"MAILER_SMTP_HOST={HOST}\nMAILER_SMTP_PORT=587\nMAILER_SMTP_USER=shop\nMAILER_SMTP_PASSWORD={SECRET}\n"
    "MAILER_ENABLE_STARTTLS=true\nMAILER_SMTP_FROM_EMAIL=shop@example.com\n",
    "an address alone": f"smtp://shop:{SECRET}@{HOST}:587",
}


@pytest.mark.parametrize(("name", "text"), [*SAME.items(), *(("env", text) for text in ENVIRONMENTS.values())])
def test_the_same_account_is_found_in_whatever_it_is_kept(name: str, text: str) -> None:
    reading = imports.read(text)
    assert (reading.format, reading.problems) == ("listmonk" if name == "toml" else name, [])
    (account,) = reading.accounts
    fields = dict(account.fields)
    fields.pop("max_connections", None)
    assert account.kind == "smtp"
    assert fields == {"host": HOST, "port": "587", "security": "starttls", "username": "shop", "password": SECRET}
    assert account.senders in [(), ("shop@example.com",)]


@pytest.mark.parametrize("value", [WP_MAIL_SMTP, FLUENT, POST_SMTP, EASY_WP_SMTP, SMTP_MAILER, WP_SMTP])
def test_an_option_reads_alike_as_json_and_as_php_keeps_it(value: Any) -> None:
    assert only(serialized(value)) == only(json.dumps(value))
    several = json.dumps([{"option_name": "blogname", "option_value": "店"}, {"option_name": "x", "option_value": serialized(value)}])
    assert only(several) == only(json.dumps(value))


@pytest.mark.parametrize(
    ("text", "kind", "fields"),
    [
        ("define('WPMS_MAILER','sendgrid');\ndefine('WPMS_SENDGRID_API_KEY','SG.x');", "sendgrid", {"api_key": "SG.x"}),
        (
            "define('WPMS_MAILER','mailgun');\ndefine('WPMS_MAILGUN_API_KEY','k');\ndefine('WPMS_MAILGUN_DOMAIN','mg.example.com');"
            "\ndefine('WPMS_MAILGUN_REGION','EU');",
            "mailgun",
            {"api_key": "k", "sender_domain": "mg.example.com", "api_url": "https://api.eu.mailgun.net/v3"},
        ),
        (
            json.dumps({"mail": {"mailer": "amazonses"}, "amazonses": {"client_id": "AK", "client_secret": "s", "region": "eu-west-1"}}),
            "amazon_ses",
            {"access_key_id": "AK", "secret_access_key": "s", "region": "eu-west-1"},
        ),
        ('ANYMAIL = {\n  "POSTMARK_SERVER_TOKEN": "t",\n}', "postmark", {"server_token": "t"}),
        ('MAILGUN_API_KEY = "k"', "mailgun", {"api_key": "k", "api_url": "https://api.mailgun.net/v3"}),
        ("POSTMARK_API_TOKEN=t\n", "postmark", {"server_token": "t"}),
        ("MAILER_DSN=mailjet+api://a:s@default", "mailjet", {"api_key": "a", "secret_key": "s"}),
        (
            "MAIL_MAILER=ses\nAWS_ACCESS_KEY_ID=AK\nAWS_SECRET_ACCESS_KEY=s\nAWS_DEFAULT_REGION=ap-northeast-1",
            "amazon_ses",
            {"access_key_id": "AK", "secret_access_key": "s", "region": "ap-northeast-1"},
        ),
        (
            "MAILGUN_SECRET=k\nMAILGUN_ENDPOINT=api.eu.mailgun.net\nMAIL_FROM_NAME=x",
            "mailgun",
            {"api_url": "https://api.eu.mailgun.net/v3"},
        ),
        (json.dumps({**POST_SMTP, "hostname": "", "mandrill_api_key": OPEN_SECRET}), "mandrill", {"api_key": SECRET}),
    ],
)
def test_a_key_of_a_service_s_interface_is_an_account_there(text: str, kind: str, fields: dict[str, str]) -> None:
    account = only(text)
    assert account.kind == kind
    assert fields.items() <= account.fields.items()


def test_every_service_that_mailhub_knows_by_its_api_is_found_by_anymail_s_own_names() -> None:
    from mailhub.relays import providers
    from mailhub.relays.providers.esp import ESP

    kinds = {kind for kind in providers.REGISTRY if issubclass(providers.load(kind), ESP)}
    assert kinds == imports.SERVICES.keys()
    for kind in kinds:
        lines = [f"{kind.upper()}_{name.upper()}=x1" for name in providers.load(kind).options_form.base_fields]
        assert only("\n".join(lines)).kind == kind


def test_keys_of_amazon_that_are_for_something_else_are_left_alone() -> None:
    assert found("MAIL_MAILER=log\nAWS_ACCESS_KEY_ID=AK\nAWS_SECRET_ACCESS_KEY=s") == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("h", "", "ssl"), ("h", "465", "tls")),
        (("h", "465", "tls"), ("h", "465", "tls")),
        (("h", "", ""), ("h", "587", "starttls")),
        (("ssl://h", "", ""), ("h", "465", "tls")),
        (("h:2525", "", "STARTTLS"), ("h", "2525", "starttls")),
        (("[2001:db8::1]", 25, "none"), ("2001:db8::1", "25", "none")),
        (("localhost", 25, ""), ("localhost", "25", "none")),
        (("localhost", 1025, "smtp"), ("localhost", "1025", "none")),
    ],
)
def test_port_and_encryption_go_together(given: tuple[Any, ...], expected: tuple[str, ...]) -> None:
    fields = imports.smtp(*given).fields
    assert (fields["host"], fields["port"], fields["security"]) == expected


def test_a_table_has_limits_and_says_which_line_is_wrong() -> None:
    reading = imports.read("Host;Name;Per hour;1日の上限\nsmtp.example.com;Shop;500;5,000\n;Nothing;;\nmx.example.com;Two;many;\n")
    first, second = reading.accounts
    assert (first.name, first.limits) == ("Shop", ((500, "hour"), (5000, "day")))
    assert (second.name, second.limits) == ("Two", ())
    assert [problem.line for problem in reading.problems] == [3, 4]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"smtp": [\n{"host": "x",,', 2),
        (serialized({"mail": {"mailer": "smtp"}})[:-3], 1),
        ('EMAIL_HOST = "h"\nEMAIL_PORT = 25\nEMAIL_HOST_PASSWORD = "x\n', 3),
        ('EMAIL_HOST = "h"\nEMAIL_HOST_PASSWORD = env("PASSWORD")\n', 2),
        ("define('WPMS_SMTP_HOST', 'h');\ndefine('WPMS_SMTP_PASS', getenv('P'));", 2),
        ('host,port\nh,25\n"h,25', 3),
        ("MAIL_HOST=h\nMAIL_PASSWORD=${P}", 2),
        ("MAILER_DSN=smtp://shop:a/b@h:25", 1),
        ('[smtp.a]\nhost = "h"\nport = \n', 3),
        ("account a\nhost h\npasswordeval pass a", 3),
        ("h smtp --user=x\nh smtp --pass='x", 2),
    ],
)
def test_what_cannot_be_read_is_told_by_its_line(text: str, line: int) -> None:
    assert [problem.line for problem in imports.read(text).problems] == [line]


@pytest.mark.parametrize(
    "value",
    [
        {**FLUENT, "use_encrypt": "yes"},
        {"mail": {"mailer": "smtp"}, "smtp": {"host": HOST, "auth": True, "user": "shop", "pass": "A" * 80}},
        {"smtp": [{"host": HOST, "username": "shop", "password": "••••••"}]},
        {"smtp_settings": {"host": HOST, "encrypt_pass": True, "autentication": "yes", "username": "shop", "password": "x"}},
    ],
)
def test_a_password_that_is_locked_there_is_missing_and_says_so(value: Any) -> None:
    reading = imports.read(json.dumps(value))
    (account,) = reading.accounts
    assert (account.fields["username"], account.fields["password"], len(reading.problems)) == ("shop", "", 1)


def test_accounts_of_msmtp_inherit() -> None:
    first, second = found(
        "account a\nhost a.example.com\ntls on\nauth on\nuser u\npassword p\naccount b : a\nhost b.example.com\nfrom b@example.com"
    )
    assert (first.name, second.name, second.senders) == ("a", "b", ("b@example.com",))
    assert (second.fields["host"], second.fields["username"]) == ("b.example.com", "u")


def test_a_sender_of_postfix_has_an_account_of_its_own_at_the_relayhost() -> None:
    account, other = found(f"relayhost = [{HOST}]:submission\na@example.com u1:p:1\n[{HOST}]:submission u2:p2")
    assert (account.senders, account.fields["username"], account.fields["password"]) == (("a@example.com",), "u1", "p:1")
    assert (other.fields["host"], other.fields["port"], other.fields["username"]) == (HOST, "587", "u2")


def test_a_mailer_that_mailhub_has_no_kind_for_is_named() -> None:
    reading = imports.read("define('WPMS_MAILER', 'gmail');")
    assert reading.accounts == [] and "gmail" in reading.problems[0].words


@pytest.mark.parametrize(
    "text",
    [
        "EMAIL_HOST = " + "-" * 100_000 + "1",
        "EMAIL_HOST = " + "(" * 100_000,
        "[" * 100_000,
        '[{"a":' * 20_000,
        "[smtp]\na=" + "[" * 900,
        "[smtp]\n" + "a." * 100_000 + "a=1",
        "[smtp]\na=" + "1" * 9_000,
        "a:1:{i:0;" * 20_000,
        "host," * 50_000,
    ],
)
def test_what_is_nested_too_deep_is_read_to_no_end_and_no_harm(text: str) -> None:
    assert found(text) == []


def test_what_stands_twice_is_one_account_and_there_are_not_too_many() -> None:
    line = "smtp.example.com,587\n"
    assert len(found("host,port\n" + line * 3)) == 1
    reading = imports.read("host,port\n" + "".join(f"mx{n}.example.com,25\n" for n in range(imports.MOST_ACCOUNTS + 5)))
    assert len(reading.accounts) == imports.MOST_ACCOUNTS and len(reading.problems) == 1


@pytest.mark.parametrize(
    "text", ["", "Dear team,\nplease find attached", "[]", "{}", "DEBUG=1\nPATH=/usr/bin", "mydestination = localhost"]
)
def test_what_is_nothing_known_is_taken_for_nothing(text: str) -> None:
    assert found(text) == []


def test_every_way_of_reading_is_shown_and_reads_its_example() -> None:
    assert sorted(imports.SHOWN) == sorted(imports.FORMATS)
    for key, known in imports.FORMATS.items():
        example = known.example
        if key != "options":
            assert [account.fields["host"] for account in found(example) if account.kind == "smtp"][:1] == [HOST], key
            assert imports.read(example).problems == [], key


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp932"])
def test_a_file_is_read_in_whatever_it_is_written_in(encoding: str) -> None:
    assert only(imports.decode(SAME["csv"].encode(encoding))).name == "店"


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\0\0", b"\xff\xfea", b"abc\x82", b"x" * (imports.MOST_BYTES + 1)])
def test_what_is_no_text_or_too_much_is_refused(data: bytes) -> None:
    with pytest.raises(Unreadable):
        imports.decode(data)


def test_php_s_format_is_read_to_a_depth_and_without_objects() -> None:
    value: dict[str, Any] = {"ä": "日本", "n": None, "f": False, "i": -5}
    assert php.unserialize(serialized(value)) == value
    deep: Any = "x"
    for _level in range(php.DEEPEST + 2):
        deep = {"a": deep}
    for text in (serialized(deep), 'O:8:"stdClass":0:{}', 'a:1:{s:1:"a";O:8:"stdClass":0:{}}', 's:9:"short";', "a:1:{N;N;}"):
        with pytest.raises(php.Malformed):
            php.unserialize(text)


PIECES = [
    *SAME.values(), *ENVIRONMENTS.values(), serialized(WP_MAIL_SMTP), "\n", "{", "[", '"', "'", "a:99999:{", "=", ":", "relayhost = ", "\0",
    "define('WPMS_", "host,port\n", "smtp://", "mailgun+api://", "[smtp]\n", "EMAIL_HOST = ", "((((((", "\\ud800", "\u3000",
]  # fmt: skip


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=12), st.integers(0, 400)), max_size=6))
def test_no_text_ends_the_reading_and_no_secret_gets_out(parts: list[str | int]) -> None:
    """Pieces of what is known, cut anywhere (a number cuts what stands so far), and anything between them."""
    text = ""
    for part in parts:
        text = text[:part] if isinstance(part, int) else text + part
    reading = imports.read(text)
    told = repr(reading) + "".join(problem.words for problem in reading.problems)
    assert SECRET not in told and OPEN_SECRET not in told
    for account in reading.accounts:
        repr(account.fields).encode()
