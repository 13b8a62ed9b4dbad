"""Wrong combinations of settings, told before they cost a mail."""

from __future__ import annotations
