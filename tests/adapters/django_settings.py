"""Django, configured once for the tests of a process: it can't be configured twice. Tests override settings."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        SECRET_KEY="secret",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=[],
        ROOT_URLCONF=(),
        USE_TZ=True,
    )
    django.setup()
