"""Why ports could not be opened, for the commands that listen on some."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError

from transactional.smtpd.certificates import NoCertificate


@contextmanager
def explained(where: str, taken: str) -> Iterator[None]:
    """`where`: which ports of which addresses. `taken`: what follows that where another program has them, with the remedy. Raises
    CommandError."""
    try:
        yield
    except NoCertificate as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandError(f"{where}{taken}") from None
        if error.errno == errno.EACCES:
            remedy = "Those below 1024 need the capability CAP_NET_BIND_SERVICE; docs/operations.md has a unit for systemd."
            raise CommandError(f"{where} may not be opened. {remedy}") from None
        raise
