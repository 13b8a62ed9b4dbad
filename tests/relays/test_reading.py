from __future__ import annotations

from base64 import b64encode
from email.message import EmailMessage

from mailhub.relays.reading import Attachment, Mail


def test_a_mail_is_taken_apart() -> None:
    made = EmailMessage()
    made["Subject"], made["From"], made["To"] = "ご注文の確認", "緑茶堂 <shop@example.com>", "taro@example.net"
    made["X-Campaign"] = "spring"
    made.set_content("茶です。")
    made.add_alternative('<p>茶です。</p><img src="cid:leaf@tea"><img src="cid:none">', subtype="html")
    made.get_payload(1).add_related(b"\x89PNG", "image", "png", cid="<leaf@tea>")
    made.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="請求書.pdf")
    mail = Mail(made.as_bytes())
    assert ("Subject", "ご注文の確認") in mail.first and ("From", "緑茶堂 <shop@example.com>") in mail.first
    assert ("X-Campaign", "spring") in mail.fields and ("X-Campaign", "spring") not in mail.first
    assert mail.text.strip() == "茶です。"
    assert f'src="data:image/png;base64,{b64encode(bytes([0x89, *b"PNG"])).decode()}"' in mail.html
    assert "cid:none" in mail.html
    assert Attachment("請求書.pdf", "application/pdf", 4) in mail.attachments


def test_an_attached_text_is_not_the_mail() -> None:
    made = EmailMessage()
    made.add_attachment("<p>attached</p>", subtype="html", filename="a.html")
    made.add_attachment("attached", filename="a.txt")
    mail = Mail(made.as_bytes())
    assert (mail.text, mail.html) == ("", "")
    assert [attachment.name for attachment in mail.attachments] == ["a.html", "a.txt"]


def test_whatever_it_is_something_is_shown() -> None:
    broken = b"Subject: =?x-nobody?b?AAA?=\r\nFrom: <<<\xff>\r\nContent-Type: text/plain; charset=x-nobody\r\n\r\n\xe8\x8c\xb6\r\n"
    mail = Mail(broken)
    assert "茶" in mail.text
    assert len(mail.fields) == 3
    # Everything can be stored and sent as UTF-8.
    str(mail.fields).encode()
    assert Mail(b"").fields == []
    assert Mail(b"Content-Type: multipart/mixed\r\n\r\nno part").text == ""
