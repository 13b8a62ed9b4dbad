"""Debian's Dovecot on loopback ports, with everything of it in one folder, for tests of mailboxes.

with Dovecot(folder, authority.issue("localhost")) as server:
    server.put(b"Subject: hello\\r\\n\\r\\n")
    ... localhost, server.imap, server.imaps, server.pop3; user "bounces", password "secret" ...
    server.mails("INBOX")
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from tests.certificates import Identity
from tests.installation import free_ports, until

USER, PASSWORD = "bounces", "secret"
BINARY = "/usr/sbin/dovecot"

CONFIGURATION = """\
protocols = imap pop3
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
listen = 127.0.0.1
default_internal_user = {owner}
default_internal_group = {group}
default_login_user = {owner}
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:{folder}/mail/%u
disable_plaintext_auth = no
auth_failure_delay = 0
ssl = yes
ssl_cert = <{folder}/certificate.pem
ssl_key = <{folder}/certificate.pem
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={owner} gid={group} home={folder}/home/%u
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
"""


class Dovecot:
    def __init__(self, identity: Identity) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mailhub-dovecot-"))
        self.imap, self.imaps, self.pop3 = free_ports(3)
        # It keeps mail as root for nobody.
        self.owner = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        (self.folder / "certificate.pem").write_text(identity.pem)
        for name in ("run", "state", "home", f"mail/{USER}/cur", f"mail/{USER}/new", f"mail/{USER}/tmp"):  # noqa: S108
            (self.folder / name).mkdir(parents=True)
        group = grp.getgrgid(self.owner.pw_gid).gr_name
        (self.folder / "dovecot.conf").write_text(
            CONFIGURATION.format(
                folder=self.folder,
                owner=self.owner.pw_name,
                group=group,
                password=PASSWORD,
                imap=self.imap,
                imaps=self.imaps,
                pop3=self.pop3,
            )
        )
        self._give_away()
        self.count = 0

    def _give_away(self) -> None:
        if os.getuid() == 0:
            for path in [self.folder, *self.folder.rglob("*")]:
                os.chown(path, self.owner.pw_uid, self.owner.pw_gid)

    def put(self, raw: bytes, folder: str = "INBOX") -> None:
        """A mail arrives."""
        self.count += 1
        path = self._maildir(folder) / "new" / f"1700000000.{self.count}.test"
        path.write_bytes(raw.replace(b"\r\n", b"\n"))
        self._give_away()

    def mails(self, folder: str = "INBOX") -> list[bytes]:
        found = [path for part in ("new", "cur") for path in (self._maildir(folder) / part).glob("*")]
        return [path.read_bytes() for path in sorted(found)]

    def _maildir(self, folder: str) -> Path:
        return self.folder / "mail" / USER / ("" if folder == "INBOX" else f".{folder}")

    def __enter__(self) -> Dovecot:
        as_owner = ["runuser", "-u", self.owner.pw_name, "--"] if os.getuid() == 0 else []
        self.process = subprocess.Popen(  # noqa: S603
            [*as_owner, BINARY, "-F", "-c", self.folder / "dovecot.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._listens)
        return self

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.imap), timeout=5) as sock:
                return sock.recv(100).startswith(b"* OK")
        except OSError:
            return False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)
