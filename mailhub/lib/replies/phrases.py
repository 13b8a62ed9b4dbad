"""What mail systems say in English, whoever they are. The first row that fits decides, so what is exact stands above what may mean
several things.

The text has been through words.plain(): lower case, addresses as "@", names of hosts as "&", of block lists as "dnsbl", numbers of hosts
as "ip". In the patterns, words in capitals stand for the alternatives below and " ~ " for up to four words of one sentence.
tests/lib/replies has a sample for each row. Other languages: languages.py; systems with sayings of their own: systems.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mailhub.lib.replies.verdicts import Category

ALTERNATIVES: Mapping[str, str] = {
    "WHO": r"(?:user(?: ?name| ?id)?|recipient|mail ?box|account|address|addressee|alias|local[- ]part|mail ?drop|person|subscriber|rcpt|uid)s?",
    "BOX": r"(?:mail[ -]?box|in-?box|mail[ -]?drop|mail ?dir|mail ?folder|mail ?file|mail ?store|message ?store|mbox|account)(?:'?e?s)?",
    "HOST": r"(?:host|domain|host ?name|domain ?name|mail ?server|server|system|site|node|network|mx|mta|destination|exchanger|&)s?",
    "MAIL": r"(?:message|mail|e-?mail|letter|content|body|data)s?",
    "IS": r"(?:is|was|are|were|be|been|being|has been|have been|had been|seems|appears)",
    "NOT": r"(?:not|cannot|can't|couldn't|isn't|wasn't|aren't|won't|don't|doesn't|didn't|never|unable|failed)",
    "REFUSED": r"(?:reject\w*|refus\w+|den(?:y|ied|ies)|block\w*|declin\w+|disallow\w*|bounc\w+|banned|barred)",
}

Table = Sequence[tuple[Category, str]]

PHRASES: Table = (
    # ------------------------------------------------------------------------------------------------------ our host's name
    (Category.BLOCKED, r"ptr\b|reverse[ -]?(?:dns|lookup|host|address|name|resolution|mapping)|rdns\b|fcrdns|forward[- ]confirmed"),
    (Category.BLOCKED, r"(?:find|resolve|look ?up|verify|validate|determine) your (?:reverse )?(?:client )?(?:host ?name|host|ip|domain|server)"),
    (Category.BLOCKED, r"(?:your|client|sending|connecting) (?:ip|host|server|mta) (?:address )?~ (?:NOT|no) ~ (?:resolve|dns|host ?name)|no dns for ip|bad dns"),
    (Category.BLOCKED, r"(?:helo|ehlo)\b ~ (?:REFUSED|invalid|mismatch|must|does|not|bogus)|(?:invalid|bad|bogus|malformed|forged|fake|wrong) (?:\S+ )?(?:helo|ehlo)"),
    (Category.BLOCKED, r"my name was rejected|need fully[- ]qualified host ?name|(?:helo|ehlo) (?:command )?REFUSED"),
    (Category.BLOCKED, r"dnsbl|spam ?(?:haus|cop|rats)|(?:on|in|by|using|from) (?:\S+ )?(?:rbl|dnsbl)s?\b|rbls? (?:list|check|filter|REFUSED)|(?:ip|host|server|client|network) ~ black[- ]?list\w*"),
    # --------------------------------------------------------------------------------------------------------- authentication
    (Category.CONTENT, r"(?:multiple|duplicate) (?:\S+ ){0,2}(?:headers?|in from)"),
    (Category.AUTH_FAILURE, r"d?marc (?:policy|check|record|fail)|dmarc|dkim|spf\b|arc (?:seal|validation)|sender[- ]?id (?:check|fail|verif)|domainkeys"),
    (Category.AUTH_FAILURE, r"authentication checks? ~ fail|unauthenticated (?:MAIL|sender)|(?:MAIL|sender|domain) IS (?:not|un) ?authenticated"),
    (Category.AUTH_FAILURE, r"required authentication level|authentication (?:requirement|result|information)s? ~ (?:fail|not)|lack of authentication"),
    (Category.AUTH_FAILURE, r"fail(?:s|ed|ing)? ~ authentication (?:check|polic|requirement)|bounce address tag|batv|prvs"),
    (Category.BLOCKED, r"auth(?:entication|enticate)? (?:is )?(?:required|needed|necessary|first|failed|failure)|must ~ (?:authenticate|log ?in)\b"),
    (Category.BLOCKED, r"pop before|check (?:your )?mail first|not logged in|NOT authenticated|bad (?:username|password)|auth command first"),
    (Category.BLOCKED, r"encryption (?:IS )?(?:required|needed)|must issue a starttls|(?:tls|ssl) (?:IS )?(?:required|mandatory)"),
    (Category.NETWORK, r"starttls|tls (?:negotiation|handshake|session|IS|not|error|fail\w*|alert|required|currently)|start tls|mta-sts|dane\b|tlsa\b"),
    (Category.NETWORK, r"certificate (?:verif\w+|expired|not|REFUSED|mismatch|error)|untrusted certificate"),
    # ------------------------------------------------------------------------------------- quotas of ours, before mailboxes'
    (Category.RATE_LIMITED, r"(?:daily|hourly|sending|sender|submission|outgoing|outbound|relay|message|recipient|24[- ]hour) ~ (?:quota|limit|rate) ~ (?:exceed\w*|reached|hit)"),
    (Category.RATE_LIMITED, r"(?:exceed\w*|reached|over|hit) ~ (?:daily|hourly|sending|send|sender|outgoing|outbound|relay|submission|per[- ](?:hour|day|minute)) ~ (?:quota|limit|rate|maximum)"),
    (Category.RATE_LIMITED, r"exceed\w* ~ (?:messages|mails|e-?mails|recipients) (?:\S+ )?(?:per|in|limit)|submissionquota|maximum credits"),
    (Category.RATE_LIMITED, r"receiving (?:MAIL ~ )?(?:at a rate|too (?:quickly|fast|many|much))|receiv(?:ed|ing) too (?:much|many)|at a rate that prevents"),
    # -------------------------------------------------------------------------------------------------------- the whole domain
    (Category.HOST_UNKNOWN, r"null mx|record indicated no|malformed or unexpected name server reply|(?:HOST|@|this) ~ (?:does not|doesn't|do not|never) (?:accept|receive|handle|take) (?:any )?(?:e-?)?mail\b(?! from)"),
    (Category.HOST_UNKNOWN, r"domain IS ~ (?:configured|set up) (?:\S+ )?not to (?:accept|receive)|not (?:accepting|receiving) (?:any )?MAIL for (?:this|the) domain"),
    # ------------------------------------------------------------------------------------------------------------- the sender
    (Category.REJECTED, r"sender(?:'s)? (?:e-?mail )?(?:address |domain |name )?(?:@ )?(?:IS )?(?:\S+ )?(?:REFUSED|not|invalid|unknown|unverified|unresolvable|forbidden|prohibited|undeliverable|restricted|unauthori[sz]ed|malformed)"),
    (Category.REJECTED, r"sender (?:address )?(?:verify|verification|callout)|(?:domain|address) of (?:the )?(?:sender|envelope)|sender ~ domain ~ (?:NOT|no|REFUSED)"),
    (Category.REJECTED, r"(?:invalid|bad|unknown|bogus|unrout\w+|undeliverable|unresolvable|unverified|verify(?:ing)?|rejected|unauthori[sz]ed|illegal|blocked|fake|forged|denied|malformed) (?:\S+ )?(?:sender|return[- ]path|envelope from|from address|mail from)"),
    (Category.REJECTED, r"(?:envelope|originating) (?:sender|domain|address)|return[- ]?path\b|reply[- ]?to address|address in mail from|mail ?from (?:must|IS|address|domain|REFUSED|NOT|has|your|host)"),
    (Category.REJECTED, r"from (?:domain|header|field|address|line) ~ (?:NOT|REFUSED|invalid|must|missing)|your (?:e-?mail )?address ~ (?:REFUSED|NOT (?:allowed|valid|exist))"),
    (Category.REJECTED, r"(?:NOT|without|no|lack\w*|insufficient) ~ (?:permi\w+|authori[sz]\w+|allowed|rights?|privileges?) ~ (?:send|post|submit|mail|e-?mail|write|deliver) (?:MAIL )?(?:to|messages|mail|as|on behalf|from|this|in)\b"),
    (Category.REJECTED, r"NOT (?:an? )?(?:\S+ )?(?:valid|authori[sz]ed|approved|permitted|allowed|trusted|verified|registered|recogni[sz]ed)(?: as an?)? (?:\S+ )?sender"),
    (Category.REJECTED, r"(?:only|limited to|closed|restricted) ~ (?:members|subscribers|internal|authenticated|authori[sz]ed|approved|certain|specific|known) ?(?:senders?|users?|people)?"),
    (Category.REJECTED, r"members?[- ]only|subscribers[- ]only|non-?members?|NOT (?:a )?(?:member|subscri\w+)|moderat(?:ed|or|ion)|delivery (?:IS )?restrict"),
    (Category.REJECTED, r"in (?:my|the|our) allowed[- ](?:list|sender)|white[ -]?list|NOT accepting MAIL from (?:you|this|@|the sender)"),
    (Category.REJECTED, r"(?:does not|doesn't|do not) (?:accept|want) MAIL from|REFUSED MAIL from (?:you|this sender|@|external|outside|unknown)"),
    (Category.REJECTED, r"(?:recipient|user|addressee)'?s? (?:has )?(?:personal )?(?:black|block|REFUSED)[ -]?(?:list|you\b|MAIL from|the sender|by your)"),
    # -------------------------------------------------------------------------------------------------------- what was found in it
    (Category.CONTENT, r"virus|infected|malware|trojan|worm\b|malicious|clamav|eicar"),
    # ------------------------------------------------------------------------------------------------------ lists, reputation
    # What cPanel says, whatever it was.
    (Category.HOST_UNKNOWN, r"account or domain may not exist"),
    (Category.BLOCKED, r"black[- ]?list|block[- ]?list|deny ?list|banned"),
    (Category.BLOCKED, r"blocked (?:by|using|due to|because of) (?:\S+ )?(?:list|&)|IS listed|listed (?:in|on|at|by)|sender ?(?:base|score)|cloudmark|csi ?gateway"),
    (Category.BLOCKED, r"reputation|user complaints?|abusive|abuse (?:from|by)|(?:unusual|unexpected|excessive|suspicious) (?:\S+ )?(?:volume|activity|traffic|behaviou?r)"),
    (Category.BLOCKED, r"(?:ip|host|server|client|netblock|subnet|mta|range|connection|client host|isp) (?:address |ip |@ |host )*(?:\S+ )?(?:IS )?(?:temporarily |permanently |currently )?(?:reject\w*|den(?:y|ied)|block\w*|banned|barred|restricted|deferred|suspected)"),
    (Category.BLOCKED, r"(?:blocked|rejected|denied|refused|bad) (?:\S+ )?(?:ip|client|connection|neighbou?rhood)\b|REFUSED ~ (?:your|this|the) (?:ip|host|server|network|isp|provider)"),
    (Category.BLOCKED, r"NOT (?:accepting|accept) (?:connections|smtp|mail from (?:your|ip|this host))|no smtp service|refused to talk|NOT (?:allowed|permitted|authori[sz]ed) to connect"),
    (Category.BLOCKED, r"(?:smtp|mail|outgoing) ?(?:server|relay|gateway)s? of your|use (?:the|your) (?:\S+ )?(?:isp|provider|smtp|mail ?server|relay)"),
    (Category.BLOCKED, r"(?:dynamic|dial-?up|residential|generic|dsl|broadband|end[- ]user) (?:\S+ )?(?:ip|host|address|range|pool|client|machine|user)s?"),
    (Category.BLOCKED, r"(?:access|connections?|MAIL|smtp|service) (?:\S+ )?from (?:\S+ ){0,3}(?:ip|host|your (?:ip|server|host|network|isp|provider|domain)|this (?:ip|host|server)) ~ (?:REFUSED|NOT|no longer|deferred|prohibited)"),
    (Category.BLOCKED, r"(?:your|this) (?:mail ?)?(?:server|host|ip|network|mta|system|isp) (?:ip )?IS (?:\S+ )?(?:REFUSED|NOT (?:allowed|authori[sz]ed|permitted))|you (?:have been|are) (?:REFUSED|blocked)"),
    (Category.BLOCKED, r"(?:too many|excessive|number of|percentage of) (?:\S+ )?(?:spam|complaints?|(?:unknown|invalid|bad|non-?existent) (?:users?|recipients?|addresses)|errors?|failures)|directory harvest"),
    # --------------------------------------------------------------------------------------------------------------------- spam
    (Category.SPAM, r"spam\w*|junk\b|content rejected|ube\b|uce\b|unsolicited|bulk (?:e-?)?mail|scored? (?:too|of|above|over)|bayes|bogofilter|phish\w*"),
    # ---------------------------------------------------------------------------------------------------------- room and size
    (Category.MAILBOX_FULL, r"BOX ~ (?:full|over ?flow\w*|over (?:its |the )?(?:quota|limit|size)|exceed\w*|out of space|grown|at (?:its )?(?:limit|capacity))"),
    (Category.MAILBOX_FULL, r"(?:full|over-?full) (?:mail ?box|in-?box)|mailbox ?full|(?:recipient|user|account|@) (?:\S+ )?IS (?:\S+ )?(?:full|over)\b"),
    (Category.MAILBOX_FULL, r"over[- ]?(?:the )?(?:\S+ )?quota|quota ~ (?:exceed\w*|full|reached|violat\w*|would|exhausted|over\b)|exceed\w* ~ quota|out of quota|NOT ~ quota"),
    (Category.MAILBOX_FULL, r"(?:disk|storage|space|mail|user|mailbox) ?quota|quota (?:for|error|issue)|mailbox size"),
    (Category.MAILBOX_FULL, r"(?:exceed\w*|reached|over|hit|full) ~ (?:storage|disk|BOX|space|allocation|allotment)|(?:storage|space|disk|inbox|mailbox|allocation) (?:\S+ ){0,3}(?:exceed\w*|reached|full\b|exhausted)"),
    (Category.MAILBOX_FULL, r"out of (?:storage|disk ?space for|mailbox)|local limit|too many messages (?:in|on|for) ~ (?:BOX|recipient|user)|number of messages in ~ BOX"),
    (Category.MAILBOX_FULL, r"(?:not enough|insufficient|no|lack of) (?:\S+ )?(?:space|room|storage) ~ (?:BOX|recipient|user|addressee|store the message)"),
    (Category.TOO_BIG, r"(?:MAIL|file|attachments?|it|total) (?:file |size |length )?(?:\S+ ){0,3}(?:exceed\w*|too (?:big|large|long|huge)|(?:larger|bigger|longer|greater) than|over (?:the )?(?:size|maximum|limit))"),
    (Category.TOO_BIG, r"too (?:big|large) (?:for|MAIL|to|attachment)|too (?:big|large)\b|size[- ]?limit|(?:max\w*|excessive|allowed|permitted) ~ (?:size|length|bytes)"),
    (Category.TOO_BIG, r"exceed\w* ~ (?:size|bytes|length|limit (?:for|of) (?:\S+ )?incoming)|size (?:\S+ ){0,4}(?:exceed\w*|too|larger|greater)"),
    # ----------------------------------------------------------------------------------------------------------- pace and number
    (Category.RATE_LIMITED, r"rate[- ]?(?:limit|control|exceed)\w*|throttl\w+|too (?:fast|quickly|frequent\w*)|slow down|tarpit"),
    (Category.RATE_LIMITED, r"too (?:many|much) (?:\S+ ){0,3}(?:connections?|sessions?|MAIL|concurrent|simultaneous|recipients?|rcpts?|requests?|envelopes?|deliveries|transactions?|smtp|hosts)"),
    (Category.RATE_LIMITED, r"(?:concurrent|simultaneous|parallel|maximum|max|number of|excessive) (?:\S+ ){0,2}(?:connections?|sessions?|recipients?|messages?|concurrency)"),
    (Category.RATE_LIMITED, r"(?:connections?|recipient|message|volume|traffic|thread|transaction) (?:\S+ )?(?:rate|limit|count|concurrency|frequency|control|quota)|limit (?:on|for|of) (?:\S+ )?(?:messages|recipients|connections)"),
    (Category.RATE_LIMITED, r"exceed\w* ~ (?:connections?|rate|recipients?|messages)\b|exceed\w* the (?:maximum|limit)|sending too (?:much|many)"),
    (Category.TEMPORARY, r"gr[ea]y[- ]?list\w*"),
    # ------------------------------------------------------------------------------------------- closed, not necessarily gone
    (Category.SUSPENDED, r"(?:WHO|domain|service|customer|@) (?:\S+ )?(?:IS )?(?:\S+ ){0,2}(?:suspend\w*|disabled\b|de-?activat\w*|inactiv\w*|locked\b|frozen|terminated|closed\b|on hold|dormant|expired|discontinued|parked|cancell?ed|not active)"),
    (Category.SUSPENDED, r"(?:suspended|disabled|inactive|deactivated|locked|frozen|closed|terminated|expired|cancell?ed|dormant) (?:WHO|domain|for|due to)"),
    (Category.SUSPENDED, r"inactivity|inactive\b|(?:not|no longer) (?:an? )?active\b|NOT (?:logged|signed) in (?:for|since)|(?:temporarily|currently) (?:disabled|suspended|limited)|non-?payment|over quota for"),
    # ------------------------------------------------------------------------------------------------------------- nobody there
    (Category.REJECTED, r"relay(?:ing)? ~ (?:REFUSED|not|prohibited|forbidden|disabled|attempt)|relay access|(?:NOT|no|without|refuse to) ~ relay\w*|(?:open|illegal|unauthori[sz]ed|third[- ]party)[- ]?relay"),
    (Category.REJECTED, r"rcpthosts|not (?:in|one of) (?:my|our|the) (?:list of )?(?:allowed )?(?:local domains|domains|relay)|we do not (?:handle|host|relay)|(?:NOT|no) (?:a )?(?:local|hosted) domain"),
    (Category.HOST_UNKNOWN, r"(?:host|domain|domain name|host ?name|mail server|site|node)s? (?:(?!WHO|@)\S+ ){0,4}(?:unknown(?! WHO)|NOT (?:be )?(?:found(?! try)|exist|known|valid|resolved?|located|registered)|invalid|non-?exist[ae]nt|unresolvable)"),
    (Category.HOST_UNKNOWN, r"(?:unknown|no such|invalid|non-?exist[ae]nt|illegal|unrout\w+|unresolvable|unregistered|expired) (?:\S+ )?(?:mail )?(?:domain|host|hostname|destination)"),
    (Category.HOST_UNKNOWN, r"nxdomain|(?:no|bad|illegal|missing|without|invalid|find) (?:\S+ ){0,2}mx\b|mx (?:records? |hosts? )?(?:\S+ ){0,3}(?:NOT|non-?existent|invalid|missing|point)|mx records point"),
    (Category.HOST_UNKNOWN, r"NOT (?:be )?(?:\S+ )?(?:find|found|locate|resolve|look ?up|route to) (?:\S+ ){0,3}(?:host|domain|mail exchanger|via dns)|could not be found via dns|name or service not known|answer with no data|authoritative answer|domain is not reachable"),
    (Category.REJECTED, r"NOT a registered gateway user"),
    (Category.USER_UNKNOWN, r"(?:no|not) such (?:\S+ )?(?:WHO|name|mailing list|group|here|local|at this)|no (?:\S+ )?(?:mail ?box|account|user|person) ~ (?:by that|with that|that name|here|called|named|for)"),
    (Category.USER_UNKNOWN, r"(?:unknown|invalid|incorrect|wrong|non-?exist[ae]nt|unrecogni[sz]ed|undefined|nonlocal|unlisted|obsolete|dead) (?:or \S+ )?(?:\S+ )?(?:WHO|e-?mail|final delivery userid|destination address|local)"),
    (Category.USER_UNKNOWN, r"(?:WHO|e-?mail|@) (?:\S+ ){0,4}(?:IS |does |could |can )?(?:\S+ )?(?:unknown|NOT (?:be )?(?:found|known|exist\w*|valid|recogni[sz]ed|listed|registered|defined|located|resolved|local|matched)|invalid|non-?exist[ae]nt)"),
    (Category.USER_UNKNOWN, r"(?:does not|doesn't|don't|doesnt|do not|did not|didn't|not|no longer) (?:\S+ )?(?:exist\b|have an? (?:\S+ )?(?:account|mailbox|user|e-?mail))"),
    (Category.USER_UNKNOWN, r"(?:NOT|no longer) (?:a |an )?(?:valid|listed|known|registered|existing|working|real|subscribed|employed|recogni[sz]ed) (?:\S+ )?(?:WHO|e-?mail|here|at (?:this|host)|in (?:\S+ )?(?:directory|domino|public|name)|by|any ?more|destination)"),
    (Category.USER_UNKNOWN, r"no longer (?:\S+ ){0,3}(?:available|valid|in use|in service|works?|employed|at (?:this|our|host|the)|used|accept\w*|receiv\w+|monitored|here|with)"),
    (Category.USER_UNKNOWN, r"NOT (?:be )?(?:\S+ )?(?:find|found|locate|resolve|recogni[sz]e|verify) (?:\S+ ){0,3}(?:WHO|@)|recipientnotfound|recipnotfound|not our (?:customer|user)|unknown recipient"),
    (Category.USER_UNKNOWN, r"(?:WHO|he|she) (?:\S+ )?(?:IS |has )?(?:\S+ )?(?:removed|deleted|erased|purged|moved|left (?:the|our)|changed)|moved to (?:a )?new|(?:deleted|removed) (?:WHO)|address ~ changed"),
    (Category.USER_UNKNOWN, r"(?:bad|illegal|malformed) (?:destination|recipient|rcpt)|(?:destination|recipient)(?: \S+)? (?:address )?(?:syntax|malformed|illegal)|badrcptto|unknown or illegal|unrout\w+ (?:mail )?address"),
    (Category.USER_UNKNOWN, r"no valid recipients?|(?:user|recipient|address|local recipient|mailbox) (?:table|lookup failed)|lookup failed for|sorry no mailbox|chkusr|user unknown|all relevant"),
    # ------------------------------------------------------------------------------------------------------------------ the way
    (Category.NETWORK, r"too many hops|hop ?count|(?:mail|routing|message|forwarding|delivery|infinite|mailer) loop|loop(?:s|ing)? back|loop (?:detected|alert)|loops?\b|maximum (?:number of )?hops"),
    (Category.EXPIRED, r"queue (?:\S+ ){0,2}too long|(?:retry|queue|delivery|message|mail|envelope|time|lifetime)(?: \S+){0,2} (?:exceeded|expired|exhausted|elapsed)|message (?:too old|timeout)|expired\b"),
    (Category.EXPIRED, r"failing for a long time|giv(?:ing|en) up\b|(?:delivery )?failed \d+ attempts|max\w* ~ (?:retr\w+|attempts|tries)|queue (?:life)?time|allowed queue period|delivery time"),
    (Category.NETWORK, r"connection ~ (?:timed[ -]?out|refused|reset|lost|dropped|failed|closed|aborted|died|broken|error|time-?out)|(?:lost|dropped|broken|no|failed|establish\w*) ~ connection"),
    (Category.NETWORK, r"(?:NOT|unable|failed|trying|attempt\w*) (?:to )?(?:\S+ )?(?:connect|contact|reach|talk|communicate)|no route to host|(?:network|host|server) (?:IS )?(?:unreachable|down)"),
    (Category.NETWORK, r"HOST (?:\S+ ){0,2}(?:NOT|didn't|did not) (?:respond\w*|answer\w*|reachable|available|accept our)|NOT respond\w*|no answer from|conversation with|timed[ -]?out|time-?out"),
    (Category.NETWORK, r"(?:dns|name ?server|name service|mx|resolver) (?:\S+ ){0,3}(?:fail\w*|error|problem|unavailable|trouble|temporar\w*)|servfail|temporary ~ (?:lookup|resolution|dns)|host NOT found try|routing (?:error|fail\w*|problem)|NOT ~ rout(?:e|ing)\b"),
    # -------------------------------------------------------------------------------------------------------------- time is up
    (Category.EXPIRED, r"(?:undeliver\w+|deliver\w*|trying|tried|attempt\w*|retr\w+|delayed|unsuccessful\w*) (?:\S+ ){0,6}(?:for|after|within|in|over|since|last|past|than) (?:\S+ ){0,3}\d+(?:\.\d+)? ?(?:days?|hours?|minutes?|hrs?|weeks?|attempts?|tries|times|seconds?|h|d)\b"),
    (Category.EXPIRED, r"not yet been delivered|(?:not|n't) (?:yet )?(?:been )?(?:delivered|received) (?:yet|after)|delayed\b|will (?:continue|keep) (?:to )?(?:try|be|attempt)\w*|still (?:trying|being)|warning message only"),
    # ------------------------------------------------------------------------------------------------------- form and content
    (Category.SYSTEM, r"duplicated message-id|loop back warning|loop alert"),
    (Category.CONTENT, r"attachments?|executable|file ?(?:name|type|extension)s?|(?:prohibited|forbidden|objectionable|offensive|inappropriate|banned|restricted) (?:\S+ )?(?:content|word|phrase|file|url|link)s?"),
    (Category.CONTENT, r"(?:MAIL|subject|header)s? (?:\S+ ){0,2}(?:content|contain\w*|format|syntax|malformed|corrupt\w*|encoding|missing|compliant)|content (?:\S+ )?(?:filter\w*|REFUSED|polic\w+|restrict\w+|scan\w*|not|inspection)"),
    (Category.CONTENT, r"rfc ?-?\d{3,4}|rfc[- ]?compliant|8-?bit|charset|character set|smtputf8|utf-?8|bare (?:lf|cr|linefeed)s?|line (?:IS )?too long|non-?ascii|null byte|mime\b|conversion"),
    (Category.CONTENT, r"(?:missing|invalid|illegal|no) (?:\S+ ){0,2}(?:headers?|from header|message-id|subject|date|to header)|headers? (?:\S+ )?NOT accepted|message-id"),
    # ----------------------------------------------------------------------------------------------------------------- their system
    (Category.SYSTEM, r"(?:local|internal|server|system|software|processing|database|unexpected|fatal|disk|i/o|mailer|config\w*|ldap|program|technical|application|script|pipe|runtime|scanner|filter|unspecified|generic|backend) (?:\S+ )?(?:error|problem|failure|fault|difficult\w+|trouble)s?"),
    (Category.SYSTEM, r"mis-?config\w*|NOT (?:to )?(?:create|open|write|lock|read|access|fork|exec|allocate|append|chdir|save|store|load|queue|process|complete|perform) |permission denied|no such file|input/output|out of (?:memory|resources)"),
    (Category.SYSTEM, r"resources? ~ (?:unavailable|shortage|exhaust\w*)|insufficient (?:system|disk|resources|memory|server|storage)|no space|(?:disk|file ?system|system|spool|storage) (?:IS )?full|(?:not enough|low|out of) ~ (?:space|storage|memory)"),
    (Category.SYSTEM, r"service (?:\S+ )?(?:NOT|unavailable|shutting|closing|REFUSED|down|temporarily)|(?:transaction|delivery agent|process|program|transport|script|alias|command) (?:\S+ )?(?:failed|died|exited|returned|crash\w*|expansion)|procmail|exit(?:ed)? (?:status|with|code)"),
    (Category.SYSTEM, r"command (?:\S+ )?(?:NOT (?:recogni[sz]ed|implemented)|unrecogni[sz]ed|out of|rejected)|bad (?:sequence|command)|syntax error|unrecogni[sz]ed command|not implemented|need (?:mail|rcpt|data)|out of sequence"),
    (Category.SYSTEM, r"overload\w*|(?:server|system|host) (?:IS )?(?:too )?(?:busy|unavailable|shutting|down)|maintenance|too busy|load average|shutting down|(?:list|alias) expansion"),
    # --------------------------------------------------------------------------------------------------------------------- policy
    (Category.BLOCKED, r"polic(?:y|ies)|administrative\w*|prohibited|security|firewall|compliance|acl\b|access (?:control|list|rule)|terms of|violat\w*|blocked by (?:\S+ )?(?:admin\w*|filter|rule|gateway|custom)"),
)

# Words that say little: they decide where neither the rows above nor the code did.
HINTS: Table = (
    (Category.EXPIRED, r"delay|deferred"),
    (Category.TEMPORARY, r"try (?:\S+ )?(?:again|later)|again later|temporar\w*|later\b|retry"),
    (Category.REJECTED, r"access (?:IS )?(?:denied|not)|NOT (?:allowed|permitted|authori[sz]ed|accepted|accepting|welcome|wanted|accept)|reject\w*|refus\w*|denied|unauthori[sz]ed|declin\w*|filtered"),
    (Category.BLOCKED, r"block\w*|restrict\w*|unwelcome"),
    (Category.USER_UNKNOWN, r"(?:mail ?box|user|recipient|account|address) (?:\S+ )?(?:IS )?(?:NOT available|unavailable|NOT reachable|undeliverable)|undeliverable address"),
    (Category.SYSTEM, r"errors?\b|failed|failure|problem|unavailable|transaction"),
)
