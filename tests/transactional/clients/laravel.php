<?php
// What Laravel's MailManager makes of the MAIL_... lines of .env: a transport of Symfony's Mailer.
require '/usr/share/php/Symfony/Component/Mailer/autoload.php';

use Symfony\Component\Mailer\Mailer;
use Symfony\Component\Mailer\Transport\Dsn;
use Symfony\Component\Mailer\Transport\Smtp\EsmtpTransportFactory;
use Symfony\Component\Mime\Address;
use Symfony\Component\Mime\Email;

$env = parse_ini_string($argv[1], false, INI_SCANNER_RAW);
if ($env['MAIL_MAILER'] !== 'smtp') { exit(1); }
// Until version 10 there was no scheme, and from 11 on there is no encryption.
$old = $env['MAIL_ENCRYPTION'] === 'tls' ? ($env['MAIL_PORT'] == 465 ? 'smtps' : 'smtp') : '';
$scheme = $argv[2] === 'old' ? $old : $env['MAIL_SCHEME'];
$dsn = new Dsn($scheme, $env['MAIL_HOST'], $env['MAIL_USERNAME'], $env['MAIL_PASSWORD'], (int) $env['MAIL_PORT']);
$mail = (new Email())
    ->from(new Address($env['MAIL_FROM_ADDRESS'], '緑茶堂'))
    ->to(new Address('a@example.net', '佐藤 花子'))
    ->bcc('secret@example.net')
    ->subject('ご注文ありがとうございます')
    ->text("ご注文ありがとうございます。\n.\n")
    ->html('<p>ご注文ありがとうございます。</p>')
    ->attach("領収書\n", '領収書.txt');
(new Mailer((new EsmtpTransportFactory())->create($dsn)))->send($mail);
