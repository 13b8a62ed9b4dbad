"""Tables of the words by which one kind of mail is told from another, and one part of a bounce from the next. In ten languages."""

from __future__ import annotations

import re


def marked(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE)


# ------------------------------------------------------------------------------------------------------------------- who writes

# Local parts and names of those that send bounces.
DAEMON = marked(
    r"mailer[-_ ]?daemon",
    r"mail[-_ ]?daemon",
    r"post[-_]?master",
    r"\bmdaemon",
    r"mail(?:er)?[ -_]?(?:delivery|system|server|router|administrator|gateway|admin\b)",
    r"delivery (?:system|sub-?system|service|agent|status|notification)",
    r"system administrator",
    r"systemadministrator",
    r"administrateur syst[eè]me",
    r"internet mail (?:delivery|service|connector)",
    r"microsoft (?:outlook|exchange)",
    r"undeliver",
    r"^<?bounces?[@+-]",
    r"^\W*<>\W*$",
    r"interscan",
    r"(?:mail|content|spam|e-?mail|virus)[ -]?(?:filter|firewall|marshal|sweeper|guard|gateway|scanner)",
    r"returned mail",
    r"mailsystem",
    r"メール(?:配信|システム|サーバ)",
    r"\bmail-?(?:robot|agent)",
)

# Their From says nothing, and yet they report.
NOTIFIERS = marked(r"no-?reply@sns\.amazonaws\.com", r"^\S*-admin@", r"listserv", r"majordomo", r"\bfml\b", r"mms", r"vtext", r"sms")

# ------------------------------------------------------------------------------------------------------------------ what it is about

BOUNCE_SUBJECT = marked(
    r"undeliver",
    r"un-deliver",
    r"non[- ]?deliver",
    r"not (?:be )?delivered",
    r"(?:delivery|deliver) (?:status|failure|fail|has failed|failed|problem|error|report|delayed|notification|incomplete|unsuccessful)",
    r"(?:mail|message|e-?mail)\b.{0,24}(?:delivery|deliver\w*|failure|failed|returned|rejected|delayed|bounced|blocked|error)",
    r"fail(?:ure|ed) (?:notice|delivery|notification|report)",
    r"returned (?:mail|message|to sender|email)",
    r"(?:returning|return) message",
    r"could(?: not|n't) (?:be )?(?:deliver|sen)",
    r"delivery (?:notification|report|error|failure)",
    r"postmaster (?:notify|warning|copy)",
    r"mail system error",
    r"warning: (?:message|mail|could not)",
    r"notice: mail",
    r"message (?:status|rejected|quarantined|blocked|not delivered|undeliverable)",
    r"unzustellbar",
    r"nicht zugestellt",
    r"unzustellbarkeit",
    r"zustellung(?:s\w*)? (?:fehl|nicht|verz)",
    r"zustell(?:fehler|ungs)",
    r"non remis|non distribu|échec de (?:la )?(?:remise|distribution)|non délivr|notification d'échec|retour de courrier",
    r"non recapitabil|mancat[ao] (?:consegna|recapito)|non consegnat|impossibile recapitare|consegna (?:fallita|non)",
    r"no entregado|no se (?:ha )?(?:pudo|podido) entregar|error de entrega|devuelto|imposible entregar|no se puede entregar",
    r"não (?:entregue|foi entregue)|falha na entrega|devolvid|não foi possível entregar|não é possível entregar|erro (?:de|na) entrega",
    r"недоставлен|не доставлен|не может быть доставлен|недоставк|ошибка доставки|не удалось доставить|сообщение об ошибке|возврат",
    r"退信|无法投递|無法投遞|投递失败|投遞失敗|无法送达|無法傳遞|未送达|傳送失敗|发送失败|傳遞失敗|系统退信|退回",
    r"배달(?:되지| ?실패|할 수 없)|전송 ?(?:실패|오류|할 수 없)|반송|발송 ?실패|수신 ?실패",
    r"配信(?:不能|できま|エラー|失敗|不可|でき|遅延)|配達(?:不能|でき)|送信(?:エラー|でき|失敗|不能|不可)|不達|届きませんでした|届けられ|エラーメール|返送|送達|戻り",
    r"loop alert|duplicated message-id",
    r"considered unsolicited|message you sent|your message to |your mail to |undelivered|unable to deliver|can(?:not|'t) deliver",
    r"banned file|virus (?:found|in)|infected",
    r"non-membre|you are not (?:a )?member|not member|not subscribed|rejected posting",
)

