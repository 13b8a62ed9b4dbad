from __future__ import annotations


class SMTP:
    label = "SMTP"
