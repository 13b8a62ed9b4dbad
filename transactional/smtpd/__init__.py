"""SMTP submission (RFC 6409): mail from whatever speaks SMTP, by the same door as all the rest.

certificates.py has what TLS needs, protocol.py speaks, mail.py makes a mail fit, committer.py commits it, server.py holds them together.
"""