# What a person or a mail reader puts in front of the subject of a mail that is answered or passed on.
PASSED_ON = re.compile(
    r"^\s*(?:\[[^\]]{0,60}\]\s*)?(?:re|fwd?|fw|aw|wg|tr|rv|rif|i|enc|res|sv|vs|antw|odp|пересылка|отв|ответ|转发|轉寄|回复|回覆|答复|回信|転送|返信|전달|회신|답장)\s*(?:\[\d+\])?\s*[:：]",
    re.IGNORECASE,
)

AUTO_SUBJECT = marked(
    r"^\s*auto(?:matic|mated)?[- :]*(?:re|reply|response|respon|antwort|answer)",
    r"out of (?:the )?office|out-of-office|\booo\b|away from (?:the |my )?(?:office|mail|desk)|on (?:vacation|holiday|leave)|vacation (?:reply|notice|response|message)",
    r"automatische (?:antwort|abwesenheit)|abwesenheit|abwesend|nicht im (?:büro|hause)|urlaub|auto-?antwort",
    r"réponse automatique|absence du bureau|absent|message d'absence|réponse auto",
    r"risposta automatica|fuori (?:sede|ufficio)|assenza",
    r"respuesta autom[aá]tica|fuera de (?:la )?oficina|ausente|ausencia",
    r"resposta autom[aá]tica|fora do escrit[oó]rio|ausência|férias",
    r"автоответ|автоматический ответ|вне офиса|в отпуске|отсутствую",
    r"自动(?:回复|答复|应答)|自動(?:回覆|答覆|回信)|不在办公室|外出",
    r"자동 ?(?:응답|회신|답장)|부재 ?중",
    r"自動(?:応答|返信|送信)|不在(?:通知|の|応答)|休暇|外出",
    r"thank you for (?:your|contacting)|we have received your|ticket|case (?:number|id)|autoresponder|auto-responder|acknowledg",
)

CHALLENGE_SUBJECT = marked(
    r"(?:please )?(?:confirm|verify) (?:your|that you|the) (?:message|e-?mail|mail|sent|identity|human)",
    r"boxtrapper|spam ?arrest|sender verification|challenge|verification required|action required: (?:confirm|verify)|\btmda\b|spamblocker|bluebottle|antispam ?uol|mailblocks|choicemail",
    r"your (?:mail|message|email) requires (?:verification|confirmation)|confirmation (?:de|of) (?:votre|your) (?:message|mail)|absender ?bestätig|bestätigung (?:ihrer|erforderlich)",
)

READ_SUBJECT = marked(
    r"^\s*(?:not )?read[:：]",
    r"^\s*(?:gelesen|lu|letto|leído|lida?|прочитано|開封|开封|已读|읽음)\b",
    r"return receipt|read receipt|read-receipt|lesebestätigung|accusé de (?:lecture|réception)|conferma di lettura|confirmación de lectura|開封確認|开封通知|disposition notification",
)

