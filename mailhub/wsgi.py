from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

from mailhub import checks

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mailhub.settings")

application = get_wsgi_application()
checks.refuse_to_serve()
