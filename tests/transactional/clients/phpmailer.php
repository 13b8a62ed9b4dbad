<?php
// A mail as WordPress sends one: wp_mail() hands PHPMailer a subject, HTML and attachments in UTF-8, and the form's settings.
require '/usr/share/php/libphp-phpmailer/autoload.php';

[, $host, $port, $security, $user, $password, $authority] = $argv;
$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->isSMTP();
$mail->Host = $host;
$mail->Port = (int) $port;
$mail->SMTPSecure = $security;
$mail->SMTPAuth = true;
$mail->Username = $user;
$mail->Password = $password;
$mail->SMTPOptions = ['ssl' => ['cafile' => $authority]];
$mail->CharSet = 'UTF-8';
$mail->setFrom('shop@example.com', '緑茶堂');
$mail->addAddress('a@example.net', '佐藤 花子');
$mail->addBCC('secret@example.net');
$mail->Subject = 'ご注文ありがとうございます';
$mail->isHTML(true);
$mail->Body = "<p>ご注文ありがとうございます。</p>\n.\n<p>緑茶</p>";
$mail->addStringAttachment("領収書\n", '領収書.txt');
$mail->SMTPDebug = PHPMailer\PHPMailer\SMTP::DEBUG_SERVER;
$mail->Debugoutput = fn ($line) => print("$line\n");
$mail->send();
