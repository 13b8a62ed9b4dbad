<?php
// wp_mail() as WordPress has it, without a site around it, and what the plugin WP Mail SMTP does to it by the constants of wp-config.php.
define('ABSPATH', $argv[1] . '/');
define('WPINC', 'wp-includes');
eval($argv[2]);

foreach (['compat', 'plugin', 'load', 'http', 'formatting', 'pluggable', 'class-wp-error'] as $part) {
    require ABSPATH . WPINC . "/$part.php";
}
function get_bloginfo(string $about): string { return ['charset' => 'UTF-8'][$about]; }
function network_home_url(): string { return 'https://blog.example/'; }
function __(string $text): string { return $text; }

if (!WPMS_ON || WPMS_MAILER !== 'smtp') { exit(1); }
if (WPMS_MAIL_FROM_FORCE) { add_filter('wp_mail_from', fn () => WPMS_MAIL_FROM, PHP_INT_MAX); }
add_action('phpmailer_init', function ($mail): void {
    $mail->isSMTP();
    $mail->Host = WPMS_SMTP_HOST;
    $mail->Port = WPMS_SMTP_PORT;
    $mail->SMTPSecure = WPMS_SSL;
    $mail->SMTPAuth = WPMS_SMTP_AUTH;
    $mail->Username = WPMS_SMTP_USER;
    $mail->Password = WPMS_SMTP_PASS;
    $mail->Timeout = 30;
    if (WPMS_SET_RETURN_PATH) { $mail->Sender = $mail->From; }
});
add_action('wp_mail_failed', fn ($error) => fwrite(STDERR, $error->get_error_message() . "\n"));

$headers = ['From: WordPress <wordpress@blog.example>', 'Content-Type: text/html', 'Bcc: secret@example.net', 'Reply-To: help@blog.example'];
$sent = wp_mail('a@example.net', 'ご注文ありがとうございます', '<p>ご注文ありがとうございます。</p>', $headers, [__FILE__]);
exit($sent ? 0 : 1);
