"""Bytes of a mail to text, whatever they call themselves. Never raises, and calls no codec that a name in a mail could choose."""

from __future__ import annotations

import re

# Python's name for what a mail may be in; anything else is guessed.
CODECS = {
    "us-ascii": "ascii",
    "ascii": "ascii",
    "ansi_x3.4-1968": "ascii",
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "unicode-1-1-utf-8": "utf-8",
    "utf-7": "utf-7",
    "unicode-1-1-utf-7": "utf-7",
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "iso-2022-jp": "iso2022_jp_ext",
    "iso-2022-jp-1": "iso2022_jp_ext",
    "iso-2022-jp-ms": "iso2022_jp_ext",
    "csiso2022jp": "iso2022_jp_ext",
    "cp50220": "iso2022_jp_ext",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "cp932": "cp932",
    "ms932": "cp932",
    "euc-jp": "euc_jp",
    "x-euc-jp": "euc_jp",
    "eucjp": "euc_jp",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "x-gbk": "gb18030",
    "cp936": "gb18030",
    "hz-gb-2312": "hz",
    "big5": "cp950",
    "big5-hkscs": "big5hkscs",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "ks_c_5601": "cp949",
    "cp949": "cp949",
    "iso-2022-kr": "iso2022_kr",
    "koi8-r": "koi8_r",
    "koi8-u": "koi8_u",
    "cp866": "cp866",
    "macintosh": "mac_roman",
    "latin1": "latin_1",
    "tis-620": "tis_620",
    **{f"iso-8859-{number}": f"iso8859_{number}" for number in range(1, 17) if number != 12},
    **{f"windows-{number}": f"cp{number}" for number in range(1250, 1259)},
    **{f"cp{number}": f"cp{number}" for number in range(1250, 1259)},
}
ESCAPES = re.compile(rb"\x1b(?:\$[@B(]|\([BJI])")

KANA = re.compile(r"[\u3041-\u30f6]")
HANGUL = re.compile(r"[\uac00-\ud7a3]")
HAN = re.compile(r"[\u4e00-\u9fa5]")
CYRILLIC = re.compile(r"[\u0410-\u044f\u0401\u0451]")
SMALL = re.compile(r"[\u0430-\u044f]")
CAPITAL_INSIDE = re.compile(r"[\u0430-\u044f][\u0410-\u042f]")
FOREIGN = re.compile(r"[^\x00-\x7f\s\u3000-\u303f\uff00-\uff20]")
# A charset, the letters that only the right one brings out, and how many of all letters they must be.
TWO_BYTES = (("euc_jp", KANA, 0.25), ("cp932", KANA, 0.25), ("cp949", HANGUL, 0.9), ("gb18030", HAN, 0.7), ("cp950", HAN, 0.7))
SAMPLE = 4000


def decode(data: bytes, charset: str = "") -> str:
    codec = CODECS.get(charset.strip().strip("\"'").lower())
    if codec in (None, "ascii") or (codec == "utf-8" and ESCAPES.search(data)):
        return guess(data)
    if codec == "utf-8":
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return guess(data)
    return data.decode(codec, "replace")


def guess(data: bytes) -> str:
    """The text of bytes that do not say what they are, or say it wrongly."""
    if ESCAPES.search(data):
        return data.decode("iso2022_jp_ext", "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return eight_bit(data)


def eight_bit(data: bytes) -> str:
    """Neither ASCII nor UTF-8."""
    text = data.decode("utf-8", "replace")
    high = sum(byte > 127 for byte in data)
    if text.count("\ufffd") * 4 < high:
        # UTF-8 in which little is broken.
        return text
    if sum(one > 127 and other > 127 for one, other in zip(data[:SAMPLE], data[1:SAMPLE], strict=False)) * 3 < sum(
        byte > 127 for byte in data[:SAMPLE]
    ):
        # Single letters with marks among plain ones.
        return data.decode("cp1252", "replace")
    # In the wrong one of the two, capitals and small letters have changed places.
    text = max((data.decode(codec, "replace") for codec in ("koi8_r", "cp1251")), key=lambda text: len(SMALL.findall(text[:SAMPLE])))
    if share(CYRILLIC, text) > 0.9 and len(CAPITAL_INSIDE.findall(text)) * 10 < len(CYRILLIC.findall(text)):
        return text
    for codec, letters, least in TWO_BYTES:
        text = strictly(data, codec)
        if share(letters, text) >= least:
            return text
    return data.decode("cp1252", "replace")


def share(letters: re.Pattern[str], text: str) -> float:
    foreign = len(FOREIGN.findall(text[:SAMPLE]))
    return len(letters.findall(text[:SAMPLE])) / foreign if foreign else 0


def strictly(data: bytes, codec: str) -> str:
    """The text, or "" where the bytes are not of that charset. A character cut in two at the end is no proof against it."""
    for end in (len(data), len(data) - 1):
        try:
            return data[:end].decode(codec)
        except UnicodeDecodeError:
            continue
    return ""
