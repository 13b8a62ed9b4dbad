from __future__ import annotations


class Inbox:
    label = "Inbox"
