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
KANA = re.compile(r"[\u3041-\u30f6\uff66-\uff9d]")
HANGUL = re.compile(r"[\uac00-\ud7a3]")
CYRILLIC = re.compile(r"[\u0430-\u044f]")
HAN = re.compile(r"[\u4e00-\u9fa5]")
# Letters that a wrong guess is full of.
ODD = re.compile(r"[\u0400-\u040f\u0452-\u045f\u2500-\u257f\ue000-\uf8ff]")


def decode(data: bytes, charset: str = "") -> str:
    codec = CODECS.get(charset.strip().strip("\"'").lower().removeprefix("x-unknown"))
    if codec in ("ascii", None):
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
    if data.isascii():
        return data.decode("ascii")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return eight_bit(data)


def eight_bit(data: bytes) -> str:
    """Asian and Russian charsets are told by the letters that only the right one brings out in numbers; what is left is Latin."""
    high = sum(byte > 127 for byte in data[:4000])
    for codec, letters in (("euc_jp", KANA), ("cp932", KANA), ("cp949", HANGUL), ("gb18030", HAN), ("cp950", HAN)):
        text = strictly(data, codec)
        if text and len(letters.findall(text[:4000])) * 4 >= high * 0.6 / 2 and not ODD.search(text):
            return text
    for codec in ("koi8_r", "cp1251"):
        text = data.decode(codec, "replace")
        if len(CYRILLIC.findall(text[:4000])) >= 0.8 * high:
            return text
    return data.decode("utf-8", "replace") if mostly_utf8(data) else data.decode("cp1252", "replace")


def strictly(data: bytes, codec: str) -> str:
    """The text, or "" where the bytes are not of that charset. A character cut in two at the end is no proof against it."""
    for end in (len(data), len(data) - 1):
        try:
            return data[:end].decode(codec)
        except UnicodeDecodeError:
            continue
    return ""


def mostly_utf8(data: bytes) -> bool:
    return data.decode("utf-8", "replace").count("\ufffd") * 4 < sum(byte > 127 for byte in data)
