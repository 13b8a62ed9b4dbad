import django.core.validators
import django.db.models.deletion
import mailhub.lib.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('delivery', '0001_initial'),
        ('relays', '0003_warmup'),
        ('senders', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Mailbox',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True, verbose_name='name')),
                ('status', models.CharField(choices=[('active', 'active'), ('paused', 'paused')], default='active', editable=False, max_length=10, verbose_name='status')),
                ('protocol', models.CharField(choices=[('imap', 'IMAP'), ('pop3', 'POP3')], default='imap', max_length=4, verbose_name='protocol')),
                ('host', models.CharField(max_length=253, verbose_name='host')),
                ('port', models.PositiveIntegerField(blank=True, help_text='Empty: the usual one.', null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(65535)], verbose_name='port')),
                ('security', models.CharField(choices=[('tls', 'TLS'), ('starttls', 'STARTTLS'), ('none', 'none')], default='tls', max_length=8, verbose_name='encryption')),
                ('username', models.CharField(max_length=320, verbose_name='user name')),
                ('login', models.CharField(choices=[('password', 'password'), ('oauth', 'OAuth 2.0')], default='password', max_length=8, verbose_name='log in with')),
                ('token_url', models.URLField(blank=True, help_text='Where OAuth access tokens are bought: https://oauth2.googleapis.com/token at Google.', max_length=500, verbose_name='token URL')),
                ('client_id', models.CharField(blank=True, max_length=300, verbose_name='client ID')),
                ('secrets', mailhub.lib.fields.EncryptedJSONField(blank=True, default=dict, editable=False, verbose_name='secrets')),
                ('folders', models.TextField(default='INBOX', help_text='One a line. Add the folder for junk: some servers put bounces there. POP3 has only the inbox.', verbose_name='folders')),
                ('done_folder', models.CharField(blank=True, help_text='A folder, made if need be. Empty: mails are deleted at the server once MailHub has stored them.', max_length=200, verbose_name='move read mails to')),
                ('polled_at', models.DateTimeField(blank=True, editable=False, null=True, verbose_name='last looked into')),
                ('problem', models.CharField(blank=True, editable=False, max_length=500, verbose_name='problem')),
                ('failures', models.PositiveIntegerField(default=0, editable=False, verbose_name='failures in a row')),
                ('next_poll_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('held_until', models.DateTimeField(editable=False, null=True)),
                ('asked_again', models.BooleanField(default=False, editable=False)),
                ('stumbles', models.JSONField(default=dict, editable=False)),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
            ],
            options={
                'verbose_name': 'mailbox',
                'verbose_name_plural': 'mailboxes',
                'ordering': ['name'],
                'constraints': [models.CheckConstraint(condition=models.Q(('status__in', ['active', 'paused'])), name='feedback_mailbox_status'), models.CheckConstraint(condition=models.Q(('protocol__in', ['imap', 'pop3'])), name='feedback_mailbox_protocol')],
            },
        ),
        migrations.CreateModel(
            name='Probe',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('status', models.CharField(choices=[('waiting', 'answer awaited'), ('kept', 'return path kept'), ('callback', 'told by callback'), ('refused', 'refused'), ('silent', 'nothing came back')], default='waiting', max_length=10, verbose_name='status')),
                ('to', models.CharField(max_length=320, verbose_name='recipient')),
                ('return_path', models.CharField(max_length=320, verbose_name='return path')),
                ('accepted', models.BooleanField(default=False, verbose_name='accepted by relay')),
                ('reply', models.CharField(blank=True, max_length=500, verbose_name='reply')),
                ('sent_at', models.DateTimeField(verbose_name='sent')),
                ('called_back_at', models.DateTimeField(blank=True, null=True, verbose_name='told by callback')),
                ('came_back_at', models.DateTimeField(blank=True, null=True, verbose_name='came back')),
                ('relay', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='probes', to='relays.relay', verbose_name='relay')),
                ('sender', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='senders.sender', verbose_name='sender')),
            ],
            options={
                'verbose_name': 'return path test',
                'verbose_name_plural': 'return path tests',
                'ordering': ['-id'],
                'constraints': [models.CheckConstraint(condition=models.Q(('status__in', ['waiting', 'kept', 'callback', 'refused', 'silent'])), name='feedback_probe_status')],
            },
        ),
        migrations.CreateModel(
            name='IncomingMail',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.CharField(editable=False, max_length=64, unique=True)),
                ('source', models.CharField(choices=[('mailbox', 'mailbox'), ('smtp', 'SMTP'), ('pipe', "mail server's command"), ('upload', 'upload')], max_length=10, verbose_name='came by')),
                ('status', models.CharField(choices=[('new', 'to be read'), ('applied', 'recorded'), ('noted', 'nothing to do'), ('unmatched', 'not matched'), ('unproven', 'not proven'), ('stuck', 'set aside'), ('dismissed', 'dismissed')], default='new', max_length=10, verbose_name='status')),
                ('rcpt_to', models.CharField(blank=True, max_length=320, verbose_name='envelope recipient')),
                ('mail_from', models.CharField(blank=True, max_length=320, verbose_name='envelope sender')),
                ('raw', models.BinaryField(blank=True, null=True, verbose_name='mail')),
                ('size', models.PositiveIntegerField(verbose_name='size')),
                ('kind', models.CharField(blank=True, choices=[('bounce', 'bounce'), ('delivered', 'delivered'), ('complaint', 'complaint'), ('auto_reply', 'auto_reply'), ('receipt', 'receipt'), ('challenge', 'challenge'), ('receiver_report', 'receiver_report'), ('other', 'other')], max_length=20, verbose_name='kind')),
                ('subject', models.CharField(blank=True, max_length=500, verbose_name='subject')),
                ('sender', models.CharField(blank=True, max_length=320, verbose_name='from')),
                ('reports', models.JSONField(blank=True, default=list, verbose_name='reports')),
                ('proof', models.CharField(blank=True, choices=[('return_path', 'return path'), ('header', 'signed header'), ('message_id', 'Message-ID'), ('staff', 'matched by hand')], max_length=12, verbose_name='matched by')),
                ('tries', models.PositiveSmallIntegerField(default=0, verbose_name='tries')),
                ('received_at', models.DateTimeField(verbose_name='received')),
                ('read_at', models.DateTimeField(blank=True, null=True, verbose_name='read')),
                ('message', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='delivery.message', verbose_name='message')),
                ('mailbox', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='mails', to='feedback.mailbox', verbose_name='mailbox')),
            ],
            options={
                'verbose_name': 'incoming mail',
                'verbose_name_plural': 'incoming mails',
                'ordering': ['-id'],
                'indexes': [models.Index(condition=models.Q(('status', 'new')), fields=['id'], name='feedback_incoming_new'), models.Index(condition=models.Q(('status__in', ['unmatched', 'unproven', 'stuck'])), fields=['status', 'id'], name='feedback_incoming_open'), models.Index(condition=models.Q(('message__isnull', False)), fields=['message'], name='feedback_incoming_message'), models.Index(condition=models.Q(('raw__isnull', False)), fields=['received_at'], name='feedback_incoming_words')],
                'constraints': [models.CheckConstraint(condition=models.Q(('status__in', ['new', 'applied', 'noted', 'unmatched', 'unproven', 'stuck', 'dismissed'])), name='feedback_incoming_status')],
            },
        ),
    ]
