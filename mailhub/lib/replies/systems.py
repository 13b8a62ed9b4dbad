"""Sayings of particular mailbox providers and mail systems, where they mean more, or something else, than the words do elsewhere.

A system's rows count when its mark is in the text or in the name of the host that spoke. Its text has been through words.flat() only:
codes and links are still there, since some say it nowhere else. tests/lib/replies has a sample for each row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mailhub.lib.replies.phrases import Table
from mailhub.lib.replies.verdicts import Category


class System(NamedTuple):
    #: what only this system says, or what its hosts are called
    mark: str
    rows: Table


SYSTEMS: Mapping[str, System] = {
    "gmail": System(
        r"gsmtp|google|gmail",
        (
            (Category.USER_UNKNOWN, r"nosuchuser|account that you tried to reach does not exist"),
            (Category.SUSPENDED, r"disableduser|account that you tried to reach is (?:disabled|inactive)|inactive ?user"),
            (Category.RATE_LIMITED, r"receivingrate|dailylimit|sendinglimit|unusual rate of unsolicited|limit exceeded|5\.4\.5|daily smtp relay"),
            (Category.MAILBOX_FULL, r"overquota|out of storage"),
            (Category.SPAM, r"likely unsolicited|spam classification|detected as spam"),
            (Category.AUTH_FAILURE, r"unauthenticatedmail|[45]\.7\.(?:26|27|30|31|32|40)\b|\bspf\b|dkim|dmarc"),
            (Category.BLOCKED, r"\bptr\b|[45]\.7\.25\b"),
            (Category.BLOCKED, r"low reputation|reputation of|not authorized to send email directly"),
            (Category.BLOCKED, r"blockedmessage|potential security issue|policy that prohibited"),
            (Category.CONTENT, r"[45]\.6\.0|messages? (?:missing|with (?:multiple|duplicate))|from: header|duplicate header|rfc 5322|rfcmessagenoncompliant"),
            (Category.NETWORK, r"[45]\.7\.29\b|dns type '\w+' lookup|recipient server did not accept our requests|dns error: .{0,40}(?:timeout|servfail|failed)"),
            (Category.HOST_UNKNOWN, r"domain name not found|returned answer with no data|couldn't be found"),
            (Category.USER_UNKNOWN, r"address couldn't be found|address not found"),
        ),
    ),
    # What Google writes when a group takes no mail: in the reader's language, always with this link.
    "google groups": System(
        r"groups\.google\.com/support|google groups|google gruppen|googlegroups",
        (
            (Category.REJECTED, r"groups\.google\.com/support"),
            (Category.REJECTED, r"do(?:es)? not have permission|may not have permission|don't have permission"),
        ),
    ),
    "microsoft": System(
        r"outlook\.com|hotmail|microsoft|exchange|office365|\.live\.com|resolver\.|storedrv|protection\.outlook|queue\.expired|prod\.exchangelabs|smtpsend|s\d{4}\)",
        (
            (Category.EXPIRED, r"queue\.expired|message expired"),
            (Category.USER_UNKNOWN, r"resolver\.adr\.(?:recip|ex|invalid|badrecip)\w*|recipient ?not ?found|recipient not found by smtp address lookup"),
            (Category.USER_UNKNOWN, r"5\.4\.1 (?:@ ?:? ?)?recipient address(?:es)? rejected ?:? access denied|all recipient addresses rejected ?: access denied|directory based edge|dbeb"),
            (Category.USER_UNKNOWN, r"mailbox unavailable \(s?20\d+\)|requested action not taken: mailbox unavailable|wasn't found at|couldn't be found at|isn't in the recipient's|address you entered couldn't be found"),
            (Category.USER_UNKNOWN, r"5\.1\.10\b|5\.1\.4 .{0,20}ambiguous"),
            (Category.AUTH_FAILURE, r"5\.7\.(?:509|515|23)\b|does not pass dmarc|required authentication level|5\.7\.12 .{0,40}not authenticated"),
            (Category.REJECTED, r"resolver\.rst\.(?:auth|not|restrict|recipient)\w*|authrequired|notauthorized|sendasdenied|senderrestrict|5\.7\.(?:124|129|133|134|135|136)\b|allowed-senders|only accepts? messages from"),
            (Category.REJECTED, r"5\.1\.8\b|bad outbound sender|5\.7\.(?:501|502|503)\b|weren't recognized as a valid sender|5\.1\.90\b|tenantattribution|5\.7\.64\b"),
            (Category.RATE_LIMITED, r"exceeded (?:the|your|their|its) (?:threshold|limit|maximum number|daily|tenant)|5\.2\.12[12]\b|5\.7\.(?:232|233|705)\b|thread limit|recipientthreadlimit|submissionquota|recipient rate limit|message rate limit"),
            (Category.BLOCKED, r"5\.7\.(?:511|513|606|60\d|61\d|62\d|63\d|64\d|70[38]|750)\b|banned sending ip|on our block list|4\.7\.(?:5\d\d|65\d)\b|s31\d\d\)|ip reputation|access denied, (?:please|traffic)|block ?list"),
            (Category.BLOCKED, r"host_not_authori|not authenticated to send anonymous|5\.7\.57\b|rejected by (?:an )?(?:organization|transport) (?:policy|rule)|transport\.rules\.reject|trafficnotallowed"),
            (Category.MAILBOX_FULL, r"shutoffquota|quotaexceeded|storedrv\.deliver.{0,80}(?:quota|full)|5\.2\.2\b|mailbox is full"),
            (Category.TOO_BIG, r"sendsizelimit|recipsizelimit|sizelimit|5\.2\.3\b|5\.3\.4\b|message ?size|too large"),
            (Category.SUSPENDED, r"mailboxdisabled|storedrv\.deliver.{0,60}(?:disabled|unavailable)|mailbox (?:is )?disabled|accountdisabled"),
            (Category.HOST_UNKNOWN, r"5\.4\.310\b|dns domain .{0,60}does not exist|infodomainnonexistent|infonorecords|dnsdomaindoesnotexist"),
            (Category.NETWORK, r"hop count exceeded|loop ?detect\w*|\.loop|5\.4\.(?:6|14|312)\b|4\.4\.31\d\b|unable to (?:connect|relay recipient in non-accepted)|primary target ip address responded"),
            (Category.EXPIRED, r"4\.4\.7\b|4\.4\.8\b|delivery time-?out"),
            (Category.SPAM, r"5\.7\.1 .{0,60}(?:spam|junk)|scl|content ?filter|rejected as spam"),
            (Category.CONTENT, r"5\.6\.11\b|smtpsend\.suppress|content(?:conversion|\.invalid)|5\.6\.\d|5\.1\.20\b"),
            (Category.SYSTEM, r"storedrv|mapiexception|routing\.norout\w*|5\.3\.\d|5\.2\.14\b|agentgenerated|submission\.exception"),
        ),
    ),
    "yahoo": System(
        r"yahoo|aol\b|aol\.com|verizonmedia|oath\b|ymail|rocketmail",
        (
            (Category.USER_UNKNOWN, r"user doesn't have an? \S+ account|mailbox not found|not a valid recipient|no such (?:user|mailbox)"),
            (Category.SUSPENDED, r"disabled or discontinued|#102\]|not accepting any mail|has been inactive"),
            (Category.BLOCKED, r"\[tss?\d\d\]|\[bl\d\d\]|user complaints|unexpected volume|rtr:|rly:|dyn:|hvu:|\[ip[ts]s?\d+\]|resources temporarily restricted"),
            (Category.TEMPORARY, r"\[gl\d\d\]"),
            (Category.BLOCKED, r"policy reasons|\[ph\d\d\]|\[299\]"),
            (Category.AUTH_FAILURE, r"\[dmarc\]|dmarc"),
            (Category.MAILBOX_FULL, r"over quota|mailbox full|quota exceeded"),
            (Category.SYSTEM, r"will not accept delivery|requested mail action aborted"),
        ),
    ),
    "apple": System(
        r"icloud|\bme\.com|mac\.com|apple\.com|akadns|\[(?:cs|hm|hme)\d+\]",
        (
            (Category.USER_UNKNOWN, r"unknown or illegal alias|user does not exist"),
            (Category.BLOCKED, r"\[hm\d+\]|not accepting connections|ipcheck\.proofpoint"),
            (Category.SPAM, r"\[cs\d+\]"),
            (Category.AUTH_FAILURE, r"dmarc|authentication results|unauthenticated"),
            (Category.MAILBOX_FULL, r"over ?quota|mailbox full"),
        ),
    ),
    "gmx": System(
        r"gmx|nemesis|kundenserver|1and1|1und1|mail\.com|web\.de|ionos",
        (
            (Category.BLOCKED, r"bad dns ptr|c=rdns|ip address is (?:black|block)|policy restrictions|access denied|no smtp service|message refused|c=bl|c=hi"),
            (Category.USER_UNKNOWN, r"requested action not taken: mailbox unavailable|c=nouser|invalid or unknown"),
            (Category.MAILBOX_FULL, r"exceeded storage allocation|quota exceeded"),
            (Category.AUTH_FAILURE, r"c=dmarc|c=spf|c=dkim"),
            (Category.RATE_LIMITED, r"c=re|c=rl|too many"),
        ),
    ),
    "mail.ru": System(
        r"mail\.ru|mail system at mail",
        (
            (Category.USER_UNKNOWN, r"invalid mailbox|user not found|no such user|local mailbox .{0,60}unavailable: user"),
            (Category.SUSPENDED, r"account is disabled|mailbox is (?:blocked|frozen)"),
            (Category.SPAM, r"notspam|spam message"),
            (Category.BLOCKED, r"access denied|not allowed to send"),
        ),
    ),
    "yandex": System(
        r"yandex|ya\.ru",
        (
            (Category.USER_UNKNOWN, r"no such user|bad recipient address syntax"),
            (Category.SPAM, r"suspicion of spam|spam-?id|message rejected"),
            (Category.RATE_LIMITED, r"message rate limit|too many"),
            (Category.BLOCKED, r"policy rejection|blocked"),
        ),
    ),
    # Tencent: QQ and its mail for companies.
    "tencent": System(
        r"qq\.com|exmail|foxmail|tencent|mxbizesmtp|esmtp qq mail",
        (
            (Category.USER_UNKNOWN, r"mailbox (?:not found|unavailable or access denied)|bad address syntax|no such user|non-?existent"),
            (Category.RATE_LIMITED, r"frequency limited|too many|connections? exceed"),
            (Category.REJECTED, r"rejected by recipients|sender address format|mail is rejected"),
            (Category.SPAM, r"suspected (?:spam|bounce attacks)|content denied|behaviou?r spam|content rejected"),
            (Category.BLOCKED, r"connection denied|ip denied|dns check fail\w*|rejected by policy"),
        ),
    ),
    # NetEase (163, 126, yeah.net): a code of two halves for everything.
    "netease": System(
        r"163\.com|126\.com|netease|yeah\.net|\b(?:dt|mi|hl|rp):[a-z]{3}\b",
        (
            (Category.SPAM, r"dt:(?:spm|zip)|mi:spb|mi:nhd"),
            (Category.AUTH_FAILURE, r"mi:spf|mi:dmc|hl:itd"),
            (Category.RATE_LIMITED, r"rp:(?:qrc|trc|cel|ctl)|hl:(?:icc|itc|ifc|mep)|mi:(?:sfq|stc|dgc)"),
            (Category.BLOCKED, r"hl:(?:rep|ihu)|mi:bl|reject(?:ed)? by blacklist"),
            (Category.REJECTED, r"dt:sum|mi:nsd|null sender"),
            (Category.USER_UNKNOWN, r"user not found|invalid user|no such user"),
            (Category.SUSPENDED, r"user (?:suspended|locked|has been locked)"),
        ),
    ),
    # docomo answers "Unknown user" after the mail's text where its subscriber does not want the sender: only in reply to RCPT it is true.
    "docomo": System(
        r"docomo",
        (
            (Category.REJECTED, r"unknown user.*\[data\]"),
            (Category.USER_UNKNOWN, r"unknown user|550 \d* ?unknown"),
            (Category.SYSTEM, r"system busy|service not available"),
        ),
    ),
    "softbank": System(
        r"softbank|vodafone|jp-[dhtckrnsq]\.ne|disney\.ne|i\.softbank",
        (
            (Category.USER_UNKNOWN, r"invalid recipient|not (?:a )?valid recipient|user unknown"),
            (Category.BLOCKED, r"mailbox is blocked|blocked"),
        ),
    ),
    # Orange: a number in each reply.
    "orange": System(
        r"orange\.fr|wanadoo|ofr[_\d]|francetelecom",
        (
            (Category.BLOCKED, r"ofr\w*[ _](?:10[1-9]|11\d)|veuillez verifier"),
            (Category.RATE_LIMITED, r"ofr\w*[ _](?:109|503|504|514)|too many connections"),
            (Category.USER_UNKNOWN, r"ofr\w*[ _](?:416|41[0-5]|418|419)|adresse d au moins un destinataire invalide"),
            (Category.MAILBOX_FULL, r"ofr\w*[ _]417"),
            (Category.SUSPENDED, r"ofr\w*[ _](?:42[06])|boite aux lettres suspendue"),
            (Category.REJECTED, r"ofr\w*[ _](?:40[0-8])|sender address rejected"),
            (Category.SPAM, r"ofr\w*[ _](?:506|51\d)|mail rejete"),
            (Category.SYSTEM, r"ofr\w*[ _](?:50[0125]|99\d)|service refuse"),
        ),
    ),
    "facebook": System(
        r"facebook|postmaster\.facebook|\b(?:rcp|int|msg|con|dns|pol)-[pt]\d\b",
        (
            (Category.USER_UNKNOWN, r"rcp-p\d"),
            (Category.BLOCKED, r"dns-[pt]\d|pol-[pt]\d"),
            (Category.RATE_LIMITED, r"con-t\d|msg-t\d"),
            (Category.SYSTEM, r"int-t\d|rcp-t\d"),
            (Category.REJECTED, r"int-p\d"),
            (Category.CONTENT, r"msg-p\d"),
        ),
    ),
    "mimecast": System(
        r"mimecast",
        (
            (Category.USER_UNKNOWN, r"invalid recipient|possibly incorrect|recipient address .{0,30}not found"),
            (Category.AUTH_FAILURE, r"anti-spoofing|spf (?:hard|sender)|dns authentication|dmarc"),
            (Category.BLOCKED, r"administrative prohibition|ip reputation|poor reputation|security policies|locally blacklisted|blocked senders|rejected by header"),
            (Category.TEMPORARY, r"internal resources? (?:is |are )?temporarily unavailable"),
            (Category.REJECTED, r"open relay not allowed|submitter failed|relay"),
            (Category.SPAM, r"signature was detected|spam"),
        ),
    ),
    "proofpoint": System(
        r"proofpoint|pphosted|ppe-hosted",
        (
            (Category.BLOCKED, r"blocked - see|ipcheck|dnsbl-lookup|local policy violation|pdr"),
            (Category.USER_UNKNOWN, r"user unknown|invalid recipient"),
            (Category.RATE_LIMITED, r"deferred|too many"),
        ),
    ),
    "barracuda": System(
        r"barracuda",
        (
            (Category.BLOCKED, r"barracudacentral|blocked by|client host|:blocked\)|intent analysis"),
            (Category.SPAM, r"message content rejected|bulk email filter|ube,"),
            (Category.USER_UNKNOWN, r"no such|user unknown|invalid recipient|recipient .{0,40}unknown"),
            (Category.RATE_LIMITED, r"rate control"),
        ),
    ),
    # American access providers, each with a word of its own before the reason.
    "cox": System(r"cox\.(?:net|com)|\bcx(?:bl|sndr|mxrt|rj|dns|sm)\w*", ((Category.BLOCKED, r"\bcx(?:bl|mxrt|dns|rj)\w*"), (Category.REJECTED, r"\bcxsndr\w*"), (Category.RATE_LIMITED, r"\bcxsm\w*"))),
    "spectrum": System(r"charter|spectrum|rr\.com|twc|aup#|\be\d{4}\b", ((Category.BLOCKED, r"aup#|\be[23]\d{3}\b"),)),
    "att": System(r"att\.net|sbcglobal|bellsouth|prodigy|attrbl|flp[ihd]\d", ((Category.BLOCKED, r"attrbl|abuse_rbl|521 521"),)),
    "comcast": System(r"comcast", ((Category.BLOCKED, r"\bbl\d{6}|\brl\d{6}|not accept mail from (?:your|dynamic)"), (Category.USER_UNKNOWN, r"not our customer"))),
    "t-online": System(r"t-online|t-ipnet", ((Category.BLOCKED, r"a problem occurred|\(bl\)|tosa@"),)),
    "free": System(r"free\.fr|proxad", ((Category.BLOCKED, r"too many spams? from your ip|spam detected from"),)),
    "godaddy": System(r"secureserver|godaddy|\bib\d{3}\b", ((Category.SPAM, r"\bib(?:212|302|504|10[56])\b|spam"), (Category.BLOCKED, r"\bib(?:103|104|108|11\d|007)\b|rbl reject"), (Category.RATE_LIMITED, r"\bib(?:401|50[1-3]|60\d|61\d|70\d)\b"))),
    "zoho": System(r"zoho", ((Category.BLOCKED, r"rejected by destination domain|541 5\.4\.1"), (Category.AUTH_FAILURE, r"dmarc policy"))),
    # Lists of addresses that an e-mail service no longer sends to.
    "suppressed": System(
        r"amazon ses|sendgrid|mailgun|sparkpost|postmark|mailjet|suppression|drop",
        (
            (Category.USER_UNKNOWN, r"recent history of (?:hard )?bounc\w+|bounced address|on (?:the|our|your) (?:\S+ )?suppression list|not delivering to previously bounced"),
            (Category.REJECTED, r"unsubscribed address|not delivering to (?:previously )?unsubscribed|spam reporting address|complained"),
        ),
    ),
    # i.ua and email.ua give a page of their own for each reason.
    "i.ua": System(r"mail\.i\.ua|email\.ua", ((Category.SUSPENDED, r"/err/3/|frozen"), (Category.USER_UNKNOWN, r"/err/2/"), (Category.MAILBOX_FULL, r"/err/4/"), (Category.BLOCKED, r"/err/[15-9]/"))),
    "domino": System(
        r"domino|lotus|notes",
        (
            (Category.USER_UNKNOWN, r"not listed in|not (?:found )?in (?:the )?(?:public|domino)|unable to (?:find|locate) user|no such user|user \S+ (?:\(@ ?\) )?not"),
            (Category.SYSTEM, r"router:|database|failed to|unable to open"),
        ),
    ),
    # Exchange before 2007 and its X.400: numbers, not words.
    "exchange 5.5": System(
        r"msexch|mts-id|exchange",
        (
            (Category.USER_UNKNOWN, r"000c05a6|unknown recipient|recipient name is not recognized|00030000|000c0595"),
            (Category.REJECTED, r"00010256|0001029[0-9a-f]|00000000: reason: permissions|permission"),
            (Category.SYSTEM, r"000b09[0-9a-f]{2}|000b099c"),
            (Category.EXPIRED, r"000c05b4|could not be delivered in time"),
            (Category.SYSTEM, r"000d09[0-9a-f]{2}"),
        ),
    ),
}

# What providers and e-mail services call it themselves, in a header or an event of their own: PowerMTA, SES, SendGrid, Postmark, SparkPost.
LABELS: Mapping[str, Category] = {
    "bad-mailbox": Category.USER_UNKNOWN,
    "bad-domain": Category.HOST_UNKNOWN,
    "inactive-mailbox": Category.SUSPENDED,
    "quota-issues": Category.MAILBOX_FULL,
    "spam-related": Category.SPAM,
    "spam-content": Category.SPAM,
    "virus-related": Category.CONTENT,
    "content-related": Category.CONTENT,
    "policy-related": Category.BLOCKED,
    "invalid-sender": Category.REJECTED,
    "relaying-issues": Category.REJECTED,
    "message-expired": Category.EXPIRED,
    "no-answer-from-host": Category.NETWORK,
    "routing-errors": Category.NETWORK,
    "bad-connection": Category.NETWORK,
    "bad-configuration": Category.SYSTEM,
    "protocol-errors": Category.SYSTEM,
    "permanent/noemail": Category.USER_UNKNOWN,
    "permanent/suppressed": Category.USER_UNKNOWN,
    "permanent/onaccountsuppressionlist": Category.USER_UNKNOWN,
    "permanent/general": Category.REJECTED,
    "transient/mailboxfull": Category.MAILBOX_FULL,
    "transient/messagetoolarge": Category.TOO_BIG,
    "transient/contentrejected": Category.SPAM,
    "transient/attachmentrejected": Category.CONTENT,
    "transient/customtimeoutexceeded": Category.EXPIRED,
    "transient/general": Category.TEMPORARY,
    "undetermined/undetermined": Category.OTHER,
}
