import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('transactional', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Intake',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('meter', models.CharField(choices=[('minute', 'mails a minute'), ('day', 'mails a day')], max_length=10)),
                ('starts_at', models.DateTimeField()),
                ('taken', models.PositiveIntegerField(default=0)),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='transactional.project', verbose_name='project')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('meter__in', ['minute', 'day'])), name='transactional_intake_meter'), models.UniqueConstraint(fields=('project', 'meter', 'starts_at'), name='transactional_intake_once')],
            },
        ),
    ]
