"""What mail systems say in languages other than English. Rows as in phrases.py, a table a language, tried when the text has letters
or words that English has not.
"""

from __future__ import annotations

from collections.abc import Mapping

from mailhub.lib.replies.phrases import Table
from mailhub.lib.replies.verdicts import Category

JAPANESE: Table = (
    (Category.AUTH_FAILURE, r"なりすまし|送信ドメイン認証|ドメイン認証"),
    (Category.RATE_LIMITED, r"送信(?:数|通数|件数|量).{0,8}(?:制限|上限|超)|同時接続|短時間に|大量に送信|アクセスが集中|送信制限"),
    (Category.MAILBOX_FULL, r"(?:メール ?ボックス|受信箱|受信 ?box|メールbox|受信トレイ|保存|容量|ディスク|サーバー?容量).{0,20}(?:一杯|いっぱい|満杯|超|オーバー|不足|上限|フル|制限)|容量(?:超過|オーバー|制限)"),
    (Category.TOO_BIG, r"(?:メッセージ|メール|添付|本文|ファイル|データ|サイズ).{0,16}(?:大き(?:すぎ|過ぎ|い)|サイズ.{0,8}(?:超|制限|上限|オーバー))|サイズ(?:超過|オーバー|制限)|最大サイズ"),
    (Category.SPAM, r"迷惑メール|スパム|受信拒否.{0,6}迷惑"),
    (Category.CONTENT, r"ウイルス|ウィルス|添付ファイル.{0,12}(?:禁止|制限|拒否|削除)|不正な(?:形式|ヘッダ)|禁止(?:語|ワード)"),
    (Category.HOST_UNKNOWN, r"(?:ドメイン|宛先(?:の)?サーバー?|ホスト|宛先ホスト|メールサーバー?)(?:名)?(?:が|は|を)?.{0,12}(?:見つか(?:らな|りま)|存在し(?:な|ま)|不明|解決でき|間違)|無効なドメイン"),
    (Category.SUSPENDED, r"(?:利用|使用|契約|サービス|アカウント|メールアドレス|受信).{0,10}(?:停止|休止|一時(?:中断|停止)|解約|無効|中断|凍結|ロック)"),
    (Category.USER_UNKNOWN, r"(?:宛先|あて先|受信者|ユーザー?|アドレス|アカウント|メール ?ボックス|送信先|お客様).{0,24}(?:見つか(?:らな|りま|りません)|存在し(?:な|ま)|ありませ|不明|無効|誤り|誤って|間違|正しくな|登録されて(?:い)?(?:な|ま)|使われて(?:い)?ま|該当)|不明な(?:ユーザ|宛先|アドレス|受信者)|該当(?:する)?(?:ユーザ|アドレス|宛先|アカウント)|お客様の?メール?アドレスは存在"),
    (Category.REJECTED, r"受信(?:者|側)?(?:に|が|を|の設定|設定)?.{0,8}(?:拒否|拒絶|許可)|受信を?(?:拒否|制限|許可)|指定(?:受信|拒否)|送信者.{0,12}(?:許可|拒否|権限|制限)|(?:送信|投稿).{0,8}(?:許可|権限)|メンバー(?:で|登録|以外)"),
    (Category.BLOCKED, r"(?:ip ?アドレス|接続|送信元|サーバー?|ホスト).{0,16}(?:拒否|ブロック|ブラックリスト|遮断|制限|規制)|ブラックリスト|セキュリティ.{0,10}(?:により|ポリシ|制限)|ポリシー"),
    (Category.EXPIRED, r"(?:配送|配達|配信|送信|送達).{0,16}(?:期限|時間|試み|試行|遅延|遅れ|延期|猶予)|再送.{0,16}(?:失敗|期限|回数|超|でき)|(?:時間|期間|期限|日間).{0,12}(?:経過|以内|超|切れ)|タイムアウト|まだ配信|遅延"),
    (Category.NETWORK, r"接続.{0,12}(?:でき|失敗|切断|切れ|時間|タイムアウト)|ループ|通信(?:エラー|障害|でき)|ネットワーク|経路|応答(?:が|し)?(?:あり|な|ま)"),
    (Category.SYSTEM, r"(?:サーバー?|システム|内部|設定).{0,12}(?:エラー|障害|問題|事由|異常|混雑|故障|メンテナンス)|一時的な?(?:障害|問題|エラー)"),
    (Category.TEMPORARY, r"一時的|しばらく(?:して|たって|経って|お待ち)|時間をおいて|後ほど"),
)

