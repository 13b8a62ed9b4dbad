"""A name server on 127.0.0.1 that says what a test has told it to, over UDP and TCP, as a resolver would: it follows CNAMEs itself.

    with DNSServer() as server:
        server.add("example.test", "MX", "10 mx.example.test.")
        server.add("mx.example.test", "A", "127.0.0.2")
        settings.MAILHUB_DNS_SERVERS = [server.address]

Names that were not told do not exist (NXDOMAIN); those with other kinds of records, or with names below them, have no such data.
tests/conftest.py has it as the fixture `dns_server`, with the settings made and nothing remembered.
"""

from __future__ import annotations

import socketserver
import struct
import threading
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset


class DNSServer:
    def __init__(self) -> None:
        #: (name, kind) -> records
        self.records: dict[tuple[dns.name.Name, str], dns.rrset.RRset] = {}
        #: what is answered for a name, whatever the kind, instead of its records
        self.rcodes: dict[dns.name.Name, dns.rcode.Rcode] = {}
        #: names of which every question is left unanswered
        self.silent: set[dns.name.Name] = set()
        #: names whose answers carry the AD flag when it was asked for, as a validating resolver's do
        self.signed: set[dns.name.Name] = set()
        #: every question that came: name without the final dot, kind, "udp" or "tcp"
        self.asked: list[tuple[str, str, str]] = []
        self.tcp = _TCP(("127.0.0.1", 0), _TCPHandler)
        self.udp = _UDP(self.tcp.server_address, _UDPHandler)
        self.tcp.names = self.udp.names = self
        #: as MAILHUB_DNS_SERVERS holds it
        self.address: tuple[str, int] = ("127.0.0.1", self.tcp.server_address[1])

    def add(self, name: str, kind: str, *records: str, ttl: int = 300, signed: bool = False) -> None:
        """Add records, written as in a zone file, to those that the name has."""
        owner = dns.name.from_text(name)
        new = dns.rrset.from_text_list(owner, ttl, "IN", kind, records)
        old = self.records.get((owner, kind))
        self.records[owner, kind] = new.union(old) if old else new
        if signed:
            self.signed.add(owner)

    def remove(self, name: str, kind: str) -> None:
        self.records.pop((dns.name.from_text(name), kind), None)

    def fail(self, name: str, rcode: str = "SERVFAIL") -> None:
        self.rcodes[dns.name.from_text(name)] = dns.rcode.from_text(rcode)

    def silence(self, name: str) -> None:
        self.silent.add(dns.name.from_text(name))

    def mend(self, name: str) -> None:
        """Answer for the name again."""
        self.rcodes.pop(dns.name.from_text(name), None)
        self.silent.discard(dns.name.from_text(name))

    def __enter__(self) -> DNSServer:
        for server in (self.udp, self.tcp):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        for server in (self.udp, self.tcp):
            server.shutdown()
            server.server_close()

    def answer(self, data: bytes, transport: str) -> bytes | None:
        try:
            query = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return None
        question = query.question[0]
        name, kind = question.name, dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name.to_text(omit_final_dot=True), kind, transport))
        if name in self.silent:
            return None
        response = dns.message.make_response(query, recursion_available=True)
        if name in self.rcodes:
            response.set_rcode(self.rcodes[name])
        else:
            self.look_up(response, name, kind)
            if name in self.signed and query.flags & dns.flags.AD:
                response.flags |= dns.flags.AD
        most = 65535 if transport == "tcp" else max(512, query.payload)
        try:
            return response.to_wire(max_size=most)
        except dns.exception.TooBig:
            cut = dns.message.make_response(query, recursion_available=True)
            cut.flags |= dns.flags.TC
            return cut.to_wire()

    def look_up(self, response: dns.message.Message, name: dns.name.Name, kind: str) -> None:
        seen = set()
        while name not in seen:
            seen.add(name)
            if (name, kind) in self.records:
                response.answer.append(self.records[name, kind])
                return
            if (name, "CNAME") not in self.records:
                break
            alias = self.records[name, "CNAME"]
            response.answer.append(alias)
            name = alias[0].target
        else:
            return
        if not any(owner.is_subdomain(name) for owner, _kind in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)


class _TCP(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    names: DNSServer


class _UDP(socketserver.ThreadingUDPServer):
    daemon_threads = True
    names: DNSServer


class _UDPHandler(socketserver.BaseRequestHandler):
    server: _UDP

    def handle(self) -> None:
        data, sock = self.request
        if answer := self.server.names.answer(data, "udp"):
            sock.sendto(answer, self.client_address)


class _TCPHandler(socketserver.StreamRequestHandler):
    server: _TCP
    rfile: Any

    def handle(self) -> None:
        while head := self.rfile.read(2):
            answer = self.server.names.answer(self.rfile.read(struct.unpack("!H", head)[0]), "tcp")
            if answer is None:
                return
            self.wfile.write(struct.pack("!H", len(answer)) + answer)