# What a person would not write to a list of thousands, nor a list to people: how non-standard bounces begin.
INTRODUCTION = marked(
    r"(?:could|can|was|were|has|have|is|are|did)(?:n't| not)(?: be| been)? (?:\S+ ){0,2}?(?:deliver|reach|accept|process|sen[dt])",
    r"(?:unable|failed|not able|impossible|cannot|can't) (?:to )?(?:be )?(?:deliver|send|sent)",
    r"deliver(?:y|ing)(?: \S+){0,6} (?:fail|problem|error|delay|not possible|incomplete)",
    r"fail(?:ed|ure)(?: \S+){0,4} deliver",
    r"undeliver",
    r"permanent (?:fatal )?error",
    r"(?:following|these) (?:address|recipient)(?:es|s|\(es\)|\(s\))?",
    r"returned to (?:you|sender)",
    r"transcript of session",
    r"unsent message|failed recipient",
    r"(?:mail|message|e-?mail) (?:\S+ ){0,3}(?:rejected|bounced|returned|blocked|delayed|quarantined)",
    r"unknown user|user unknown|no such user|mailbox (?:is )?full",
    r"error (?:occurred|while)|problem (?:delivering|with)",
    r"konnte(?:n)? (?:\S+ ){0,12}(?:nicht|leider)|nicht zugestellt|unzustellbar|zustellung",
    r"n'(?:a|ont) (?:pas |pu )|impossible de|non (?:remis|distribué)|n'est pas parvenu|échec",
    r"impossibile|non è stato|non recapit|mancata",
    r"no (?:se )?(?:ha |pudo|puede|fue|podido)|error al entregar",
    r"não (?:foi|pôde|pode)|falha",
    r"не (?:было |может|удалось|доставлен)|недоставлен",
    r"无法|無法|未能|失败|失敗|退回|退信|不存在",
    r"실패|할 수 없|없습니다|못했습니다|반송",
    r"でき(?:ま|な)|失敗|不達|エラー|見つかりません|届き?ま|届け",
)

# ------------------------------------------------------------------------------------------------------- where the notice ends

MESSAGE = r"(?:message|mail|e-?mail|header|letter)s?"
RETURNED_BELOW = re.compile(
    r"^[\s\-=_*#>|+.~]{0,80}(?:"
    rf"(?:this|below|here|what follows|the following|following|above)? ?(?:this line |here |that )?(?:is|are) a ?(?:copy|list|part|portion)? ?(?:of )?(?:the |your |all )?(?:original |returned |first part of the |headers? of the )?{MESSAGE}\b"
    rf"|below (?:this line )?is a copy of|(?:included|attached|enclosed) is a copy of|(?:a )?copy of (?:the|your|this) (?:original )?{MESSAGE}"
    rf"|(?:the |your |start of |beginning of )?(?:original|returned|unsent|undelivered|bounced|failed|rejected|non-?delivered) {MESSAGE}(?:\s+(?:headers?|text|info\w*|body|details|as follows?|follows?|below|attached|starts? here|:)\b.{{0,60}})?"
    rf"|{MESSAGE}(?: body)? (?:headers?|log|text|body|content)?\s?(?:follows?|below|are|is)\b.{{0,40}}"
    rf"|(?:the )?(?:headers?|body|first \d+ (?:lines|bytes|characters)|beginning|start|contents?|text|full text) of (?:the |your )?(?:original |returned |sent )?{MESSAGE}.{{0,60}}"
    r"|original mail (?:as follows|info)"
    r"|(?:ursprüngliche|originale?) nachricht\w*|originalnachricht\w*|message (?:d'origine|original|initial)|en-tête du message|messaggio originale|intestazioni originali|mensaje original|encabezados (?:de mensajes )?original\w*|mensagem original|cabeçalhos? (?:da mensagem )?origina\w*|исходное (?:сообщение|письмо)|заголовки исходного|原始(?:邮件|郵件|信件|邮件头|郵件標頭).{0,20}|原(?:邮件|郵件)(?:内容|主题).{0,20}|원본 ?(?:메시지|메일).{0,12}|(?:元|オリジナル)の?(?:メール|メッセージ).{0,20}|送信された(?:メール|メッセージ)(?:の)?(?:内容|ヘッダ).{0,10}"
    r")[\s\-=_*#<|+.:~。：]{0,80}$",
    re.IGNORECASE,
)
HEADER_LINE = re.compile(
    r"^(?:Return-Path|Received|Message-ID|MIME-Version|From|To|Cc|Subject|Date|Sender|Reply-To|Content-Type|Content-Transfer-Encoding|DKIM-Signature|Delivered-To|User-Agent|X-[\w-]{1,60})[ \t]*:",
    re.IGNORECASE,
)
HEADER_PROOF = re.compile(r"^(?:Return-Path|Received|Message-ID|MIME-Version|X-[\w-]{1,60})[ \t]*:", re.IGNORECASE)

# ------------------------------------------------------------------------------------------------------- who it is about