GERMAN: Table = (
    (Category.RATE_LIMITED, r"zu viele (?:\S+ ){0,2}(?:nachrichten|verbindungen|empfänger|e-?mails|mails|anfragen)|(?:sende|nachrichten|empfänger)limit|limit (?:\S+ ){0,3}(?:überschritten|erreicht)"),
    (Category.MAILBOX_FULL, r"(?:postfach|mailbox|briefkasten|posteingang|konto|speicher\w*|mailkonto|kontingent|quota)(?: \S+){0,5} (?:voll|überfüllt|überschritten|erschöpft|ausgeschöpft|überschreitet)|volles postfach|speicherplatz|kontingent(?:grenze)? (?:\S+ ){0,3}(?:überschritten|erreicht)"),
    (Category.TOO_BIG, r"(?:nachricht|mail|e-?mail|anhang|anlage)(?: \S+){0,5} (?:zu groß|zu gross|größe|grösse)|(?:maximale|zulässige|erlaubte) (?:\S+ )?(?:größe|grösse|nachrichtengröße)|größenbeschränkung|größenlimit|überschreitet (?:\S+ ){0,4}größe"),
    (Category.SPAM, r"unerwünschte (?:werbung|mail|e-?mail|nachricht)|werbemail|als spam|spamverdacht"),
    (Category.CONTENT, r"virus|viren|schadsoftware|schadcode|verbotene[nr]? (?:anhang|anlage|inhalt|datei)|anhang (?:\S+ ){0,3}(?:nicht erlaubt|verboten|blockiert)"),
    (Category.HOST_UNKNOWN, r"(?:domain|domäne|host|rechner|zielserver|mailserver|server|hostname)(?:name)?(?: \S+){0,4} (?:nicht gefunden|existiert nicht|unbekannt|nicht bekannt|nicht aufgelöst|ungültig|gibt es nicht|nicht vorhanden)|unbekannte[rs]? (?:domain|domäne|host|rechner)|(?:domain|domäne) existiert nicht"),
    (Category.SUSPENDED, r"(?:postfach|konto|account|benutzer\w*|empfänger\w*|adresse|mailbox|e-?mail-?adresse)(?: \S+){0,4} (?:gesperrt|deaktiviert|stillgelegt|inaktiv|geschlossen|gekündigt|eingestellt|nicht aktiv|ausgesetzt)"),
    (Category.USER_UNKNOWN, r"(?:empfänger\w*|benutzer\w*|adresse|adressat\w*|postfach|konto|account|teilnehmer|e-?mail-?adresse|mailbox|user|nutzer)(?: \S+){0,6} (?:unbekannt|nicht (?:gefunden|bekannt|vorhanden|existent|gültig|mehr|erreichbar|ermittelt|zugeordnet|aufgelöst|eingerichtet)|existiert nicht|ungültig|gibt es (?:hier )?nicht|falsch|gelöscht)|(?:unbekannte[rsn]?|ungültige[rsn]?|falsche[rsn]?|kein(?:e|en)?|nicht existierende[rsn]?) (?:\S+ )?(?:empfänger\w*|benutzer\w*|adress\w*|postfach|konto|teilnehmer|e-?mail-?adresse|mailbox)|existiert nicht|nicht (?:mehr )?(?:existent|vorhanden|gültig)|empfänger unbekannt|konnte nicht gefunden werden|nicht mehr (?:bei|in|für|tätig)|gibt es nicht"),
    (Category.REJECTED, r"absender(?:adresse)? (?:\S+ ){0,4}(?:abgelehnt|ungültig|unbekannt|nicht|gesperrt|blockiert)|nicht (?:\S+ )?(?:berechtigt|erlaubt|befugt|autorisiert|zugelassen)|keine berechtigung|berechtigung"),
    (Category.BLOCKED, r"(?:ip|server|absender|host|rechner)(?:-?adresse)?(?: \S+){0,4} (?:gesperrt|blockiert|geblockt|abgewiesen|schwarze[nr]? liste)|schwarze[nr]? liste|sperrliste|richtlinie|zugriff verweigert|sicherheit\w*"),
    (Category.EXPIRED, r"(?:seit|nach|innerhalb|trotz)(?: \S+){0,3} \d+ (?:tage|stunden|tagen|minuten|versuche)\w*|zu lange|zeitüberschreitung|verzögert|noch nicht zugestellt|zustellversuch|abgelaufen"),
    (Category.NETWORK, r"verbindung(?:\S*)(?: \S+){0,5} (?:fehlgeschlagen|abgelehnt|verweigert|abgebrochen|unterbrochen|hergestellt|nicht möglich|aufgebaut)|nicht erreichbar|keine verbindung|schleife|netzwerk\w*|antwortet nicht"),
    (Category.SYSTEM, r"(?:system|server|interner|konfigurations|verarbeitungs|technischer)[ -]?(?:fehler|störung|problem)|interner fehler|lokaler fehler|konfiguration"),
    (Category.TEMPORARY, r"vorübergehend|zeitweilig|später (?:noch ?einmal|erneut|wieder)|bitte (?:\S+ )?später"),
)

