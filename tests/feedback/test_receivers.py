"""DMARC and TLS reports, as receivers write them."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
import zipfile
import zlib
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from mailhub.feedback import incoming
from mailhub.feedback.models import IncomingMail
from mailhub.feedback.receivers import dmarc, intake, sums, tls, unpack
from mailhub.feedback.receivers.models import HostName, Report, Source
from mailhub.lib import dns
from mailhub.relays.models import DedicatedIP, IPPool
from mailhub.senders.models import Domain

pytestmark = pytest.mark.django_db
URL = "admin:receivers_report_changelist"


@pytest.fixture(autouse=True)
def domain() -> Domain:
    return Domain.objects.create(name="tea.example")


def record(ip: str, count: int | str, *, dkim: str = "pass", spf: str = "pass", disposition: str = "none", signer: str = "") -> str:
    return f"""
  <record>
    <row><source_ip>{ip}</source_ip><count>{count}</count>
      <policy_evaluated><disposition>{disposition}</disposition><dkim>{dkim}</dkim><spf>{spf}</spf></policy_evaluated></row>
    <identifiers><header_from>tea.example</header_from></identifiers>
    <auth_results>
      <dkim><domain>other.example</domain><result>fail</result></dkim>
      <dkim><domain>{signer or "tea.example"}</domain><selector>s1</selector><result>{dkim}</result></dkim>
      <spf><domain>bounce.tea.example</domain><result>{spf}</result></spf>
    </auth_results>
  </record>"""


def report(*records: str, number: str = "r-1", of: str = "tea.example", head: str = "", back: int = 1) -> bytes:
    begin = int((timezone.now() - timedelta(days=back)).timestamp())
    return f"""<?xml version="1.0" encoding="UTF-8"?>{head}
<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0">
  <version>1.0</version>
  <report_metadata><org_name>receiver.example</org_name><email>noreply@receiver.example</email><report_id>{number}</report_id>
    <date_range><begin>{begin}</begin><end>{begin + 3600}</end></date_range></report_metadata>
  <policy_published><domain>{of}</domain><p>quarantine</p></policy_published>{"".join(records)}
