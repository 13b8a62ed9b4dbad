"""Settings of a small Django site that sends the benchmark's mail, for the peers. The environment says where to."""

from __future__ import annotations

import os

import environ
from django.utils.crypto import get_random_string

SECRET_KEY = get_random_string(50)
INSTALLED_APPS = ["django.contrib.contenttypes", "post_office"]
DATABASES = {"default": environ.Env.db_url_config(os.environ["DATABASE_URL"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
EMAIL_HOST, EMAIL_PORT = os.environ["PEERS_HOST"], int(os.environ["PEERS_PORT"])
# Its default is 100 mails at a time and 5 threads a process.
POST_OFFICE = {"BACKENDS": {"default": "django.core.mail.backends.smtp.EmailBackend"}, "BATCH_SIZE": 5_000}