FRENCH: Table = (
    (Category.RATE_LIMITED, r"trop de (?:messages|connexions|destinataires|mails|courriers|requêtes|requetes|connections)|limite (?:d'envoi|de messages|du nombre)|quota d'envoi"),
    (Category.MAILBOX_FULL, r"(?:bo[iî]te|messagerie|bal|compte|mailbox|bo[iî]te aux lettres)(?: \S+){0,7} (?:pleine?|saturée?|remplie?|dépassée?|atteint|excède)|quota (?:\S+ ){0,5}(?:dépassé|depasse|atteint|excédé)|dépass\w+ (?:\S+ ){0,3}quota|espace (?:\S+ ){0,3}(?:insuffisant|dépassé|de stockage)|pleine|capacité (?:\S+ ){0,3}(?:dépassée|atteinte)"),
    (Category.TOO_BIG, r"(?:message|mail|courriel|pièce jointe|courrier)(?: \S+){0,5} (?:trop (?:gros|volumineux|grand|lourd|long)\w*|taille)|taille (?:\S+ ){0,6}(?:dépass\w+|maximal\w*|autorisée|limite|excède|supérieure)|trop volumineux"),
    (Category.SPAM, r"pourriel|courrier indésirable|indésirable|considéré comme (?:du )?spam|mail rejete"),
    (Category.CONTENT, r"virus|pièces? jointes? (?:\S+ ){0,4}(?:interdit\w*|refus\w*|bloqu\w*|autorisé\w*)|contenu (?:\S+ ){0,3}(?:interdit|refusé|rejeté|inapproprié)"),
    (Category.HOST_UNKNOWN, r"(?:domaine|hôte|hote|serveur|nom de domaine)(?: \S+){0,5} (?:introuvable|inconnu|inexistant|n'existe pas|pas (?:été )?trouvé|invalide|existe pas)|(?:domaine|hôte) (?:inconnu|introuvable)"),
    (Category.SUSPENDED, r"(?:compte|bo[iî]te|adresse|utilisateur|destinataire|messagerie|bo[iî]te aux lettres)(?: \S+){0,5} (?:suspendue?|désactivée?|desactivee?|bloquée?|fermée?|inactive?|résiliée?|verrouillée?|expirée?|clôturée?)|boite aux lettres suspendue"),
    (Category.USER_UNKNOWN, r"(?:destinataire|utilisateur|adresse|compte|bo[iî]te|correspondant|abonné|usager|mail)(?:\(s\))?(?: \S+){0,6} (?:inconnue?s?|introuvable\w*|inexistante?|invalide\w*|incorrecte?|n'existe (?:pas|plus)|existe pas|pas (?:été )?(?:trouvée?|reconnue?|valide)|erronée?|non trouvée?|supprimée?|n'est (?:pas|plus) (?:valide|attribuée?|reconnue?))|(?:adresse|destinataire|utilisateur) (?:\S+ )?(?:invalide|inconnu|incorrecte?)|aucun (?:utilisateur|destinataire|compte)|n'existe pas|n'a pas été trouvé|introuvable|pas d'abonne|adresse d au moins un destinataire"),
    (Category.REJECTED, r"expéditeur (?:\S+ ){0,5}(?:refus\w*|rejet\w*|invalide|inconnu|interdit|pas|bloqu\w*|non)|pas (?:\S+ )?(?:autorisée?|habilitée?|l'autorisation|les autorisations|autorisés?)|autorisation|non autorisé"),
    (Category.BLOCKED, r"liste noire|(?:adresse ip|serveur|ip|connexion)(?: \S+){0,5} (?:bloquée?|refusée?|rejetée?|interdite?|blacklist\w*)|accès (?:refusé|interdit|non autorisé)|politique|sécurité|refus\w* (?:\S+ ){0,2}connexion|veuillez vérifier (?:\S+ )?configuration|service refuse"),
    (Category.EXPIRED, r"(?:pendant|depuis|après|plus de|au bout de)(?: \S+){0,3} \d+ (?:jours?|heures?|minutes|tentatives|essais)|trop longtemps|délai (?:\S+ ){0,4}(?:dépassé|expiré|écoulé|d'attente)|retard\w*|pas encore (?:été )?(?:remis|distribué|délivré)|expiré"),
    (Category.NETWORK, r"connexion(?: \S+){0,5} (?:impossible|échoué|refusée|interrompue|établir|perdue|expiré)|ne répond pas|injoignable|boucle|réseau|impossible de (?:\S+ )?(?:se connecter|joindre|contacter)|temps dépassé"),
    (Category.SYSTEM, r"(?:erreur|problème|panne|incident)(?: \S+){0,3} (?:système|systeme|interne|serveur|local\w*|configuration|technique)|erreur interne|service (?:\S+ ){0,3}(?:indisponible|non disponible)"),
    (Category.TEMPORARY, r"temporaire\w*|réessayer|ressayer|essayer plus tard|plus tard|ultérieurement"),
)

