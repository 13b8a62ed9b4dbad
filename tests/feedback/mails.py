"""Mails as mail systems write them, in our words: who, what, and what is to be read from it."""

from __future__ import annotations

from typing import NamedTuple

#: recipient, kind, category
Result = tuple[str, str, str]


class Sample(NamedTuple):
    name: str
    mail: str
    results: list[Result]

    def __str__(self) -> str:
        return self.name


def mail(
    text: str, *, sender: str = "Mail Delivery System <MAILER-DAEMON@mx.example.net>", subject: str = "failure notice", **headers: str
) -> str:
    """A mail of one part; its header up to `text`."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = {"From": sender, "To": "ann@sender.example", "Subject": subject, "Date": "Tue, 03 Feb 2026 10:00:00 +0900", **given}
    return "".join(f"{name}: {value}\n" for name, value in lines.items() if value) + "\n" + text.lstrip("\n")


def parts(*bodies: str, kind: str = "multipart/report; report-type=delivery-status", **headers: str) -> str:
    """A mail of several parts, each from its first header line on."""
    body = "".join(f"--=_edge\n{part.lstrip(chr(10))}\n" for part in bodies) + "--=_edge--\n"
    return mail(body, MIME_Version="1.0", Content_Type=f'{kind}; boundary="=_edge"', **headers)


ORIGINAL = """
Return-Path: <ann@sender.example>
Received: from web1 by relay.sender.example; Tue, 3 Feb 2026 09:59:00 +0900
Message-ID: <m1@sender.example>
From: Ann <ann@sender.example>
To: bob@recipient.example
Subject: Our news

Hello Bob, your mailbox is full of spam: user unknown.
"""

RETURNED = "Content-Type: message/rfc822\n" + ORIGINAL


def status(fields: str) -> str:
    return f"Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.net\n\n{fields.strip()}\n"


BOB = "bob@recipient.example"
UNKNOWN: list[Result] = [(BOB, "hard", "user_unknown")]
FULL: list[Result] = [(BOB, "soft", "mailbox_full")]
EXPIRED: list[Result] = [(BOB, "soft", "expired")]
NO_HOST: list[Result] = [(BOB, "hard", "host_unknown")]

# What is written for people, without a delivery status.
NOTICES = [
    Sample(
        "qmail",
        mail(
            f"""
Hi. This is the qmail-send program at mx.example.net.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<bob@recipient.example>:
192.0.2.9 does not like recipient.
Remote host said: 550 no such mailbox here
Giving up on 192.0.2.9.

--- Below this line is a copy of the message.
{ORIGINAL}"""
        ),
        UNKNOWN,
    ),
    Sample(
        "qmail on its own host",
        mail(
            f"""
Hi. This is the qmail-send program at mx.example.net.

