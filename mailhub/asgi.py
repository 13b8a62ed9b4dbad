from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

from mailhub import checks

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mailhub.settings")

application = get_asgi_application()
checks.refuse_to_serve()