ITALIAN: Table = (
    (Category.RATE_LIMITED, r"tropp[ie] (?:messaggi|connessioni|destinatari|email|richieste)|limite (?:\S+ ){0,3}(?:invio|messaggi|invii)"),
    (Category.MAILBOX_FULL, r"(?:casella|cassetta|mailbox|posta|account|quota|spazio)(?: \S+){0,6} (?:piena|pieno|superat[ao]|esaurit[ao]|insufficiente|eccede|satura)|superat[ao] (?:\S+ ){0,4}(?:quota|spazio|limite (?:\S+ )?casella)|casella piena|spazio (?:\S+ )?(?:insufficiente|esaurito)"),
    (Category.TOO_BIG, r"(?:messaggio|email|allegato|mail)(?: \S+){0,5} (?:troppo (?:grande|lungo|grosso|pesante)|dimension\w+)|dimension[ei] (?:\S+ ){0,5}(?:superat\w+|massim\w+|eccede|supera|consentit\w+)"),
    (Category.SPAM, r"posta indesiderata|considerato spam|indesiderat[ao]"),
    (Category.CONTENT, r"virus|allegat[oi] (?:\S+ ){0,4}(?:non consentit\w+|vietat\w+|bloccat\w+)|contenuto (?:\S+ ){0,3}(?:non consentito|rifiutato|vietato)"),
    (Category.HOST_UNKNOWN, r"(?:dominio|host|server)(?: \S+){0,4} (?:inesistente|sconosciuto|non (?:\S+ )?(?:trovato|esiste|valido|risolto))|dominio non (?:esiste|trovato|valido)"),
    (Category.SUSPENDED, r"(?:casella|account|utente|indirizzo|utenza|mailbox)(?: \S+){0,4} (?:sospes[ao]|disabilitat[ao]|disattivat[ao]|bloccat[ao]|chius[ao]|inattiv[ao]|scadut[ao]|cessat[ao])"),
    (Category.USER_UNKNOWN, r"(?:utente|destinatario|indirizzo|casella|account|mailbox)(?: \S+){0,6} (?:sconosciut[ao]|inesistente|non (?:\S+ )?(?:trovat[ao]|esiste|valid[ao]|riconosciut[ao]|corrett[ao]|presente|registrat[ao])|errat[ao]|invalid[ao]|eliminat[ao]|cancellat[ao])|(?:utente|indirizzo|destinatario) (?:sconosciuto|inesistente|non valido)|non esiste|nessun (?:utente|account|destinatario)|impossibile trovare|non è stato trovato"),
    (Category.REJECTED, r"mittente (?:\S+ ){0,5}(?:rifiutat\w+|non|bloccat\w+|sconosciut\w+|respint\w+)|non (?:\S+ )?(?:autorizzat[oi]|permesso|consentito|abilitat[oi])|autorizzazion[ei]"),
    (Category.BLOCKED, r"lista nera|(?:indirizzo ip|server|ip|connessione)(?: \S+){0,5} (?:bloccat[ao]|rifiutat[ao]|respint[ao])|accesso negato|polic[iy]|sicurezza|criteri"),
    (Category.EXPIRED, r"(?:per|dopo|entro|da|oltre)(?: \S+){0,3} \d+ (?:giorn[io]|or[ae]|minuti|tentativi)|troppo a lungo|scadut[ao]|ritardo|non (?:è )?(?:ancora )?(?:stato )?(?:ancora )?consegnat[ao]"),
    (Category.NETWORK, r"connessione(?: \S+){0,5} (?:fallita|rifiutata|scaduta|interrotta|impossibile|persa)|non risponde|irraggiungibile|impossibile (?:connettersi|contattare|raggiungere)|timeout"),
    (Category.SYSTEM, r"errore (?:\S+ ){0,3}(?:interno|di sistema|del server|locale|di configurazione|tecnico)|servizio (?:\S+ )?non disponibile|problema (?:tecnico|temporaneo)"),
    (Category.TEMPORARY, r"temporane\w+|riprova\w*|più tardi"),
)

