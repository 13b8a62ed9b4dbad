"""One short specimen of each of further mail systems, and of what they and people send that is no bounce; in our words."""

from __future__ import annotations

from tests.feedback.mails import BOB, FULL, NO_HOST, ORIGINAL, RETURNED, UNKNOWN, Harmless, Result, Sample, mail, parts, person, status

SUSPENDED: list[Result] = [(BOB, "soft", "suspended")]
MIXED = "multipart/mixed"


def notice(text: str) -> str:
    return f"Content-Type: text/plain; charset=utf-8\n\n{text.strip()}\n"


SPECIMENS = [
    Sample(
        "Smail",
        mail(
            """
|------------------------- Message log follows: -------------------------|
 no valid recipients were found for this message
|------------------------- Failed addresses follow: ---------------------|
 bob@recipient.example ... unknown host
|------------------------- Message text follows: ------------------------|
""",
            subject="mail failed, returning to sender",
        ),
        NO_HOST,
    ),
    Sample(
        "AOL names its own without a host",
        mail(
            """
Sorry ann@sender.example. Your mail to the following recipients could not be delivered because they are not accepting mail with attachments:
\tbob
\tcarol
""",
            sender="Mail Delivery Subsystem <MAILER-DAEMON@recipient.example>",
            subject="Mail Delivery Problem",
        ),
        [(BOB, "soft", "content"), ("carol@recipient.example", "soft", "content")],
    ),
    Sample(
        "a filter on the way wraps the bounce",
        parts(
            "Content-Type: text/plain\n\nScanned.\n",
            "Content-Type: message/rfc822\n\n"
            + parts(notice("Not delivered."), status(f"Final-Recipient: rfc822; {BOB}\nAction: failed\nStatus: 5.1.1\n"), RETURNED).replace(
                "=_edge", "=_inner"
            ),
            kind=MIXED,
        ),
        UNKNOWN,
    ),
    Sample(
        "Dovecot refuses by a receipt",
        parts(
            notice("Your message to <bob@recipient.example> was automatically rejected:\nQuota exceeded"),
            "Content-Type: message/disposition-notification\n\nReporting-UA: mx.recipient.example; Dovecot\n"
            "Final-Recipient: rfc822; bob@recipient.example\nDisposition: automatic-action/MDN-sent-automatically; deleted\n",
            RETURNED,
            kind="multipart/report; report-type=disposition-notification",
            sender="Mail Delivery Subsystem <postmaster@recipient.example>",
            subject="Automatically rejected mail",
            Auto_Submitted="auto-replied (rejected)",
        ),
        FULL,
    ),
    Sample(
        "Sieve refuses by a receipt (RFC 5429)",
        parts(
            notice(
                "The message was refused by the recipient's mail filtering program. The reason given was:\n\nI do not want mail from you."
            ),
            "Content-Type: message/disposition-notification\n\nFinal-Recipient: rfc822; bob@recipient.example\n"
            "Disposition: automatic-action/MDN-sent-automatically; deleted\n",
            RETURNED,
            kind="multipart/report; report-type=disposition-notification",
            sender="Bob <bob@recipient.example>",
            subject="Rejected: Our news",
        ),
        [(BOB, "soft", "rejected")],
    ),
    Sample(
        "Mail.ru, as an automatic answer",
        mail(
            """
Это письмо создано автоматически сервером Mail.Ru, отвечать на него не нужно.

К сожалению, Ваше письмо не может быть доставлено:

  Message was not accepted -- invalid mailbox.
 Local mailbox bob@recipient.example is unavailable: user not found
""",
            sender="Mail Delivery System <Mailer-Daemon@mx1.mail.ru>",
            subject="Ваше сообщение не доставлено. Mail failure.",
            Auto_Submitted="auto-replied",
            Content_Type="text/plain; charset=utf-8",
        ),
        UNKNOWN,
    ),
    Sample(
        "the returned mail is quoted",
        mail(
            'Delivery of email to this address\n\n"bob@recipient.example"\n\nhas failed due to a full mailbox.\n\n'
            "The first 50 lines of your original message follow:"
            + "".join(f"> {line}\n" for line in ORIGINAL.strip().splitlines()).replace("mailbox is full of spam", "spam"),
            subject="Mail Delivery Failure",
        ),
        FULL,
    ),
    Sample(
        "a scanner's footer under it",
        parts(
            notice(
                f"Delivery to the following recipients failed.\n\n       {BOB}\n\n\n____________\n"
                "**** This e-mail has been scanned for all viruses by a scanning service ****"
            ),
            status(f"Final-Recipient: rfc822;{BOB}\nAction: failed\nStatus: 5.1.1\n"),
            RETURNED,
        ),
        UNKNOWN,
    ),
    Sample(
        "parts of the returned mail in the text, and no type",
        mail(
            f"The following message, addressed to '{BOB}', failed because it has not been collected after 30 days\n\n"
            "---- START OF RETURNED MESSAGE ----\n"
            + ORIGINAL.strip().replace("\n\n", "\nContent-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/plain\n\n")
            + "\nWrite to help@sender.example\n--x--\n",
            subject="Mail delivery failure",
        ),
        [(BOB, "soft", "expired")],
    ),
    Sample(
        "no type, and a boundary that begins with dashes",
        mail(
            "This message is in MIME format.\n\n------_=_Next\nContent-Type: text/plain\n\nYour message\n\n  To:      Friends\n\n"
            f"did not reach the following recipient(s):\n\n{BOB} on Tue, 3 Feb 2026 10:00:00 +0900\n"
            "    The recipient name is not recognized\n    MSEXCH:IMS:A:B:C 0 (000C05A6) Unknown Recipient\n\n"
            "------_=_Next\nContent-Type: message/rfc822\n\nx\n------_=_Next--\n",
            sender="System Administrator <postmaster@recipient.example>",
            subject="Undeliverable: Our news",
        ),
        UNKNOWN,
    ),
    Sample(
        "an empty line before the header",
        "    \n" + parts(notice("No."), status(f"Final-Recipient: rfc822; {BOB}\nAction: failed\nStatus: 5.1.1\n"), RETURNED),
        UNKNOWN,
    ),
    Sample(
        "HotPOP returns nothing of the mail",
        parts(
            notice(f"Undeliverable Address: {BOB}\n\nReason: The recipient is over disk quota."),
            "Content-Type: message/rfc822\n\nremoved\n",
            kind=MIXED,
            subject="Undelivered Mail Returned to Sender",
        ),
        FULL,
    ),
    Sample(
        "IronPort",
        parts(
            notice(
                f"The following message to <{BOB}> was undeliverable.\nThe reason for the problem:\n"
                "5.1.0 - Unknown address error 550-'5.1.1 no such user'"
            ),
            RETURNED,
            kind=MIXED,
            subject="Delivery Status Notification (Failure)",
        ),
        UNKNOWN,
    ),
    Sample(
        "IronPort, no such domain, with a code of the fourth class",
        parts(
            notice(
                f"The following message to <{BOB}> was undeliverable.\nThe reason for the problem:\n"
                "4.1.2 - Bad destination host 'DNS Hard Error looking up recipient.example (MX): NXDomain'"
            ),
            RETURNED,
            kind=MIXED,
        ),
        NO_HOST,
    ),
    Sample(
        "CommuniGate names a local account",
        parts(
            notice(f"Failed to deliver to '<{BOB}>'\nLOCAL module(account bob) reports:\n account is full (quota exceeded)"),
            status(f"Original-Recipient: rfc822;<{BOB}>\nFinal-Recipient: LOCAL;<bob>\nAction: failed\nStatus: 5.0.0\n"),
            RETURNED,
        ),
        FULL,
    ),
    Sample(
        "hMailServer",
        mail(
            f"""
Your message did not reach some or all of the intended recipients.

   Subject: Our news

The following recipient(s) could not be reached:

{BOB}
   Error Type: SMTP
   Remote server (192.0.2.9) issued an error.
   hMailServer sent: RCPT TO:<{BOB}>
   Remote server replied: 550 5.1.1 <{BOB}>: Recipient address rejected: User unknown in local recipient table

hMailServer
""",
            subject="Message undeliverable: Our news",
        ),
        UNKNOWN,
    ),
    Sample(
        "MailEnable",
        mail(
            f"MailEnable: Message could not be delivered to some recipients.\nThe following recipient(s) could not be reached:\n\n"
            f"\tRecipient: [SMTP:{BOB}]\n\tReason: Remote SMTP Server Returned: 550 Requested action not taken: mailbox unavailable or not local\n",
            subject="Message Delivery Failure",
        ),
        UNKNOWN,
    ),
    Sample(
        "MDaemon",
        mail(
            f"""
The attached message had PERMANENT fatal delivery errors!

--- Session Transcript ---
 Tue 2026-02-03 10:00:00: From: ann@sender.example
 Tue 2026-02-03 10:00:00: To: {BOB}
 Tue 2026-02-03 10:00:01: --> RCPT To:<{BOB}>
 Tue 2026-02-03 10:00:01: <-- 552 5.2.2 over quota
--- End Transcript ---
""",
            sender="MDaemon at mx.example.net <MDaemon@mx.example.net>",
            subject="Permanent Delivery Failure",
        ),
        FULL,
    ),
    Sample(
        "an X.400 gateway",
        mail(
            f"This report relates to your message: Subject: Our news,\n\tMessage-ID: <m1@sender.example>\n\n"
            f"Your message was not delivered to:\n\t{BOB}\nfor the following reason:\n"
            "Diagnostic was Unrecognised Address, Unknown Address\nInformation Unknown user\n",
            subject=f"Delivery Report (failure) for {BOB}",
        ),
        UNKNOWN,
    ),
    Sample(
        "Yahoo, disabled",
        mail(
            f"Sorry, we were unable to deliver your message to the following address.\n\n<{BOB}>:\n"
            f"554: 30: Sorry, your message to {BOB} cannot be delivered. This mailbox is disabled (554.30).\n",
            sender="MAILER-DAEMON@yahoo.com",
            subject="Failure Notice",
        ),
        SUSPENDED,
    ),
    Sample(
        "NetEase in HTML",
        mail(
            f"<div>您的邮件被退回来了</div><table><tr><td>收件人：</td><td>{BOB}</td></tr>"
            f"<tr><td>退信原因：</td><td>收件人邮件地址（{BOB}）不存在，邮件无法送达。</td></tr></table>",
            sender="Postmaster@163.com",
            subject="系统退信",
            Content_Type="text/html; charset=utf-8",
        ),
        UNKNOWN,
    ),
    Sample(
        "QQ, no such domain",
        mail(
            f"很抱歉您发送的邮件被退回\n\n主题：Our news\n\n无法发送到 {BOB}\n\n退信原因 收件人（{BOB}）所属域名不存在，邮件无法送达。\n",
            sender='"PostMaster" <PostMaster@qq.com>',
            subject="系统退信/Systems bounce",
            Content_Type="text/plain; charset=utf-8",
        ),
        NO_HOST,
    ),
    Sample(
        "Naver",
        mail(
            f"메일이 발송되지 못했습니다.\n\n받는사람 : {BOB}\n실패사유 : 존재하지 않는 사용자입니다.\n",
            sender="postmaster@mx.example.kr",
            subject="메일 발송 실패",
            Content_Type="text/plain; charset=utf-8",
        ),
        UNKNOWN,
    ),
    Sample(
        "Exchange 2010 in Japanese",
        mail(
            f"次の受信者またはグループへの配信に失敗しました:\n\n{BOB}\n入力したメール アドレスは見つかりませんでした。\n\n"
            f"管理者向けの診断情報:\n\n{BOB}\n#550 5.1.1 RESOLVER.ADR.RecipNotFound; not found ##\n\n元のメッセージ ヘッダー:\n{ORIGINAL}",
            sender="postmaster@mx.example.net",
            subject="配信不能: Our news",
            Content_Type="text/plain; charset=utf-8",
        ),
        UNKNOWN,
    ),
    Sample(
        "a Japanese host, full",
        mail(
            f"次のあて先へのメッセージはエラーのため送信できませんでした。\n\n送信先メールアドレス： {BOB}\n"
            "エラー内容： メールボックスの容量が一杯です。\n",
            sender="postmaster@mx.example.jp",
            subject="送信エラー通知",
            Content_Type="text/plain; charset=utf-8",
        ),
        FULL,
    ),
    Sample(
        "Haraka",
        parts(
            notice(
                "I'm afraid I wasn't able to deliver your message to the following addresses.\n\n"
                f"Intended Recipients: <{BOB}>\nFailure Reason: 550 5.1.1 User unknown"
            ),
            kind=MIXED,
        ),
        UNKNOWN,
    ),
    Sample(
        "a daemon that says nothing but whom, and returns the mail",
        mail(f"Sorry:\n\n<{BOB}>: 550 5.1.1 no such user\n\n{ORIGINAL}", subject="Message from the mail server"),
        UNKNOWN,
    ),
    Sample(
        "sendmail has tried for days",
        parts(
            notice(f"<{BOB}>... Deferred: mx.recipient.example.: No route to host\nMessage will be deleted from queue"),
            status(f"Final-Recipient: RFC822; {BOB}\nAction: failed\nStatus: 4.4.7\n"),
            RETURNED,
        ),
        [(BOB, "soft", "expired")],
    ),
    Sample(
        "a directory that tells how addresses look there",
        mail(
            f"Addresses here look like name7@recipient.example. The address to which your message was addressed, {BOB}, is unknown.\n\n{ORIGINAL}",
            sender="postmaster@recipient.example (Automated response)",
            subject='FAILED MAIL to "bob"',
        ),
        UNKNOWN,
    ),
    Sample(
        "Facebook, not wanted",
        parts(
            notice("Sorry, your message could not be delivered."),
            status(
                f"Final-Recipient: rfc822; {BOB}\nAction: failed\nStatus: 5.1.1\n"
                "Diagnostic-Code: smtp; 550 5.1.1 RCP-P2 http://postmaster.facebook.com/response_codes\n"
            ),
            RETURNED,
        ),
        [(BOB, "soft", "rejected")],
    ),
    Sample(
        "a domain that is none",
        parts(notice("No."), status("Final-Recipient: RFC822; bob@#recipient.example\nAction: failed\nStatus: 5.1.2\n"), RETURNED),
        [("bob@#recipient.example", "hard", "host_unknown")],
    ),
]

