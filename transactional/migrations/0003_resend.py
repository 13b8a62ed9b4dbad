import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('transactional', '0002_intake'),
    ]

    operations = [
        migrations.CreateModel(
            name='Resend',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('idempotency_key', models.CharField(max_length=100, verbose_name='idempotency key')),
                ('digest', models.CharField(max_length=64)),
                ('message', models.BigIntegerField(null=True)),
                ('made_at', models.DateTimeField()),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='transactional.project', verbose_name='project')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('project', 'idempotency_key'), name='transactional_resend_once')],
            },
        ),
    ]