SPANISH: Table = (
    (Category.RATE_LIMITED, r"demasiad[oa]s (?:mensajes|conexiones|destinatarios|correos|solicitudes)|límite (?:\S+ ){0,3}(?:envíos?|mensajes|correos)"),
    (Category.MAILBOX_FULL, r"(?:buz[oó]n|casilla|cuenta|bandeja|cuota|mailbox|espacio|almacenamiento)(?: \S+){0,6} (?:llen[oa]|excedid[oa]|superad[oa]|agotad[oa]|excede|insuficiente|sobrepasad[oa])|(?:exced\w+|super\w+|sobrepas\w+) (?:\S+ ){0,4}(?:cuota|espacio|almacenamiento|buz[oó]n)|buz[oó]n lleno|sin espacio"),
    (Category.TOO_BIG, r"(?:mensaje|correo|archivo|adjunto)(?: \S+){0,5} (?:demasiado (?:grande|largo|extenso)|tamaño)|tamaño (?:\S+ ){0,5}(?:excede|excedido|máximo|supera|superado|permitido)|muy grande"),
    (Category.SPAM, r"correo no deseado|no deseado|considerado spam|correo basura"),
    (Category.CONTENT, r"virus|(?:adjuntos?|archivos?) (?:\S+ ){0,4}(?:no permitid\w+|prohibid\w+|bloquead\w+)|contenido (?:\S+ ){0,3}(?:no permitido|prohibido|rechazado)"),
    (Category.HOST_UNKNOWN, r"(?:dominio|host|servidor|anfitrión)(?: \S+){0,5} (?:desconocido|inexistente|no (?:\S+ ){0,2}(?:existe|encontrado|encuentra|válido|encontró)|inválido)|dominio (?:no existe|desconocido)"),
    (Category.SUSPENDED, r"(?:buz[oó]n|cuenta|usuario|dirección|casilla|destinatario)(?: \S+){0,4} (?:suspendid[oa]|desactivad[oa]|deshabilitad[oa]|bloquead[oa]|inactiv[oa]|cancelad[oa]|cerrad[oa]|expirad[oa])"),
    (Category.USER_UNKNOWN, r"(?:usuario|destinatario|dirección|direccion|cuenta|buz[oó]n|casilla)(?:s|es)?(?: \S+){0,6} (?:desconocid[oa]|inexistente|no (?:\S+ ){0,3}(?:existe\w*|encontrad[oa]|encuentra|válid[oa]|valid[oa]|encontró|reconocid[oa]|encontrar)|inválid[oa]|incorrect[oa]|eliminad[oa])|(?:usuario|dirección|destinatario|cuenta) (?:desconocid[oa]|no válid[oa]|inexistente|inválid[oa])|no existe|no se (?:ha )?(?:encontró|encontrado|encuentra|pudo encontrar)|ningún (?:usuario|buzón)"),
    (Category.REJECTED, r"remitente (?:\S+ ){0,5}(?:rechazad\w+|no|bloquead\w+|desconocid\w+|inválid\w+|denegad\w+)|no (?:\S+ ){0,2}(?:autorizad[oa]|permiso|permisos|permitid[oa]|permite)|autorización"),
    (Category.BLOCKED, r"lista negra|(?:dirección ip|servidor|ip|conexión)(?: \S+){0,5} (?:bloquead[oa]|rechazad[oa]|denegad[oa]|listad[oa])|acceso denegado|polític\w+|seguridad"),
    (Category.EXPIRED, r"(?:durante|después de|tras|en|desde|por)(?: \S+){0,3} \d+ (?:días?|horas?|minutos|intentos)|demasiado tiempo|expir\w+|retras\w+|aún no (?:se )?ha|todavía no"),
    (Category.NETWORK, r"conexión(?: \S+){0,5} (?:fallida|rechazada|agotad[oa]|perdida|interrumpida|falló|fallado)|no responde|inalcanzable|no (?:se )?(?:pudo|puede|podido) (?:\S+ )?(?:conectar|contactar|establecer)|bucle|tiempo (?:\S+ ){0,3}(?:agotado|excedido)"),
    (Category.SYSTEM, r"(?:error|problema|fallo)(?: \S+){0,3} (?:intern[oa]|sistema|servidor|local|configuración|técnico)|servicio (?:\S+ )?no disponible"),
    (Category.TEMPORARY, r"temporal\w*|más tarde|inténtelo|reintent\w+"),
)