LOOKALIKES = [
    Harmless("delivered, in words", mail(f"Your message was successfully delivered to {BOB}.\n", subject="Delivery report"), "delivered"),
    Harmless(
        "delivered, by its subject",
        mail(f"The message below has reached:\n\n{BOB}\n", subject="Delivery Status Notification (Success)"),
        "delivered",
    ),
    Harmless(
        "a person's report of a bounce",
        person(f"Hi, delivery to {BOB} failed:\n\n550 5.1.1 <{BOB}>: user unknown\n\n-- \nBob\n", "Delivery failure"),
        "other",
    ),
    Harmless(
        "a bounce that a person passes on part by part",
        parts(
            notice("help"),
            status("Final-Recipient: rfc822; carol@recipient.example\nAction: failed\nStatus: 5.1.1\n"),
            RETURNED,
            kind=MIXED,
            sender="Bob <bob@recipient.example>",
            subject="Fwd: Undelivered Mail Returned to Sender",
        ),
        "other",
    ),
    Harmless(
        "a text that is no mail", f"How bounces are read\n\nfailure notice: delivery to {BOB} failed: 550 5.1.1 no such user\n", "other"
    ),
    Harmless(
        "a list that holds the mail",
        mail(
            "Your mail to 'News' is being held until the list moderator can review it for approval.\n",
            sender="news-bounces@recipient.example",
            subject="Your message to News awaits moderator approval",
            Precedence="bulk",
        ),
        "other",
    ),
    Harmless(
        "a summary of a quarantine",
        mail(f"3 messages for {BOB} were blocked.\n", sender="postmaster@recipient.example", subject="Quarantine summary"),
        "other",
    ),
    Harmless(
        "a mail of a monitor",
        mail(
            f"connect to mx.example: Connection refused for {BOB}\n", sender="nagios@host.example", subject="PROBLEM: mail delivery failed"
        ),
        "other",
    ),
    Harmless(
        "away, with the null sender and no word in the subject",
        person("Thank you. I am away; carol@recipient.example helps.", "Re: Our news", Return_Path="<>"),
        "other",
    ),
]