# Before an address: it is the recipient's.
RECIPIENT_BEFORE = marked(
    r"(?:recipient|recipients|rcpt(?: to)?|recipient address|final[- ]recipient|failed recipient(?:s|\(s\))?|addressed to|envelope[- ]to|intended recipient|original recipient|mail recipient)(?: address)?(?:es)?(?:\(e?s\))?\W{0,6}(?:is\W+|was\W+)?$",
    r"(?:unknown|invalid|no such|nonexistent|bad|final delivery) (?:\S+ )?(?:user|userid|recipient|address|mailbox|account|host|local user)(?: name)?\W{0,4}$",
    r"(?:user|mailbox|account|address)(?: \S+){0,3} (?:not found|unknown|full|exceeds allowed size|disabled|over quota)\W{0,4}$",
    r"(?:deliver\w*|delivery|sent|send|undeliverable|forward\w*|mailed|transfer\w*|transmit\w*|relay\w*)(?: \S+){0,5} (?:to|for)(?: \S+){0,3}\W{0,4}$",
    r"(?:delivery |deliver )?failed(?: \d+ attempts)?\s*:?\W{0,3}$",
    r"(?:your|the|this) (?:message|mail|e-?mail)(?: \S+){0,3} (?:to|for)\W{0,4}$",
    r"rejected recipient\W{0,3}$",
    r"duplicated message-id in\W{0,3}$|(?:mailing list|posting to|list|ml)\W{0,3}$",
    r"(?:宛先|あて先|受信者|送信先|宛て|配信先|メールアドレス|アドレス|宛先アドレス)\W{0,4}$",
    r"(?:empfänger|adressat|an)(?:adresse)?\W{0,4}$",
    r"(?:destinataire|destinatario|destinatário|destinat[aá]rios?|para|pour|à|al|a|per)\W{0,3}$",
    r"(?:получател\w*|адресат\w*|адрес\w*)\W{0,4}$",
    r"(?:收件人|收信人|邮箱|地址|收件地址)\W{0,4}$",
    r"(?:받는 ?사람|수신자|수신인)\W{0,4}$",
)
# Before an address: it is certainly not the recipient's.
SENDER_BEFORE = marked(
    r"(?:from|sent by|sender|return[- ]?path|reply[- ]?to|mail from|envelope[- ]from|absender|von|expéditeur|mittente|remitente|remetente|отправител\w*|от|差出人|送信者|送信元|发件人|寄件者|보낸 ?사람)\W{0,6}$",
    r"message[- ]?id(?:entifier)?\W{0,6}$|(?:references|in-reply-to)\W{0,6}$|x-\w[\w-]*\W{0,4}$",
)
# In the same line as an address: it is where to ask for help.
HELP = marked(
    r"contact|assistance|\bhelp\b|question|support|enquir|inquir|complain|administrator (?:at|of)|send (?:mail|e-?mail|a message|a copy) to|for (?:more|further)|report (?:this|it|the)|please (?:mail|write|e-?mail|call|forward)|if you (?:have|need|believe|think|feel|are)",
    r"问い合わせ|お問|連絡|質問|ご不明|fragen|hilfe|kontakt|wenden sie|renseign|assistenza|ayuda|soporte|suporte|вопрос|обратит|咨询|联系|聯絡|문의",
)

# --------------------------------------------------------------------------------------------------------------- not yet, or never

NOT_YET = marked(
    r"has not (?:yet )?been delivered|not yet (?:been )?delivered|ha(?:s|ve) not yet received|delivery attempts will continue",
    r"will (?:continue|keep|be retried|be attempted)|still (?:trying|being retried)|do(?:es)? not need to re-?send|need not re-?send",
    r"warning message only|only a (?:warning|notification)|temporary failure report|no action (?:is required|on your part)",
    r"noch nicht zugestellt|wird weiterhin|weitere zustellversuche|pas encore (?:été )?(?:remis|distribué)|non (?:è )?ancora stato consegnato",
    r"aún no se ha|todavía no se|ainda não foi|ещ[её] не (?:было )?доставлен|尚未(?:投递|送达|傳遞)|まだ(?:配信|配送|送信)され|아직 (?:배달|전송)",
)
DELAYED_SUBJECT = marked(r"delay(?:ed)?(?!.*fail)", r"^\s*warning:(?!.*fail)", r"verzögert|retardé?|ritardo|retras|atras|задерж|延迟|延遲|遅延|지연")