PORTUGUESE: Table = (
    (Category.RATE_LIMITED, r"(?:muit[oa]s|excesso de|demasiad[oa]s) (?:mensagens|conexões|destinatários|ligações)|limite (?:\S+ ){0,3}(?:envios?|mensagens|e-?mails)"),
    (Category.MAILBOX_FULL, r"(?:caixa|conta|quota|cota|mailbox|espaço|armazenamento|usuário)(?: \S+){0,6} (?:chei[ao]|lotad[ao]|exced\w+|esgotad[ao]|ultrapass\w+|insuficiente|estourad[ao])|(?:exced\w+|ultrapass\w+) (?:\S+ ){0,4}(?:quota|cota|espaço|caixa|armazenamento)|caixa (?:\S+ ){0,3}(?:cheia|lotada)|sem espaço"),
    (Category.TOO_BIG, r"(?:mensagem|e-?mail|anexo|arquivo)(?: \S+){0,5} (?:muito grande|grande demais|demasiado grande|tamanho)|tamanho (?:\S+ ){0,5}(?:exced\w+|máximo|ultrapass\w+|permitido|limite)"),
    (Category.SPAM, r"lixo eletrônico|considerad[oa] spam|não solicitad[oa]"),
    (Category.CONTENT, r"vírus|virus|anexos? (?:\S+ ){0,4}(?:não permitid\w+|proibid\w+|bloquead\w+)|conteúdo (?:\S+ ){0,3}(?:não permitido|proibido|rejeitado)"),
    (Category.HOST_UNKNOWN, r"(?:domínio|dominio|host|servidor)(?: \S+){0,5} (?:desconhecido|inexistente|não (?:\S+ ){0,2}(?:existe|encontrado|válido|localizado)|inválido)|domínio não (?:existe|encontrado)"),
    (Category.SUSPENDED, r"(?:caixa|conta|usuário|utilizador|endereço|destinatário)(?: \S+){0,4} (?:suspens[oa]|desativad[oa]|desabilitad[oa]|bloquead[oa]|inativ[oa]|cancelad[oa]|encerrad[oa]|expirad[oa])"),
    (Category.USER_UNKNOWN, r"(?:usuário|usuario|utilizador|destinatário|destinatario|endereço|endereco|conta|caixa(?: postal)?)(?:s)?(?: \S+){0,6} (?:desconhecid[oa]|inexistente|n[ãa]o (?:\S+ ){0,3}(?:existe\w*|encontrad[oa]|localizad[oa]|válid[oa]|reconhecid[oa]|encontrar|cadastrad[oa])|inválid[oa]|incorret[oa]|removid[oa])|(?:usuário|endereço|destinatário|conta) (?:desconhecid[oa]|inexistente|inválid[oa])|não existe|não foi (?:\S+ )?(?:encontrad[oa]|localizad[oa])|nenhum (?:usuário|destinatário)"),
    (Category.REJECTED, r"remetente (?:\S+ ){0,5}(?:rejeitad\w+|não|bloquead\w+|desconhecid\w+|inválid\w+|recusad\w+)|não (?:\S+ ){0,2}(?:autorizad[oa]|permissão|permitid[oa]|tem permissão)|autorização"),
    (Category.BLOCKED, r"lista negra|(?:endereço ip|servidor|ip|conexão)(?: \S+){0,5} (?:bloquead[oa]|rejeitad[oa]|recusad[oa]|listad[oa])|acesso negado|polític\w+|segurança"),
    (Category.EXPIRED, r"(?:por|após|em|desde|durante)(?: \S+){0,3} \d+ (?:dias?|horas?|minutos|tentativas)|muito tempo|expir\w+|atras\w+|ainda não foi"),
    (Category.NETWORK, r"conexão(?: \S+){0,5} (?:falhou|recusada|esgotad[oa]|perdida|interrompida)|não responde|inacessível|não foi possível (?:\S+ )?(?:conectar|contactar|estabelecer)|tempo (?:\S+ ){0,3}(?:esgotado|excedido)"),
    (Category.SYSTEM, r"(?:erro|problema|falha)(?: \S+){0,3} (?:intern[oa]|sistema|servidor|local|configuração|técnic[oa])|serviço (?:\S+ )?indisponível"),
    (Category.TEMPORARY, r"temporari\w*|temporári\w*|mais tarde|tente novamente"),
)

