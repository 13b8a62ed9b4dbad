"""The files in which reports come: XML or JSON, packed with gzip or zip or not at all. Unpacked piece by piece, within bounds."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator

from django.utils.translation import gettext as _

# Bytes of a file as it comes; of one that is unpacked; and pieces.
MOST_PACKED = 25 * 1024 * 1024
MOST_UNPACKED = 200 * 1024 * 1024
PIECE = 64 * 1024
# Files in an archive that are looked at.
MOST_FILES = 50
# What is unpacked may be so many times as large as what it was packed in, once it is larger than a small report: reports come to 10 to 60.
RATIO, SMALL = 200, 1024 * 1024

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"


class Unreadable(Exception):
    """No report can be read here. The text is for people."""


def documents(data: bytes) -> Iterator[Iterator[bytes]]:
    """The pieces of each file in there. Raises Unreadable, as the pieces do; archives within archives are not opened."""
    if len(data) > MOST_PACKED:
        raise Unreadable(_("It is larger than %(size)s MB.") % {"size": MOST_PACKED // 1024 // 1024})
    if data.startswith(GZIP):
        yield gunzip(data)
    elif data.startswith(ZIP):
        yield from unzip(data)
    else:
        yield (data[start : start + PIECE] for start in range(0, len(data), PIECE))


def gunzip(data: bytes) -> Iterator[bytes]:
    """All of its members, one after the other."""
    size, rest = 0, data
    while rest.startswith(GZIP):
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        left = rest
        while not unpacker.eof:
            try:
                piece = unpacker.decompress(left, PIECE)
            except zlib.error as error:
                raise Unreadable(_("The archive is broken: %(error)s") % {"error": error}) from None
            left = unpacker.unconsumed_tail
            size += len(piece)
            _bounded(size, len(data))
            if piece:
                yield piece
            elif not left and not unpacker.eof:
                raise Unreadable(_("The archive ends too early."))
        rest = unpacker.unused_data


def unzip(data: bytes) -> Iterator[Iterator[bytes]]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise Unreadable(_("The archive is broken: %(error)s") % {"error": error}) from None
    for entry in entries[:MOST_FILES]:
        if entry.flag_bits & 1:
            raise Unreadable(_("The archive has a password."))
        yield _unzipped(archive, entry)


def _unzipped(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    size = 0
    try:
        with archive.open(entry) as file:
            # Whatever size the archive claims: what comes is counted.
            while piece := file.read(PIECE):
                size += len(piece)
                _bounded(size, entry.compress_size)
                yield piece
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise Unreadable(_("The archive is broken: %(error)s") % {"error": error}) from None


def _bounded(size: int, packed: int) -> None:
    if size > MOST_UNPACKED:
        raise Unreadable(_("Unpacked it is larger than %(size)s MB.") % {"size": MOST_UNPACKED // 1024 // 1024})
    if size > SMALL and size > RATIO * max(packed, 1):
        raise Unreadable(_("Unpacked it is more than %(ratio)s times as large.") % {"ratio": RATIO})