<bob@recipient.example>:
Sorry, no mailbox here by that name. (#5.1.1)

<carol@nowhere.example>:
Sorry, I couldn't find any host named nowhere.example. (#5.1.2)

<dave@recipient.example>:
I'm not going to try again; this message has been in the queue too long.

--- Below this line is a copy of the message.
{ORIGINAL}"""
        ),
        [*UNKNOWN, ("carol@nowhere.example", "hard", "host_unknown"), ("dave@recipient.example", "soft", "expired")],
    ),
    Sample(
        "vpopmail",
        mail(
            f"""
Hi. This is the qmail-send program at mx.example.net.

<bob@recipient.example>:
user is over quota

--- Below this line is a copy of the message.
{ORIGINAL}"""
        ),
        FULL,
    ),
    Sample(
        "qmail and ezmlm",
        mail(
            f"""
Hi. This is the qmail-send program at lists.example.net.

<bob@recipient.example>:
ezmlm-reject: fatal: Sorry, I don't accept messages without my address in To (#5.7.0)

--- Below this line is a copy of the message.
{ORIGINAL}"""
        ),
        [(BOB, "soft", "rejected")],
    ),
    Sample(
        "Exim",
        mail(
            f"""
This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  bob@recipient.example
    host mx.recipient.example [192.0.2.9]
    SMTP error from remote mail server after RCPT TO:<bob@recipient.example>:
    550-5.1.1 This is not
    550 5.1.1 a known mailbox

------ This is a copy of the message, including all the headers. ------
{ORIGINAL}""",
            subject="Mail delivery failed: returning message to sender",
        ),
        UNKNOWN,
    ),
    Sample(
        "Exim without a host",
        mail(
            f"""
This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  bob@recipient.example
    all relevant MX records point to non-existent hosts
  carol@recipient.example
    Unrouteable address
  dave@recipient.example
    retry timeout exceeded

------ This is a copy of the message, including all the headers. ------
{ORIGINAL}""",
            X_Failed_Recipients="bob@recipient.example,\n carol@recipient.example, dave@recipient.example",
        ),
        [*NO_HOST, ("carol@recipient.example", "hard", "user_unknown"), ("dave@recipient.example", "soft", "expired")],
    ),
    Sample(
        "Exim, still trying",
        mail(
            """
This message was created automatically by mail delivery software.
A message that you sent has not yet been delivered to one or more of its
recipients after more than 24 hours on the queue on mx.example.net.

The message identifier is:     1abcde-000001-AB
The subject of the message is: Our news

The address to which the message has not yet been delivered is:

  bob@recipient.example
    host mx.recipient.example [192.0.2.9]
    SMTP error from remote mail server after RCPT TO:<bob@recipient.example>:
    450 4.2.0 greylisted, come back later

No action is required on your part. Delivery attempts will continue for
some time.
""",
            subject="Warning: message 1abcde-000001-AB delayed 24 hours",
        ),
        [(BOB, "soft", "temporary")],
    ),
    Sample(
        "Exim, filter",
        mail(
            f"""
This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. The following address(es) failed:

  bob@recipient.example
    mailbox is full: retry timeout exceeded

------ This is a copy of the message's headers. ------
{ORIGINAL}"""
        ),
        FULL,
    ),
    Sample(
        "sendmail 8.8 without MIME",
        mail(
            f"""
The original message was received at Tue, 3 Feb 2026 10:00:00 +0900
from localhost

   ----- The following addresses had permanent fatal errors -----
<bob@recipient.example>

   ----- Transcript of session follows -----
... while talking to mx.recipient.example.:
>>> RCPT To:<bob@recipient.example>
<<< 550 5.1.1 <bob@recipient.example>... User unknown
550 <bob@recipient.example>... User unknown

   ----- Original message follows -----
{ORIGINAL}""",
            subject="Returned mail: User unknown",
        ),
        UNKNOWN,
    ),
    Sample(
        "sendmail 5",
        mail(
            f"""
   ----- Transcript of session follows -----
>>> RCPT To:<bob@recipient.example>
<<< 550 <bob@recipient.example>... User unknown
550 <bob@recipient.example>... User unknown

   ----- Unsent message follows -----
{ORIGINAL}""",
            subject="Returned mail: User unknown",
        ),
        UNKNOWN,
    ),
    Sample(
        "sendmail 5, no host",
        mail(
            f"""
   ----- Transcript of session follows -----
550 bob@recipient.example... Host unknown

   ----- Unsent message follows -----
{ORIGINAL}""",
            subject="Returned mail: Host unknown",
        ),
        NO_HOST,
    ),
    Sample(
        "OpenSMTPD",
        mail(
            f"""
    Hi!

    This is the MAILER-DAEMON, please DO NOT REPLY to this e-mail.

    An error has occurred while attempting to deliver a message for
    the following list of recipients:

bob@recipient.example: 552 5.2.2 Over quota

    Below is a copy of the original message:
{ORIGINAL}""",
            subject="Delivery status notification: error",
        ),
        FULL,
    ),
    Sample(
        "DragonFly",
        mail(
            f"""
This is the DragonFly Mail Agent v0.13 at mx.example.net.

There was an error delivering your mail to <bob@recipient.example>.

mx.recipient.example [192.0.2.9] did not like our RCPT TO:
550 5.1.1 <bob@recipient.example>: mailbox not known here

Message headers follow.
{ORIGINAL}""",
            sender="MAILER-DAEMON <>",
            subject="Mail delivery failed",
        ),
        UNKNOWN,
    ),
    Sample(
        "James",
        mail(
            """
Hi. This is the James mail server at mx.example.net.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out. Below
I include the list of recipients and the reason why I was unable to deliver
your message.

Failed recipient(s):
bob@recipient.example

Error message:
550 5.1.1 no such user here

Message details:
  Subject: Our news
  Sent date: Tue Feb 03 10:00:00 JST 2026
  MAIL FROM: ann@sender.example
  RCPT TO: bob@recipient.example
  From: Ann <ann@sender.example>
  To: bob@recipient.example
""",
            sender="postmaster@mx.example.net",
            subject="[BOUNCE]",
        ),
        UNKNOWN,
    ),
    Sample(
        "Gmail before 2016",
        mail(
            f"""
Delivery to the following recipient failed permanently:

     bob@recipient.example

Technical details of permanent failure: 
Google tried to deliver your message, but it was rejected by the server for the recipient domain recipient.example by mx.recipient.example. [192.0.2.9].

The error that the other server returned was:
550 5.1.1 <bob@recipient.example> no such user

----- Original message -----
{ORIGINAL}""",
            sender="Mail Delivery Subsystem <mailer-daemon@googlemail.com>",
            subject="Delivery Status Notification (Failure)",
        ),
        UNKNOWN,
    ),
    Sample(
        "Gmail, no host",
        mail(
            f"""
Delivery to the following recipient failed permanently:

     bob@recipient.example

Technical details of permanent failure: 
DNS Error: Domain name not found

----- Original message -----
{ORIGINAL}""",
            sender="Mail Delivery Subsystem <mailer-daemon@googlemail.com>",
            subject="Delivery Status Notification (Failure)",
        ),
        NO_HOST,
    ),
    Sample(
        "Google Groups in English",
        mail(
            f"""
Hello ann@sender.example,

We're writing to let you know that the group you tried to contact (news) may not exist, or you may not have permission to post messages to the group. A few more details on why you weren't able to post:

 * You might have spelled or formatted the group name incorrectly.
 * The owner of the group may have removed this group.

If you have questions related to this or any other Google Group, visit the Help Center at https://groups.google.com/support/.

Google Groups

----- Original message -----
{ORIGINAL}""",
            sender="Mail Delivery Subsystem <mailer-daemon@googlemail.com>",
            subject="Delivery Status Notification (Failure)",
            X_Failed_Recipients="news@groups.example",
        ),
        [("news@groups.example", "soft", "rejected")],
    ),
    Sample(
        "Yahoo",
        mail(
            f"""
Sorry, we were unable to deliver your message to the following address.

<bob@recipient.example>:
554: delivery error: dd This user doesn't have a recipient.example account (bob@recipient.example) [0] - mta1.recipient.example

--- Below this line is a copy of the message.
{ORIGINAL}""",
            sender="MAILER-DAEMON@yahoo.com",
            subject="Failure Notice",
        ),
        UNKNOWN,
    ),
    Sample(
        "Yahoo, full",
        mail(
            f"""
Message from recipient.example.
Unable to deliver message to the following address(es).

<bob@recipient.example>:
This user is over quota. You can try again later.

--- Original message follows.
{ORIGINAL}""",
            sender="MAILER-DAEMON@yahoo.co.jp",
            subject="failure delivery",
        ),
        FULL,
    ),
    Sample(
        "GMX and 1&1",
        mail(
            f"""
This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of
its recipients. This is a permanent error. The following address
failed:

"bob@recipient.example":
SMTP error from remote server after RCPT command:
host: mx.recipient.example
unknown recipient
"carol@recipient.example":
SMTP error from remote server after transfer of mail text:
host: mx.recipient.example
Quota exceeded. The recipients mailbox is full.

--- The header of the original message is following. ---
{ORIGINAL}""",
            sender="MAILER-DAEMON@gmx.example",
            subject="Mail delivery failed: returning message to sender",
        ),
        [*UNKNOWN, ("carol@recipient.example", "soft", "mailbox_full")],
    ),
    Sample(
        "Mail.ru",
        mail(
            f"""
Это письмо создано автоматически сервером, отвечать на него не нужно.

К сожалению, Ваше письмо не может быть доставлено одному или нескольким получателям:

**********************

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  bob@recipient.example
    SMTP error from remote mail server after end of data:
    550 Message was not accepted -- invalid mailbox. Local mailbox bob@recipient.example is unavailable: user not found

------ This is a copy of the message, including all the headers. ------
{ORIGINAL}""",
            sender="mailer-daemon@corp.mail.ru",
            subject="Ваше сообщение не доставлено. Mail failure.",
        ),
        UNKNOWN,
    ),
    Sample(
        "Zoho",
        mail(
            f"""
This message was created automatically by mail delivery software.
A message that you sent could not be delivered to one or more of its recipients. This is a permanent error. 

bob@recipient.example Invalid Address, ERROR_CODE :550, ERROR_CODE :5.1.1 <bob@recipient.example>... User Unknown
{ORIGINAL}""",
            sender="mailer-daemon@mail.zoho.com",
            subject="Undelivered Mail Returned to Sender",
        ),
        UNKNOWN,
    ),
    Sample(
        "QQ",
        mail(
            """
<p>抱歉，您的邮件被退回来了……</p>
<table><tr><td>原邮件信息：</td><td>时间 2026-02-03 10:00:00<br>主题 Our news<br>收件人 bob@recipient.example</td></tr>
<tr><td>退信原因：</td><td>收件人邮件地址（bob@recipient.example）不存在，邮件无法送达。<br>host mx.recipient.example said: 550 No such user</td></tr>
<tr><td>解决方案：</td><td>请联系您的收件人，重新核实邮箱地址。</td></tr></table>
""",
            sender="PostMaster@qq.com",
            subject="系统退信/Systems bounce",
            Content_Type="text/html; charset=utf-8",
        ),
        UNKNOWN,
    ),
    Sample(
        "NetEase",
        mail(
            """
您的邮件 Our news 无法投递到以下收件人：

收件人：bob@recipient.example
退信原因：对方邮箱已满，请稍后再试。
""",
            sender="Postmaster@163.com",
            subject="系统退信",
            Content_Type="text/plain; charset=utf-8",
        ),
        FULL,
    ),
    Sample(
        "Domino",
        mail(
            """
Your message

  Subject: Our news

was not delivered to:

  bob@recipient.example

because:

  User bob (bob@recipient.example) not listed in Domino Directory
""",
            sender="postmaster@recipient.example",
            subject="DELIVERY FAILURE: User bob (bob@recipient.example) not listed in Domino Directory",
        ),
        UNKNOWN,
    ),
    Sample(
        "Notes",
        mail(
            """
------- Failure Reasons  --------

User not listed in public Name & Address Book
bob@recipient.example


------- Returned Message --------

Our news
""",
            sender="Notes Mailer Daemon <postmaster@notes.example>",
            subject="Delivery failure",
        ),
        UNKNOWN,
    ),
    Sample(
        "Exchange 5.5",
        mail(
            """
Your message

  To:      bob@recipient.example
  Subject: Our news
  Sent:    Tue, 3 Feb 2026 10:00:00 +0900

did not reach the following recipient(s):

bob@recipient.example on Tue, 3 Feb 2026 10:00:05 +0900
    The recipient name is not recognized
	The MTS-ID of the original message is: c=jp;a= ;p=recipient;l=MX0000000
    MSEXCH:IMS:RECIPIENT:SITE:MX 0 (000C05A6) Unknown Recipient
""",
            sender="System Administrator <postmaster@recipient.example>",
            subject="Undeliverable: Our news",
        ),
        UNKNOWN,
    ),
    Sample(
        "Exchange 5.5 that names a person",
        mail(
            """
Your message

  To:      bob@recipient.example
  Subject: Our news
  Sent:    Tue, 3 Feb 2026 10:00:00 +0900

did not reach the following recipient(s):

Bob Brown on Tue, 3 Feb 2026 10:00:05 +0900
    The e-mail account does not exist at the organization this message was sent to.
""",
            sender="System Administrator <postmaster@recipient.example>",
            subject="Undeliverable: Our news",
        ),
        UNKNOWN,
    ),
    Sample(
        "Exchange 2003 in German",
        mail(
            """
Ihre Nachricht

  An:      bob@recipient.example
  Betreff: Our news
  Gesendet am: Di, 3 Feb 2026 10:00:00 +0100

konnte den/die folgenden Empfänger nicht erreichen:

bob@recipient.example am Di, 3 Feb 2026 10:00:05 +0100
    Das Postfach des Empfängers ist voll.
""",
            sender="Systemadministrator <postmaster@recipient.example>",
            subject="Unzustellbar: Our news",
            Content_Type="text/plain; charset=utf-8",
        ),
        FULL,
    ),
    Sample(
        "IMail",
        mail(
            f"""
User mailbox exceeds allowed size: bob@recipient.example


Original message follows.
{ORIGINAL}""",
            sender='"Postmaster" <postmaster@recipient.example>',
            subject="Undeliverable Mail",
        ),
        FULL,
    ),
    Sample(
        "IMail, many attempts",
        mail(
            f"""
Delivery failed 20 attempts: bob@recipient.example


Original message follows.
{ORIGINAL}""",
            sender='"Postmaster" <postmaster@recipient.example>',
            subject="Undeliverable Mail",
        ),
        EXPIRED,
    ),
    Sample(
        "MailMarshal",
        mail(
            """
Your message:
   From:    ann@sender.example
   Subject: Our news

Could not be delivered because of

550 5.1.1 User unknown

The following recipients were affected: 
    bob@recipient.example

Additional Information
======================
Original Sender:    <ann@sender.example>
Sender-MTA:         <192.0.2.1>
""",
            sender="postmaster@recipient.example",
            subject='Undeliverable Mail: "Our news"',
        ),
        UNKNOWN,
    ),
    Sample(
        "SurfControl",
        mail(
            """
Your message could not be sent.
A transcript of the attempts to send the message follows.
The number of attempts made: 1
Addressed To: bob@recipient.example

Tue 3 Feb 2026 10:00:00 +0900
Failed to send to identified host,
bob@recipient.example: [192.0.2.9], 550 bob@recipient.example... No such user
--- Message non-deliverable.
""",
            sender="postmaster@filter.example",
            subject="Failure: Our news",
        ),
        UNKNOWN,
    ),
    Sample(
        "InterScan",
        mail(
            """
Sent <<< RCPT TO:<bob@recipient.example>
Received >>> 550 5.1.1 <bob@recipient.example>... user unknown

Unable to deliver message to <bob@recipient.example>.
""",
            sender="InterScan MSS <postmaster@filter.example>",
            subject="Mail could not be delivered",
        ),
        UNKNOWN,
    ),
    Sample(
        "MailFoundry",
        mail(
            """
Unable to deliver message to: <bob@recipient.example>
Delivery failed for the following reason:
Server mx.recipient.example[192.0.2.9] failed with: 552 Mailbox full

This has been a permanent failure.  No further delivery attempts will be made.
""",
            subject="Message delivery has failed",
        ),
        FULL,
    ),
    Sample(
        "m-FILTER",
        mail(
            """
このメールは「m-FILTER」が自動的に生成して送信しています。
メールサーバーとの通信中、下記の理由により
このメールは送信できませんでした。

以下のメールアドレスへの送信に失敗しました。
bob@recipient.example


-------server message
550 5.1.1 unknown user <bob@recipient.example>

-------SMTP command
RCPT

-------original mail info
From: ann@sender.example
""",
            sender="<>",
            Content_Type="text/plain; charset=utf-8",
        ),
        UNKNOWN,
    ),
    Sample(
        "MX Logic",
        mail(
            f"""
This message was created automatically by mail delivery software.

A message that you have sent could not be delivered to one or more
recipients.  This is a permanent error.  The following address failed:

  <bob@recipient.example>: 550 5.1.1 mailbox not known

Included is a copy of the message header:
-----------------------------------------
{ORIGINAL}""",
            subject="Mail delivery failed",
        ),
        UNKNOWN,
    ),
    Sample(
        "Symantec and MessageLabs",
        mail(
            """
This is the mail delivery agent at messagelabs.com.

I was unable to deliver your message to the following addresses:

bob@recipient.example

Reason: 550 Invalid recipient bob@recipient.example (Mode: normal)

The message subject was: Our news
The message date was: Tue, 3 Feb 2026 10:00:00 +0900
""",
            subject="Mail Delivery Failure",
        ),
        UNKNOWN,
    ),
    Sample(
        "GroupWise",
        mail(
            """
The message that you sent was undeliverable to the following:
	bob@recipient.example (user not found)

Possibly truncated original message follows:
""",
            sender="Mail System <postmaster@recipient.example>",
            subject="Message status - undeliverable",
        ),
        UNKNOWN,
    ),
    Sample(
        "Courier in words",
        mail(
            """
This is a delivery status notification from mx.example.net,
running the Courier mail server, version 1.3.

                           UNDELIVERABLE MAIL

Your message to the following recipients cannot be delivered:

<bob@recipient.example>:
    mx.recipient.example [192.0.2.9]:
>>> RCPT TO:<bob@recipient.example>
<<< 550 User unknown.

---------------------------------------------------------------------------
""",
            sender="postmaster@mx.example.net",
            subject="NOTICE: mail delivery status.",
        ),
        UNKNOWN,
    ),
    Sample(
        "Postfix in words",
        mail(
            """
This is the mail system at host mx.example.net.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients. It's attached below.

                   The mail system

<bob@recipient.example>: host mx.recipient.example[192.0.2.9] said: 550
    5.1.1 <bob@recipient.example>: Recipient address rejected: User unknown in
    local recipient table (in reply to RCPT TO command)

<carol@recipient.example>: connect to mx2.recipient.example[192.0.2.10]:25:
    Connection timed out
""",
            subject="Undelivered Mail Returned to Sender",
        ),
        [*UNKNOWN, ("carol@recipient.example", "soft", "expired")],
    ),
    Sample(
        "au (ezweb)",
        mail(
            """
次のあて先へのメッセージはエラーのため送信できませんでした。

送信先メールアドレスが見つからないか、
送信先メールサーバの事由により送信できませんでした。

Each of the following recipients was rejected by a remote
mail server.

    Recipient: <bob@recipient.example>
    >>> RCPT TO:<bob@recipient.example>
    <<< 550 <bob@recipient.example>: User unknown
""",
            sender="Postmaster@ezweb.ne.jp",
            subject="Mail System Error - Returned Mail",
            Content_Type="text/plain; charset=utf-8",
        ),
        UNKNOWN,
    ),
    Sample(
        "au, closed",
        mail(
            f"""
The user(s) account is temporarily limited.

	<bob@recipient.example>

{ORIGINAL}""",
            sender="Postmaster@ezweb.ne.jp",
            subject="Mail System Error - Returned Mail",
        ),
        [(BOB, "soft", "suspended")],
    ),
    Sample(
        "KDDI to its own",
        mail(
            f"""
Your mail sent on: Tue, 3 Feb 2026 10:00:00 +0900
    Could not be delivered to: <bob@recipient.example>
    As their mailbox is full.

{ORIGINAL}""",
            sender="no-reply@app.au.example <postmaster@app.au.example>",
            subject="Mail Delivery Subsystem",
        ),
        FULL,
    ),
    Sample(
        "docomo",
        mail(
            f"""
   ----- The following addresses had permanent fatal errors -----
<bob@recipient.example>

   ----- Transcript of session follows -----
... while talking to mfsmax.docomo.ne.jp.:
>>> DATA
<<< 550 Unknown user bob@recipient.example
554 <bob@recipient.example>... Service unavailable

   ----- Original message follows -----
{ORIGINAL}""",
            subject="Returned mail: see transcript for details",
        ),
        [(BOB, "soft", "rejected")],
    ),
    Sample(
        "Biglobe",
        mail(
            f"""
   ----- The following addresses had delivery problems -----
bob@recipient.example   (unrecoverable error)

   ----- Non-delivered information -----
The number of messages in recipient's mailbox exceeded the local limit.

   ----- Original message -----
{ORIGINAL}""",
            sender="postmaster@biglobe.example",
            subject="Mail Delivery Failed",
        ),
        FULL,
    ),
    Sample(
        "nifty in Japanese",
        mail(
            f"""
お客様が送信されたメールは、以下の理由により配信できませんでした。

宛先: bob@recipient.example
理由: 宛先のメールアドレスが存在しません。

--- 元のメッセージ ---
{ORIGINAL}""",
            sender="postmaster@nifty.example",
            subject="メール配信エラーのお知らせ",
            Content_Type="text/plain; charset=utf-8",
        ),
        UNKNOWN,
    ),
    Sample(
        "goo in Japanese",
        mail(
            """
bob@recipient.example への配信に失敗しました。
受信者のメールボックスがいっぱいです。
""",
            sender="メール配信システム <mailer-daemon@goo.example>",
            subject="配信エラー",
            Content_Type="text/plain; charset=utf-8",
        ),
        FULL,
    ),
    Sample(
        "Vodafone KK (J-PHONE)",
        mail(
            f"""
The following addresses had delivery problems:

<bob@recipient.example>
    >>> 550 Invalid recipient

{ORIGINAL}""",
            sender="MAILER-DAEMON@t.vodafone.example",
            subject="Undelivered mail",
        ),
        UNKNOWN,
    ),
    Sample(
        "Verizon text messages",
        mail(
            """
Message could not be delivered to mobile.
Error: No valid recipients for this MM

  From: ann@sender.example
  RCPT TO: bob@recipient.example
  Subject: Our news
""",
            sender="post_master@vtext.example",
            subject="Undeliverable Message",
        ),
        UNKNOWN,
    ),
    Sample(
        "FML, not a member",
        mail(
            """
You <ann@sender.example> are not a member of this mailing list <news@lists.example>.

Your mail is not posted.

Original mail as follows:

   Return-Path: <ann@sender.example>
   Received: from x by y
   Message-Id: <m1@sender.example>
   From: ann@sender.example
   To: news@lists.example
""",
            sender="news-admin@lists.example",
            subject="NOT MEMBER article from ann@sender.example (news ML)",
            X_MLServer="fml [fml 4.0]",
        ),
        [("news@lists.example", "soft", "rejected")],
    ),
    Sample(
        "X1 with a list",
        mail(
            f"""
The original message was received at Tue, 3 Feb 2026 10:00:00 +0900
from ann@sender.example

---The following addresses had delivery errors---

bob@recipient.example [User unknown]

{ORIGINAL}""",
            subject="Returned Mail: User unknown",
        ),
        UNKNOWN,
    ),
    Sample(
        "We had trouble",
        mail(
            f"""
We had trouble delivering your message. Full details follow:

Subject: 'Our news'
Date: 'Tue, 3 Feb 2026 10:00:00 +0900'

1 error(s):

SMTP Server <mx.recipient.example> rejected recipient <bob@recipient.example> 
  (Error following RCPT command). It responded as follows: [550 5.1.1 User unknown]

{ORIGINAL}""",
            sender="Mail Delivery Agent <mailer-daemon@mx.example.net>",
            subject="There was an error sending your mail",
        ),
        UNKNOWN,
    ),
    Sample(
        "Active!hunter",
        mail(
            f"""
  ----- The following addresses had permanent fatal errors -----

>>>    bob@recipient.example <bob@recipient.example>

  ----- Transcript of session follows -----
550 sorry, no mailbox here by that name (#5.1.1 - chkusr)

  ----- Original message follows -----
{ORIGINAL}""",
            subject="FAILURE NOTICE :",
        ),
        UNKNOWN,
    ),
    Sample(
        "Postmaster in French",
        mail(
            f"""
Votre message n'a pas pu être remis au destinataire suivant :

bob@recipient.example : utilisateur inconnu

--- Message original ---
{ORIGINAL}""",
            sender="postmaster@fournisseur.example",
            subject="Message non remis",
            Content_Type="text/plain; charset=utf-8",
        ),
        UNKNOWN,
    ),
    Sample(
        "Postmaster in Italian",
        mail(
            """
Impossibile recapitare il messaggio al seguente destinatario:

bob@recipient.example
La casella del destinatario è piena.
""",
            sender="postmaster@posta.example",
            subject="Mancata consegna",
            Content_Type="text/plain; charset=utf-8",
        ),
        FULL,
    ),
    Sample(
        "Postmaster in Spanish",
        mail(
            """
No se ha podido entregar su mensaje a los siguientes destinatarios:

bob@recipient.example
El dominio no existe.
""",
            sender="postmaster@correo.example",
            subject="Mensaje no entregado",
            Content_Type="text/plain; charset=utf-8",
        ),
        NO_HOST,
    ),
    Sample(
        "Postmaster in Portuguese",
        mail(
            """
Não foi possível entregar a sua mensagem para:

bob@recipient.example
Usuário inexistente.
""",
            sender="postmaster@correio.example",
            subject="Falha na entrega da mensagem",
            Content_Type="text/plain; charset=utf-8",
        ),
        UNKNOWN,
    ),
    Sample(
        "Postmaster in Russian",
        mail(
            """
Ваше сообщение не может быть доставлено следующим получателям:

bob@recipient.example
Почтовый ящик переполнен.
""",
            sender="postmaster@pochta.example",
            subject="Недоставленное сообщение",
            Content_Type="text/plain; charset=utf-8",
        ),
        FULL,
    ),
    Sample(
        "Postmaster in Korean",
        mail(
            """
다음 수신자에게 메일을 전송하지 못했습니다.

bob@recipient.example
존재하지 않는 사용자입니다.
""",
            sender="postmaster@mail.example",
            subject="메일 전송 실패",
            Content_Type="text/plain; charset=utf-8",
        ),
        UNKNOWN,
    ),
    Sample(
        "Postmaster in Chinese",
        mail(
            """
您的邮件无法投递到下列收件人：

bob@recipient.example
用户不存在
""",
            sender="postmaster@mail.example",
            subject="退信通知",
            Content_Type="text/plain; charset=utf-8",
        ),
        UNKNOWN,
    ),
    Sample(
        "Postmaster in German",
        mail(
            """
Ihre Nachricht konnte nicht zugestellt werden an:

bob@recipient.example
Der Empfänger ist unbekannt.
""",
            sender="postmaster@post.example",
            subject="Nicht zugestellte Nachricht",
            Content_Type="text/plain; charset=utf-8",
        ),
        UNKNOWN,
    ),
]

# Delivery statuses, as they should be and as they are.
STATUSES = [
    Sample(
        "RFC 3464",
        parts(
            "Content-Type: text/plain\n\nYour mail was not delivered.\n",
            status(
                "Final-Recipient: rfc822; bob@recipient.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 no such user\n"
            ),
            RETURNED,
        ),
        UNKNOWN,
    ),
    Sample(
        "several with mixed outcomes",
        parts(
            "Content-Type: text/plain\n\nSome of it worked.\n",
            status(
                """
Final-Recipient: rfc822; bob@recipient.example
Action: failed
Status: 5.1.1

Final-Recipient: rfc822; carol@recipient.example
Action: delayed
Status: 4.4.1

Final-Recipient: rfc822; dave@recipient.example
Action: delivered
Status: 2.1.5

Final-Recipient: rfc822; eve@recipient.example
Action: relayed
Status: 2.0.0
"""
            ),
        ),
        [
            *UNKNOWN,
            ("carol@recipient.example", "soft", "network"),
            ("dave@recipient.example", "other", "delivered"),
            ("eve@recipient.example", "other", "delivered"),
        ],
    ),
    Sample(
        "failed for now, by its code",
        parts(
            "Content-Type: text/plain\n\nNo.\n", status("Final-Recipient: rfc822; bob@recipient.example\nAction: failed\nStatus: 4.4.7\n")
        ),
        EXPIRED,
    ),
    Sample(
        "Microsoft 365",
        parts(
            "Content-Type: text/plain\n\nYour message to bob@recipient.example couldn't be delivered.\n",
            status(
                "Final-Recipient: rfc822;bob@recipient.example\nAction: failed\nStatus: 5.1.10\n"
                "Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup\n"
            ),
        ),
        UNKNOWN,
    ),
    Sample(
        "Microsoft 365, not for outsiders",
        parts(
            "Content-Type: text/plain\n\nYour message wasn't delivered.\n",
            status(
                "Final-Recipient: rfc822;bob@recipient.example\nAction: failed\nStatus: 5.7.133\n"
                "Diagnostic-Code: smtp;550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required\n"
            ),
        ),
        [(BOB, "soft", "rejected")],
    ),
    Sample(
        "Gmail with pictures",
        parts(
            "Content-Type: text/plain; charset=utf-8\n\n** Address not found **\n\nYour message wasn't delivered to bob@recipient.example because the address couldn't be found.\n",
            status(
                "Final-Recipient: rfc822; bob@recipient.example\nAction: failed\nStatus: 5.1.1\n"
                "Diagnostic-Code: smtp; 550-5.1.1 The email account that you tried to reach does not exist. 550 5.1.1 https://support.google.com/mail/?p=NoSuchUser x - gsmtp\n"
            ),
            sender="Mail Delivery Subsystem <mailer-daemon@googlemail.com>",
        ),
        UNKNOWN,
    ),
    Sample(
        "Amazon SES",
        parts(
            "Content-Type: text/plain\n\nAn error occurred while trying to deliver the mail to the following recipients:\nbob@recipient.example\n",
            status(
                "Action: failed\nFinal-Recipient: rfc822; bob@recipient.example\nDiagnostic-Code: smtp; 550 5.1.1 user unknown\nStatus: 5.1.1\n"
            ),
        ),
        UNKNOWN,
    ),
    Sample(
        "PowerMTA with its own category",
        parts(
            "\nHello, this is the mail server on mx.example.net.\n\n<bob@recipient.example> delivery failed; will not continue trying\n",
            status(
                "Final-Recipient: rfc822;bob@recipient.example\nAction: failed\nStatus: 5.0.0 (undefined status)\n"
                "Diagnostic-Code: smtp;554 [internal] nothing more\nX-PowerMTA-BounceCategory: quota-issues\n"
            ),
        ),
        FULL,
    ),
    Sample(
        "SendGrid",
        parts(
            "Content-Type: text/plain\n\nI'm sorry to have to tell you that your message was not able to be delivered.\n",
            "Content-Type: message/delivery-status\n\nX-SendGrid-QueueID: 1\nArrival-Date: 2026-02-03 10-00-00\n\n"
            "Final-Recipient: rfc822; bob@recipient.example\nAction: failed\nStatus: 5.2.2\nDiagnostic-Code: 552 5.2.2 over quota\n",
        ),
        FULL,
    ),
    Sample(
        "McAfee without a final recipient",
        parts(
            "Content-Type: text/plain\n\n    --- The following addresses had delivery problems ---\n\n<bob@recipient.example>   (User unknown bob@recipient.example)\n",
            "Content-Type: message/delivery-status; name=deliverystatus.txt\n\nOriginal-Recipient: <bob@recipient.example>\nAction: failed\nDiagnostic-Code: smtp; 550 User unknown\n",
            kind="multipart/mixed",
            sender="<>",
        ),
        UNKNOWN,
    ),
    Sample(
        "no empty line before the recipient, no final part",
        mail(
            """
--=_edge
Content-Type: text/plain

Your message to the following recipients cannot be delivered.

--=_edge
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
Arrival-Date: Tue, 3 Feb 2026 10:00:00 +0900
Final-Recipient: rfc822; bob@recipient.example
Action: failed
Status: 5.0.0
Diagnostic-Code: smtp; 550 5.1.1 no such mailbox
Final-Recipient: rfc822; carol@recipient.example
Action: failed
Status: 5.2.2
""",
            Content_Type='multipart/report; report-type=delivery-status; boundary="=_edge"',
        ),
        [*UNKNOWN, ("carol@recipient.example", "soft", "mailbox_full")],
    ),
    Sample(
        "no boundary at all",
        mail(
            """
The following addresses failed.

Reporting-MTA: dns; mx.example.net

Final-Recipient: RFC822; bob@recipient.example
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 no such user

Return-Path: <ann@sender.example>
To: bob@recipient.example
""",
            Content_Type='multipart/report; report-type=delivery-status; boundary="lost"',
        ),
        UNKNOWN,
    ),
    Sample(
        "a pipe instead of an address",
        parts(
            "Content-Type: text/plain\n\nA message that you sent could not be delivered. The following address(es) failed:\n\n"
            "  pipe to |/usr/bin/filter\n    generated by bob@recipient.example\n    Child process of pipe transport returned 127 from command\n",
            status("Final-Recipient: rfc822;|/usr/bin/filter\nAction: failed\nStatus: 5.0.0\n"),
            X_Failed_Recipients=BOB,
        ),
        [(BOB, "soft", "system")],
    ),
    Sample(
        "internationalised (RFC 6533)",
        parts(
            "Content-Type: text/plain\n\nNo.\n",
            "Content-Type: message/global-delivery-status\n\nReporting-MTA: dns; mx.example.net\n\n"
            "Final-Recipient: utf-8; b\\x{F6}b@recipient.example\nAction: failed\nStatus: 5.1.1\n",
        ),
        [("böb@recipient.example", "hard", "user_unknown")],
    ),
    Sample(
        "a report in ISO-2022-JP",
        parts(
            "Content-Type: text/plain; charset=iso-2022-jp\n\n\x1b$B%a!<%k$OG[Aw$G$-$^$;$s$G$7$?\x1b(B\n",
            status("Final-Recipient: rfc822; bob@recipient.example\nAction: failed\nStatus: 5.1.1\n"),
        ),
        UNKNOWN,
    ),
    Sample(
        "a text that only the notice tells in full",
        parts(
            "Content-Type: text/plain\n\n    An error has occurred while attempting to deliver a message for\n    the following list of recipients:\n\n"
            "bob@recipient.example: 550 5.7.26 Multiple authentication checks failed\n",
            status("Final-Recipient: rfc822; bob@recipient.example\nAction: failed\nStatus: 5.0.0\n"),
            kind="multipart/mixed",
        ),
        [(BOB, "soft", "auth_failure")],
    ),
]


def feedback(report: str, returned: str = RETURNED) -> str:
    return parts(
        "Content-Type: text/plain\n\nThis is an email abuse report.\n",
        f"Content-Type: message/feedback-report\n\n{report.strip()}\nVersion: 1\nUser-Agent: FBL/1.0\n",
        returned,
        kind="multipart/report; report-type=feedback-report",
        sender="fbl@provider.example",
        subject="complaint",
    )


REDACTED = "Content-Type: text/rfc822-headers\n\nFrom: ann@sender.example\nTo: undisclosed\nMessage-ID: <m1@sender.example>\n"
COMPLAINED: list[Result] = [(BOB, "complaint", "complaint")]

COMPLAINTS = [
    Sample("ARF", feedback("Feedback-Type: abuse\nOriginal-Rcpt-To: bob@recipient.example"), COMPLAINED),
    Sample(
        "ARF that says it of several",
        feedback("Feedback-Type: abuse\nOriginal-Rcpt-To: <bob@recipient.example>\nOriginal-Rcpt-To: <carol@recipient.example>"),
        [*COMPLAINED, ("carol@recipient.example", "complaint", "complaint")],
    ),
    Sample("ARF that leaves the address to the returned mail", feedback("Feedback-Type: abuse"), COMPLAINED),
    Sample(
        "ARF that names nobody", feedback("Feedback-Type: abuse\nRedacted-Address: redacted", REDACTED), [("", "complaint", "complaint")]
    ),
    Sample(
        "ARF that calls itself plain text",
        feedback("Feedback-Type: abuse\nOriginal-Rcpt-To: bob@recipient.example")
        .replace("message/feedback-report", "text/plain")
        .replace("multipart/report; report-type=feedback-report", "multipart/mixed"),
        COMPLAINED,
    ),
    Sample("ARF: wants no more", feedback("Feedback-Type: opt-out\nOriginal-Rcpt-To: bob@recipient.example"), COMPLAINED),
    Sample("ARF: fraud", feedback("Feedback-Type: fraud\nOriginal-Rcpt-To: bob@recipient.example"), COMPLAINED),
    Sample(
        "ARF: is no spam after all", feedback("Feedback-Type: not-spam\nOriginal-Rcpt-To: bob@recipient.example"), [(BOB, "other", "other")]
    ),
    Sample(
        "DMARC failure report",
        feedback("Feedback-Type: auth-failure\nAuth-Failure: dmarc\nOriginal-Rcpt-To: bob@recipient.example"),
        [(BOB, "other", "auth_failure")],
    ),
    Sample(
        "Hotmail without a report",
        parts(
            "Content-Type: message/rfc822\n\nX-HmXmrOriginalRecipient: <bob@recipient.example>\nFrom: ann@sender.example\nTo: bob@recipient.example\nMessage-ID: <m1@sender.example>\n\nHello.\n",
            kind="multipart/mixed",
            sender="staff@hotmail.example",
            subject="complaint about message from 192.0.2.1",
        ),
        COMPLAINED,
    ),
    Sample(
        "SES by SNS",
        mail(
            '{"notificationType":"Complaint","complaint":{"complainedRecipients":[{"emailAddress":"bob@recipient.example"}],"complaintFeedbackType":"abuse"},"mail":{"messageId":"m1"}}\n\n--\nIf you wish to stop receiving notifications ...\n',
            sender="AWS Notifications <no-reply@sns.amazonaws.com>",
            subject="AWS Notification Message",
        ),
        COMPLAINED,
    ),
]

NOTICES_BY_SNS = [
    Sample(
        "SES bounce by SNS",
        mail(
            '{"notificationType":"Bounce","bounce":{"bounceType":"Permanent","bounceSubType":"General","bouncedRecipients":[{"emailAddress":"bob@recipient.example","action":"failed","status":"5.1.1","diagnosticCode":"smtp; 550 5.1.1 user unknown"}],"reportingMTA":"dsn; a1.example"},"mail":{"messageId":"m1"}}',
            sender="no-reply@sns.amazonaws.com",
            subject="AWS Notification Message",
        ),
        UNKNOWN,
    ),
    Sample(
        "SES bounce without words",
        mail(
            '{"notificationType":"Bounce","bounce":{"bounceType":"Transient","bounceSubType":"MailboxFull","bouncedRecipients":[{"emailAddress":"bob@recipient.example"}]},"mail":{"messageId":"m1"}}',
            sender="no-reply@sns.amazonaws.com",
            subject="AWS Notification Message",
        ),
        FULL,
    ),
    Sample(
        "SES delivery by SNS, a long line broken by a mail server",
        mail(
            '{"notificationType":"Delivery","delivery":{"recipients":["bob@recipi!\n ent.example"],"smtpResponse":"250 2.6.0 Message received"},"mail":{"messageId":"m1"}}',
            sender="no-reply@sns.amazonaws.com",
            subject="AWS Notification Message",
        ),
        [(BOB, "other", "delivered")],
    ),
    Sample(
        "SES event wrapped in JSON",
        mail(
            '{"Type":"Notification","Message":"{\\"eventType\\":\\"Bounce\\",\\"bounce\\":{\\"bounceType\\":\\"Permanent\\",\\"bounceSubType\\":\\"NoEmail\\",\\"bouncedRecipients\\":[{\\"emailAddress\\":\\"bob@recipient.example\\"}]}}"}',
            sender="no-reply@sns.amazonaws.com",
            subject="AWS Notification Message",
        ),
        UNKNOWN,
    ),
]


class Harmless(NamedTuple):
    name: str
    mail: str
    kind: str

    def __str__(self) -> str:
        return self.name


def person(text: str, subject: str, **headers: str) -> str:
    return mail(text, sender="Bob <bob@recipient.example>", subject=subject, Content_Type="text/plain; charset=utf-8", **headers)


QUOTED_BOUNCE = """
> This is the mail system at host mx.example.net.
>
> <carol@recipient.example>: host mx.recipient.example[192.0.2.9] said: 550 5.1.1
>     User unknown (in reply to RCPT TO command)
>
> Final-Recipient: rfc822; carol@recipient.example
> Action: failed
> Status: 5.1.1
"""

# What is neither a bounce nor a complaint, and what it is.
HARMLESS = [
    Harmless(
        "away, in English",
        person(
            "I am out of the office until Monday. carol@recipient.example helps.",
            "Automatic reply: Our news",
            Auto_Submitted="auto-replied",
        ),
        "auto_reply",
    ),
    Harmless(
        "away, and no longer there",
        person(
            "Bob no longer works here; his address does not exist any more. Write to carol@recipient.example.", "Out of Office: Our news"
        ),
        "auto_reply",
    ),
    Harmless("away, in German", person("Ich bin bis Montag nicht im Büro.", "Abwesenheitsnotiz: Our news"), "auto_reply"),
    Harmless("away, in French", person("Je suis absent jusqu'à lundi.", "Réponse automatique : Our news"), "auto_reply"),
    Harmless("away, in Italian", person("Sono fuori ufficio.", "Risposta automatica: Our news"), "auto_reply"),
    Harmless("away, in Spanish", person("Estoy fuera de la oficina.", "Respuesta automática: Our news"), "auto_reply"),
    Harmless("away, in Portuguese", person("Estou de férias.", "Resposta automática: Our news"), "auto_reply"),
    Harmless("away, in Russian", person("Я в отпуске до понедельника.", "Автоответ: Our news"), "auto_reply"),
    Harmless("away, in Japanese", person("ただいま外出しており、メールを確認できません。", "自動応答: Our news"), "auto_reply"),
    Harmless("away, in Chinese", person("我不在办公室。", "自动回复：Our news"), "auto_reply"),
    Harmless("away, in Korean", person("부재 중입니다.", "자동 응답: Our news"), "auto_reply"),
    Harmless(
        "away, with the null sender",
        person(
            "I am on holiday. Your message could not be read yet: my mailbox is full of mail.",
            "Re: Our news",
            Auto_Submitted="auto-replied (vacation)",
            Return_Path="<>",
        ),
        "auto_reply",
    ),
    Harmless(
        "an answer by hand",
        person("Thank you! By the way, carol@recipient.example told me that delivery failed for her.", "Re: Our news"),
        "other",
    ),
    Harmless("a bounce that a person quotes", person(QUOTED_BOUNCE, "Re: Undelivered Mail Returned to Sender"), "other"),
    Harmless(
        "a bounce that a person passes on as text",
        person("FYI\n" + QUOTED_BOUNCE.replace("> ", ""), "Fwd: Undelivered Mail Returned to Sender"),
        "other",
    ),
    Harmless(
        "a bounce that a person passes on as a file",
        parts(
            "Content-Type: text/plain\n\nWhat is this?\n",
            "Content-Type: message/rfc822\n\n" + STATUSES[0].mail.replace("=_edge", "=_inner"),
            kind="multipart/mixed",
            sender="Bob <bob@recipient.example>",
            subject="Fwd: failure notice",
        ),
        "other",
    ),
    Harmless(
        "a newsletter about bounces",
        mail(
            "550 5.1.1 <carol@recipient.example>: user unknown. Delivery to the following recipient failed permanently.\n",
            sender="Mail Magazine <news@magazine.example>",
            subject="Undeliverable mail: what to do",
            List_Unsubscribe="<https://magazine.example/u>",
        ),
        "other",
    ),
    Harmless(
        "bait that says a mailbox is full",
        mail(
            "<p>Dear bob@recipient.example, 5 messages were not delivered. <a href='https://bad.example'>Release</a></p>",
            sender="Mail Delivery System <no-reply@bad.example>",
            subject="Undelivered mail: mailbox full",
            Content_Type="text/html",
        ),
        "other",
    ),
    Harmless(
        "a read receipt",
        parts(
            "Content-Type: text/plain\n\nYour message was read.\n",
            "Content-Type: message/disposition-notification\n\nFinal-Recipient: rfc822; bob@recipient.example\nDisposition: manual-action/MDN-sent-manually; displayed\n",
            kind="multipart/report; report-type=disposition-notification",
            sender="Bob <bob@recipient.example>",
            subject="Read: Our news",
        ),
        "receipt",
    ),
    Harmless(
        "deleted unread",
        parts(
            "Content-Type: text/plain\n\nYour message was deleted without being read.\n",
            "Content-Type: message/disposition-notification\n\nFinal-Recipient: rfc822; bob@recipient.example\nDisposition: automatic-action/MDN-sent-automatically; deleted\n",
            kind="multipart/report; report-type=disposition-notification",
            sender="postmaster@recipient.example",
            subject="Not read: Our news",
        ),
        "receipt",
    ),
    Harmless("a read receipt in Japanese, as text", person("メッセージは開封されました。", "開封済み: Our news"), "receipt"),
    Harmless("a challenge", person("Please click the link to prove that you are human.", "Please confirm your message"), "challenge"),
    Harmless(
        "a challenge of a filter",
        mail(
            "Click here to have your mail delivered.",
            sender="Spam Arrest <verify@challenge.example>",
            subject="Re: Our news (verification required)",
        ),
        "challenge",
    ),
    Harmless(
        "a DMARC aggregate report",
        parts(
            "Content-Type: application/zip\nContent-Transfer-Encoding: base64\n\nUEsDBA==\n",
            kind="multipart/mixed",
            sender="noreply-dmarc-support@provider.example",
            subject="Report domain: sender.example Submitter: provider.example Report-ID: 1",
        ),
        "receiver_report",
    ),
    Harmless(
        "a TLS report (RFC 8460)",
        parts(
            "Content-Type: text/plain\n\nTLS report.\n",
            "Content-Type: application/tlsrpt+gzip\n\nx\n",
            kind='multipart/report; report-type="tlsrpt"',
            sender="postmaster@provider.example",
            subject="Report Domain: sender.example",
        ),
        "receiver_report",
    ),
    Harmless(
        "delivered, as asked for",
        parts(
            "Content-Type: text/plain\n\nYour message was successfully delivered.\n",
            status(
                "Final-Recipient: rfc822; bob@recipient.example\nAction: delivered\nStatus: 2.0.0\nDiagnostic-Code: smtp; 250 ok: your mailbox is not full\n"
            ),
        ),
        "delivered",
    ),
    Harmless(
        "a question about a bounce",
        person("Why do I get 550 5.1.1 <carol@recipient.example>: user unknown?", "Question about failure notice"),
        "other",
    ),
    Harmless(
        "a ticket system",
        person("We have received your request. Ticket 42.", "[Ticket 42] Our news", Auto_Submitted="auto-generated"),
        "auto_reply",
    ),
    Harmless(
        "an order of a shop",
        mail(
            "Your order could not be delivered: nobody was at home. 3 attempts.",
            sender="Parcels <noreply@parcels.example>",
            subject="Delivery failed: your parcel",
        ),
        "other",
    ),
    Harmless("nothing", "", "other"),
    Harmless("only a header", "From: MAILER-DAEMON@mx.example.net\nSubject: failure notice\n", "other"),
]