RUSSIAN: Table = (
    (Category.RATE_LIMITED, r"слишком (?:много|часто)(?: \S+){0,3} ?(?:сообщений|писем|соединений|получателей|запросов)?|превышен\S* (?:\S+ ){0,3}(?:лимит|количеств\S*|частот\S*|скорост\S*)"),
    (Category.MAILBOX_FULL, r"(?:ящик|квот\S*|мест\S*)(?: \S+){0,5} (?:переполнен\S*|заполнен\S*|превышен\S*|полон|исчерпан\S*|недостаточно|закончил\S*)|переполнен|превышен\S* (?:\S+ ){0,3}(?:квот\S*|размер\S* ящика)|(?:недостаточно|нет) (?:\S+ )?места"),
    (Category.TOO_BIG, r"(?:сообщени\S*|письм\S*|вложени\S*)(?: \S+){0,4} слишком (?:больш\S*|велик\S*)|(?:размер|объ[её]м)\S* (?:\S+ ){0,5}(?:превыша\S*|превышен\S*|велик|больше)|превыш\S* (?:\S+ ){0,4}размер"),
    (Category.SPAM, r"спам\S*|нежелательн\S*|рассылк\S*"),
    (Category.CONTENT, r"вирус\S*|вредоносн\S*|вложени\S* (?:\S+ ){0,3}(?:запрещен\S*|заблокирован\S*|недопустим\S*)"),
    (Category.HOST_UNKNOWN, r"(?:домен\S*|хост\S*|сервер\S*|узел)(?: \S+){0,4} (?:не (?:\S+ )?(?:найден\S*|существу\S*|известен)|неизвест\S*|несуществ\S*)|(?:неизвестный|несуществующий) (?:домен|хост)"),
    (Category.SUSPENDED, r"(?:ящик|аккаунт|пользовател\S*|адрес\S*|уч[её]тная запись|почтов\S*)(?: \S+){0,4} (?:заблокирован\S*|отключ[её]н\S*|приостановлен\S*|неактив\S*|деактивирован\S*|закрыт\S*|заморожен\S*)"),
    (Category.USER_UNKNOWN, r"(?:пользовател\S*|получател\S*|адрес\S*|ящик\S*|абонент\S*|уч[её]тн\S*|адресат\S*)(?: \S+){0,6} (?:не (?:\S+ )?(?:найден\S*|существу\S*|известен|зарегистрирован\S*|обнаружен\S*)|неизвест\S*|неверн\S*|недействител\S*|отсутству\S*|несуществ\S*|удал[её]н\S*)|(?:нет|неизвестн\S*|неверн\S*|несуществующ\S*|неправильн\S*|недопустим\S*) (?:\S+ ){0,2}(?:пользовател\S*|получател\S*|адрес\S*|ящик\S*)|не (?:существует|найден)"),
    (Category.REJECTED, r"отправител\S* (?:\S+ ){0,4}(?:отклон\S*|не|запрещ\S*|отверг\S*|заблок\S*)|нет прав|запрещено отправл\S*|не (?:разрешено|имеете права|авторизован\S*)"),
    (Category.BLOCKED, r"ч[её]рн\S* спис\S*|(?:ip|сервер|адрес отправителя|соединени\S*|хост)(?: \S+){0,4} (?:заблокирован\S*|отклонен\S*|запрещ[её]н\S*|блокир\S*)|политик\S*|доступ запрещ[её]н|безопасност\S*"),
    (Category.EXPIRED, r"(?:в течение|более|после|за)(?: \S+){0,3} \d+ (?:дн\S*|час\S*|минут\S*|попыт\S*|сут\S*)|слишком долго|срок\S* (?:\S+ ){0,3}(?:истек|ист[её]к|хранения)|задерж\S*|ещ[её] не (?:было )?доставлен\S*"),
    (Category.NETWORK, r"соединени\S*(?: \S+){0,4} (?:не (?:\S+ )?(?:удалось|установлен\S*)|разорван\S*|прерван\S*|отказан\S*)|не отвечает|недоступен|не (?:удалось|удается|уда[её]тся) (?:\S+ )?(?:соединиться|подключиться|установить)|тайм-?аут|зацикл\S*|петл\S*"),
    (Category.SYSTEM, r"(?:внутренн\S*|системн\S*|локальн\S*|техническ\S*) (?:\S+ )?(?:ошибк\S*|сбо\S*|проблем\S*)|ошибк\S* (?:сервера|системы|конфигурации)"),
    (Category.TEMPORARY, r"временн\S*|повторите|попробуйте|позже"),
)

CHINESE: Table = (
    (Category.AUTH_FAILURE, r"(?:身份|域名|发件人)(?:验证|认证|驗證)失[败敗]"),
    (Category.RATE_LIMITED, r"(?:发送|發送|发信|發信|连接|連接|邮件|郵件|频率|頻率|频度|ip).{0,10}(?:频率|頻率|过快|過快|过多|過多|过于频繁|太频繁|超过限制|超出限制|受限|限制|上限)|频繁|頻繁"),
    (Category.MAILBOX_FULL, r"(?:邮箱|郵箱|信箱|空间|空間|容量|配额|配額|收件箱).{0,12}(?:已满|已滿|满了|滿|不足|超出|超过|超過|用完|已超)|(?:满|滿)箱|磁盘空间"),
    (Category.TOO_BIG, r"(?:邮件|郵件|信件|附件|大小|尺寸|内容|內容).{0,12}(?:过大|過大|太大|超过|超過|超出|大小)|超大"),
    (Category.SPAM, r"垃圾(?:邮件|郵件|信)|广告(?:邮件|信)|拦截为垃圾|反垃圾"),
    (Category.CONTENT, r"病毒|(?:附件|内容|內容).{0,8}(?:禁止|不允许|不允許|违规|違規|敏感|非法)|敏感|违法"),
    (Category.HOST_UNKNOWN, r"(?:域名|网域|網域|主机|主機|服务器|伺服器|域).{0,10}(?:不存在|找不到|未找到|无法解析|無法解析|错误|無效|无效|解析)|无法找到.{0,6}(?:域|服务器|主机)"),
    (Category.SUSPENDED, r"(?:用户|用戶|帐号|账号|帳號|邮箱|郵箱|信箱|账户|帐户|帳戶|服务).{0,10}(?:禁用|停用|冻结|凍結|锁定|鎖定|暂停|暫停|已过期|过期|關閉|关闭|封|长期未登录|未激活|到期)"),
    (Category.USER_UNKNOWN, r"(?:用户|用戶|收件人|收信人|邮箱|郵箱|信箱|帐号|账号|帳號|地址|账户|帐户|帳戶|使用者|邮件地址).{0,16}(?:不存在|找不到|未找到|没有找到|無此|无此|无效|無效|错误|錯誤|有误|不正确|不正確|未注册|查无|不明)|(?:没有|沒有|无|無|查无|查無)(?:此|该|這個|这个|该个)?(?:用户|用戶|收件人|邮箱|郵箱|信箱|使用者|账号|帐号|人)|不存在的(?:用户|邮箱|收件人)|(?:找不到|未找到).{0,8}(?:收件人|用户|邮箱)"),
    (Category.REJECTED, r"(?:发件人|發件人|寄件者|寄件人|发信人).{0,12}(?:拒绝|拒絕|拒收|无效|無效|不允许|无权|禁止|黑名单|黑名單)|(?:拒绝|拒絕|拒收).{0,8}(?:来信|您的|此发件人|發件人|发件人)|权限|權限|未授权|未授權|白名单"),
    (Category.BLOCKED, r"黑名单|黑名單|(?:ip|服务器|伺服器|主机|连接).{0,12}(?:拒绝|拒絕|封禁|屏蔽|封锁|封鎖|阻止|拦截|限制|阻挡)|信誉|信譽|策略|安全"),
    (Category.EXPIRED, r"(?:投递|投遞|发送|發送|重试|重試|递送|傳送).{0,16}(?:超时|超時|过期|逾期|时间|時間|多次|延迟|延遲|小时|小時|天)|超时|超時|延迟|延遲|尚未"),
    (Category.NETWORK, r"(?:连接|連接|连线|網路|网络|通讯).{0,10}(?:失败|失敗|拒绝|断开|中断|中斷|错误|錯誤|异常|故障)|(?:无法|無法)(?:连接|連接|连线|连通)|循环|迴圈|环路|dns"),
    (Category.SYSTEM, r"(?:系统|系統|服务器|伺服器|内部|內部).{0,8}(?:错误|錯誤|忙|繁忙|故障|异常|異常|维护)"),
    (Category.TEMPORARY, r"暂时|暫時|稍后|稍後|请重试|重新发送|临时"),
)