</feedback>""".encode()


GOOD = record("192.0.2.1", 90)
BAD = record("203.0.113.9", 10, dkim="fail", spf="fail", disposition="reject")


def zipped(*files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, file in enumerate(files):
            archive.writestr(f"receiver.example!{number}.xml", file)
    return buffer.getvalue()


def tls_report(number: str = "t-1", **policy: Any) -> bytes:
    start = timezone.now() - timedelta(days=1)
    return json.dumps(
        {
            "organization-name": "Receiver",
            "date-range": {"start-datetime": start.isoformat(), "end-datetime": timezone.now().isoformat()},
            "contact-info": "tls@receiver.example",
            "report-id": number,
            "policies": [
                {
                    "policy": {"policy-type": "sts", "policy-domain": "tea.example", "mx-host": ["mx.tea.example"]},
                    "summary": {"total-successful-session-count": 70, "total-failure-session-count": 3},
                    "failure-details": [
                        {"result-type": "certificate-expired", "receiving-mx-hostname": "mx.tea.example", "failed-session-count": 3}
                    ],
                    **policy,
                }
            ],
        }
    ).encode()


def mailed(data: bytes, maintype: str, subtype: str, name: str, subject: str = "") -> bytes:
    mail = EmailMessage()
    mail["From"], mail["To"] = "noreply-dmarc@receiver.example", "dmarc@tea.example"
    mail["Subject"] = subject or "Report Domain: tea.example Submitter: receiver.example Report-ID: r-1"
    mail.set_content("See the attached report.")
    mail.add_attachment(data, maintype=maintype, subtype=subtype, filename=name)
    return mail.as_bytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zipped], ids=["plain", "gzip", "zip"])
def test_a_dmarc_report_is_read_and_counts_once(pack: Any) -> None:
    taken = intake.take(pack(report(GOOD, BAD, BAD)))
    assert (taken.new, taken.known, taken.problems) == (1, 0, [])
    # Packed otherwise, and written a second time with another number of bytes: the same report.
    taken = intake.take(gzip.compress(report(GOOD, BAD)))
    assert (taken.new, taken.known) == (0, 1)
    row = Report.objects.get()
    assert (row.organisation, row.domain, row.policy, row.good, row.bad) == ("receiver.example", "tea.example", "quarantine", 90, 20)
    bad = Source.objects.get(source_ip="203.0.113.9")
    assert (bad.count, bad.disposition, bad.dkim, bad.spf, bad.spf_domain) == (20, "reject", False, False, "bounce.tea.example")
    assert Source.objects.get(source_ip="192.0.2.1").dkim_domain == "tea.example"


def test_all_files_of_an_archive_are_read_and_a_broken_one_stops_no_other() -> None:
    taken = intake.take(zipped(report(GOOD), b"<feedback><report_meta", report(GOOD, number="r-2")))
    assert (taken.new, len(taken.problems)) == (2, 1)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (report(GOOD, head='<!DOCTYPE feedback [<!ENTITY a "b">]>'), "document type"),
        (report(GOOD, head='<!DOCTYPE feedback SYSTEM "http://127.0.0.1/x.dtd">'), "document type"),
        (report("<a>" * 30 + "</a>" * 30), "nested"),
        (report(GOOD, of="other.example"), "no domain of yours"),
        (report(GOOD, number=""), "with which number"),
        (b"<html></html>", "It is no DMARC report"),
        (b"plain words", "no XML"),
        (b"", "no XML"),
        (b"{}", "It is no TLS report"),
        (b"[" * 100_000, "no XML"),
        (b'{"a":' * 100_000, "no JSON"),
        (tls_report(policy={"policy-domain": "other.example"}), "no domain of yours"),
        (b"\x1f\x8b\x08broken", "The archive is broken"),
        (gzip.compress(report(GOOD))[:-20], "too early"),
        (b"PK\x03\x04broken", "The archive is broken"),
        (b"PK\x05\x06" + b"\0" * 18, "no XML"),
        (gzip.compress(b" " * 40_000_000), "times as large"),
        (zipped(b" " * 40_000_000), "times as large"),
    ],
)
def test_what_is_no_report_of_ours_or_a_bomb_is_refused_with_the_reason(data: bytes, why: str) -> None:
    taken = intake.take(data)
    assert taken.read == 0
    assert why in taken.problems[0]
    assert not Report.objects.exists()


def test_what_one_line_says_wrongly_does_not_spoil_the_others() -> None:
    intake.take(report(GOOD, record("no address", 5), record("192.0.2.7", "many"), record("192.0.2.8", -3), record("2001:DB8::1", 1)))
    assert set(Source.objects.values_list("source_ip", "count")) == {("192.0.2.1", 90), ("2001:db8::1", 1)}


def test_a_large_report_is_read_in_little_memory() -> None:
    piece = record("192.0.2.1", 1).encode()

    def pieces() -> Any:
        head, _end, tail = report("MARK").partition(b"MARK")
        yield head
        for _number in range(20_000):
            yield piece
        yield tail

    tracemalloc.start()
    found = dmarc.read(pieces())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.rows.total() == 20_000
    assert most < 2_000_000 < 20_000 * len(piece)


def test_gzip_in_several_members_is_read_to_its_end() -> None:
    data = report(GOOD)
    assert b"".join(unpack.gunzip(gzip.compress(data[:50]) + gzip.compress(data[50:]))) == data
    assert zlib.decompress(gzip.compress(data), zlib.MAX_WBITS | 16) == data


def test_a_tls_report_is_read_by_domain() -> None:
    taken = intake.take(gzip.compress(tls_report()))
    assert intake.take(tls_report()).known == taken.new == 1
    row = Report.objects.get(kind="tls")
    assert (row.good, row.bad, row.policy) == (70, 3, "sts")
    assert list(row.failures.values_list("result", "mx", "count")) == [("certificate-expired", "mx.tea.example", 3)]


@pytest.mark.parametrize("value", [None, 5, "x", [], {"a": 1}, True, -1, "9" * 30])
def test_no_value_of_a_tls_report_makes_reading_fail(value: Any) -> None:
    for changed in ({"summary": value}, {"policy": value}, {"failure-details": value}, {"failure-details": [value]}):
        data = tls_report(number=str(changed)[:200], **changed)
        assert tls.read([data]).organisation == "Receiver"
        intake.take(data)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (mailed(gzip.compress(report(GOOD)), "application", "gzip", "r.xml.gz"), "dmarc"),
        (mailed(zipped(report(GOOD)), "application", "octet-stream", "r.zip", "no words that tell"), "dmarc"),
        (mailed(gzip.compress(tls_report()), "application", "tlsrpt+gzip", "r.json.gz", "Report"), "tls"),
    ],
)
def test_reports_are_found_among_incoming_mail(raw: bytes, kind: str) -> None:
    mail = incoming.take(raw, IncomingMail.Source.SMTP)
    assert (mail.status, mail.kind) == ("applied", "receiver_report")
    assert Report.objects.get().kind == kind


def test_a_report_that_cannot_be_read_is_set_aside_and_other_attachments_change_nothing() -> None:
    mail = incoming.take(mailed(b"broken", "application", "gzip", "r.xml.gz"), IncomingMail.Source.SMTP)
    assert (mail.status, mail.reports) == ("stuck", [{"diagnostic": "It is no XML: syntax error: line 1, column 0"}])
    mail = incoming.take(mailed(b"PK\x03\x04", "application", "zip", "photos.zip", "Photos"), IncomingMail.Source.SMTP)
    assert mail.status == "noted"


def test_who_sends_in_our_name_is_summed_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    DedicatedIP.objects.create(pool=IPPool.objects.create(name="Own"), address="192.0.2.1", ehlo_name="out.tea.example")
    lines = [GOOD, record("198.51.100.5", 7, dkim="fail", spf="fail"), BAD, record("203.0.113.10", 4, spf="fail", signer="amazonses.com")]
    intake.take(report(*lines))
    intake.take(report(BAD, number="r-2", back=2))
    asked: list[str] = []

    async def names(address: str) -> dns.Answer[str]:
        asked.append(address)
        if address == "203.0.113.9":
            raise dns.Unanswered
        return dns.Answer(("a1.sendgrid.net",) if address == "198.51.100.5" else (), False)

    monkeypatch.setattr(dns, "names", names)
    assert sums.look_up() == 4
    assert asked[0] == "203.0.113.9"
    assert HostName.objects.count() == 3
    # Who could not be looked up is looked up again, and nobody else.
    assert sums.look_up() == 1
    now = timezone.now()
    found = sums.senders(now - timedelta(days=7), now)
    assert [(one.address, one.total, one.failed, one.rejected) for one in found[:2]] == [
        ("203.0.113.9", 20, 20, 20),
        ("198.51.100.5", 7, 7, 0),
    ]
    places = sums.places(found)
    assert {address: place.whose for address, place in places.items()} == {
        "203.0.113.9": "strange", "198.51.100.5": "known", "192.0.2.1": "own", "203.0.113.10": "known",
    }  # fmt: skip
    assert places["198.51.100.5"].name == "Twilio SendGrid"


def test_a_domain_below_is_served_by_the_reports_of_the_one_above() -> None:
    intake.take(report(GOOD))
    now = timezone.now()
    since = now - timedelta(days=7)
    assert len(sums.senders(since, now, "news.tea.example")) == 1
    assert len(sums.senders(since, now, "coffee.example")) == 0
    assert len(sums.senders(since, now, "a.example")) == 0


def test_the_page_shows_it_all_and_takes_files(admin_client: Client, domain: Domain) -> None:
    page = admin_client.get(reverse(URL)).content.decode()
    assert "No report has come yet" in page
    files = [
        SimpleUploadedFile("a.zip", zipped(report(GOOD, BAD))),
        SimpleUploadedFile("b.json", tls_report()),
        SimpleUploadedFile("c.xml", b"x"),
    ]
    page = admin_client.post(reverse("admin:receivers_report_upload"), {"files": files}, follow=True).content.decode()
    assert "2 reports were read." in page
    assert "Not read: c.xml: It is no XML" in page
    for words in ("203.0.113.9", "certificate-expired", "renew it", "Nobody you told MailHub of"):
        assert words in page
    page = admin_client.get(reverse(URL), {"domain": domain.name, "span": "week"}).content.decode()
    assert "203.0.113.9" in page
    assert (
        f"{reverse(URL)}?domain=tea.example" in admin_client.get(reverse("admin:senders_domain_change", args=[domain.pk])).content.decode()
    )


def test_reports_are_forgotten_in_time(settings: Any) -> None:
    intake.take(report(GOOD, back=intake.KEPT_DAYS + 2))
    intake.take(report(GOOD, number="r-2"))
    assert intake.forget() == 1
    assert Source.objects.get().report.report_id == "r-2"


def test_a_range_of_days_is_read_by_its_index(settings: Any) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite plans otherwise")
    now = timezone.now()
    Report.objects.bulk_create(
        Report(kind="dmarc", organisation="x", report_id=str(n), domain="tea.example", begins_at=now - timedelta(hours=n), ends_at=now)
        for n in range(3000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE receivers_report")
    plan = sums.reports("dmarc", now - timedelta(days=7), now).explain()
    assert "receivers_report_days" in plan
