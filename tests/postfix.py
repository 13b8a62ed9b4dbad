"""Debian's Postfix on loopback ports, with everything of it in one folder, for tests of what it sends back.

with Postfix(transport={"bounce.example": "smtp:[127.0.0.1]:2525"}) as server:
    ... 127.0.0.1, server.port: takes mail for anybody; `refusals` say what becomes of it ...

It needs root, as Postfix does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from types import TracebackType

from tests.installation import free_ports, until

MASTER = Path("/usr/lib/postfix/sbin/master")
USABLE = os.getuid() == 0 and MASTER.exists()

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.receiver.test
mydomain = receiver.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
alias_maps =
local_recipient_maps =
smtpd_recipient_restrictions = permit
smtpd_relay_restrictions = permit_mynetworks, reject
transport_maps = texthash:{folder}/transport
recipient_delimiter = +
virtual_mailbox_domains = {mailbox_domain}
virtual_mailbox_maps = static:{maildir}
virtual_mailbox_base = {maildir_base}
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
mailhub_destination_recipient_limit = 1
"""
# The second port is the server of somebody who does not want the mail.
MASTERED = """\
127.0.0.1:{port} inet n - n - - smtpd
127.0.0.1:{refusing} inet n - n - - smtpd
  -o smtpd_recipient_restrictions=check_recipient_access,texthash:{folder}/refusals,permit
  -o message_size_limit=4096
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
mailhub unix - n n - 4 pipe
  flags=q user=nobody null_sender= argv=/usr/bin/python3 {folder}/bridge.py {folder}/bridge --recipient ${{original_recipient}} --sender ${{sender}}
"""
# Whom Postfix runs a command as may not be allowed to run the tests' Python: what it was given is carried over to who may.
BRIDGE = """\
import json, socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    sock.sendall(json.dumps(sys.argv[2:]).encode() + b"\\n" + sys.stdin.buffer.read())
    sock.shutdown(socket.SHUT_WR)
    sys.exit(sock.recv(1)[0])
"""


class Postfix:
    def __init__(
        self,
        *,
        transport: Mapping[str, str],
        refusals: Mapping[str, str],
        mailbox: tuple[str, Path, int, int],
        pipe: Callable[[list[str], bytes], int],
    ) -> None:
        """`refusals`: recipient -> reply; `mailbox`: a domain whose mail goes into that maildir, of that user and group; `pipe`: what
        the transport "mailhub:" does, with arguments and mail, to an exit code. In `transport`, REFUSING stands for the second port."""
        self.folder = Path(tempfile.mkdtemp(prefix="mailhub-postfix-"))
        self.folder.chmod(0o755)
        self.port, self.refusing = free_ports(2)
        self.pipe = pipe
        domain, maildir, uid, gid = mailbox
        values = {
            "folder": self.folder, "port": self.port, "refusing": self.refusing, "uid": uid, "gid": gid, "mailbox_domain": domain,
            "maildir": f"{maildir.name}/", "maildir_base": maildir.parent,
        }  # fmt: skip
        (self.folder / "main.cf").write_text(MAIN.format(**values))
        (self.folder / "master.cf").write_text(MASTERED.format(**values))
        (self.folder / "bridge.py").write_text(BRIDGE)
        lines = [f"{name} {way.replace('REFUSING', f'smtp:[127.0.0.1]:{self.refusing}')}" for name, way in transport.items()]
        (self.folder / "transport").write_text("\n".join(lines) + "\n")
        (self.folder / "refusals").write_text("".join(f"{name} {reply}\n" for name, reply in refusals.items()))
        self._make_queue()

    def _make_queue(self) -> None:
        spool = self.folder / "spool"
        spool.mkdir()
        for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"):
            (spool / name).mkdir(mode=0o700)
            shutil.chown(spool / name, "postfix")
        for name, mode in (("maildrop", 0o730), ("public", 0o710)):
            (spool / name).mkdir()
            (spool / name).chmod(mode)
            shutil.chown(spool / name, "postfix", "postdrop")
        (spool / "pid").mkdir()
        (self.folder / "data").mkdir(mode=0o700)
        shutil.chown(self.folder / "data", "postfix")

    def __enter__(self) -> Postfix:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(self.folder / "bridge"))
        (self.folder / "bridge").chmod(0o777)
        self.socket.listen(20)
        Thread(target=self._carry, name="bridge", daemon=True).start()
        self.process = subprocess.Popen(  # noqa: S603
            [MASTER, "-c", self.folder], stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr, start_new_session=True
        )
        until(self._listens)
        return self

    def _carry(self) -> None:

        while True:
            try:
                connection = self.socket.accept()[0]
            except OSError:
                return
            with connection, connection.makefile("rb") as file:
                arguments = json.loads(file.readline())
                connection.sendall(bytes([self.pipe(arguments, file.read())]))

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
                return sock.recv(100).startswith(b"220")
        except OSError:
            return False

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)