KOREAN: Table = (
    (Category.RATE_LIMITED, r"(?:발송|전송|접속|연결|메일|수신자).{0,10}(?:제한|초과|한도|너무 많)|너무 (?:많|자주)"),
    (Category.MAILBOX_FULL, r"(?:메일함|편지함|사서함|메일 ?박스|용량|저장 ?공간|할당량|받은편지함).{0,16}(?:초과|가득|부족|꽉|찼|넘)|용량(?:이)? ?(?:초과|부족)"),
    (Category.TOO_BIG, r"(?:메시지|메일|첨부|크기|본문).{0,12}(?:너무 (?:크|큽)|크기.{0,6}(?:초과|제한)|큽니다)|크기(?:가|를)? ?(?:초과|제한|너무)"),
    (Category.SPAM, r"스팸|광고성"),
    (Category.CONTENT, r"바이러스|악성|첨부.{0,10}(?:차단|금지|제한|허용)"),
    (Category.HOST_UNKNOWN, r"(?:도메인|호스트|서버).{0,14}(?:존재하지 ?않|찾을 수 없|알 수 없|없습니다|잘못)"),
    (Category.SUSPENDED, r"(?:계정|사용자|메일함|주소|아이디|회원).{0,14}(?:정지|중지|휴면|차단|비활성|해지|만료|잠)|휴면"),
    (Category.USER_UNKNOWN, r"(?:사용자|수신자|받는 ?사람|주소|계정|메일함|아이디|편지함|수신인).{0,20}(?:존재하지 ?않|찾을 수 없|알 수 없|없습니다|없는|잘못|유효하지|올바르지|등록되(?:지|어 있지))|(?:없는|알 수 없는|존재하지 ?않는) ?(?:사용자|수신자|주소|계정|메일|아이디)"),
    (Category.REJECTED, r"(?:보낸 ?사람|발신자|송신자|발송자).{0,14}(?:거부|거절|차단|권한|제한|허용)|수신 ?(?:거부|거절)|권한"),
    (Category.BLOCKED, r"(?:ip|서버|접속|연결).{0,12}(?:차단|거부|거절|제한)|블랙 ?리스트|정책|보안|차단"),
    (Category.EXPIRED, r"(?:전송|배달|발송|전달).{0,16}(?:시간|지연|초과|기간)|시간(?:이)? ?(?:초과|만료)|지연"),
    (Category.NETWORK, r"(?:연결|접속|네트워크|통신).{0,12}(?:실패|거부|끊|오류|불가|할 수 없|시간)|응답(?:이)? ?없|루프"),
    (Category.SYSTEM, r"(?:시스템|서버|내부).{0,10}(?:오류|장애|문제|점검)"),
    (Category.TEMPORARY, r"일시적|나중에|잠시 후|다시 시도"),
)

LANGUAGES: Mapping[str, Table] = {
    "ja": JAPANESE,
    "zh": CHINESE,
    "ko": KOREAN,
    "ru": RUSSIAN,
    "de": GERMAN,
    "fr": FRENCH,
    "it": ITALIAN,
    "es": SPANISH,
    "pt": PORTUGUESE,
}
