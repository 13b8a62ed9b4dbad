"""People who do not exist, as many as are wanted, the same each time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Of each pair of lists the lengths (40 and 41) have no factor in common: walked side by side, 1,640 full names come before the first
# comes again.
GIVEN = (
    "Emma", "Oliver", "Amelia", "Jack", "Sophie", "Noah", "Grace", "Leo", "Chloe", "Arthur", "Ruby", "Henry", "Alice", "Thomas",
    "Freya", "Samuel", "Hannah", "Daniel", "Lucy", "Adam", "Priya", "Mateo", "Ingrid", "Omar", "Siobhan", "Pierre", "Elena", "Kwame",
    "Anneke", "Rafael", "Zara", "Dmitri", "Fatima", "Sven", "Bianca", "Ravi", "Nadia", "Hugo", "Leila", "Owen",
)  # fmt: skip
FAMILY = (
    "Wilson", "Taylor", "Evans", "Hughes", "Walker", "Wright", "Green", "Hall", "Clarke", "Baker", "Cooper", "Ward", "Morgan", "Bell",
    "Murphy", "Bailey", "Collins", "Parker", "Shaw", "Foster", "Reid", "Murray", "Grant", "Fraser", "O'Connor", "Patel", "Garcia",
    "Larsen", "Rossi", "Novak", "Dubois", "Schmidt", "Silva", "Mensah", "Khan", "Jansen", "Costa", "Weber", "Moreau", "Lindqvist",
    "Okafor",
)  # fmt: skip
CITIES = (
    "London", "Bristol", "Leeds", "Edinburgh", "Cardiff", "Belfast", "Dublin", "New York", "Seattle", "Portland", "Toronto",
    "Vancouver", "Sydney", "Melbourne", "Auckland", "Singapore", "Berlin", "Paris", "Amsterdam",
)  # fmt: skip
TEAS = ("sencha", "gyokuro", "hojicha", "genmaicha", "matcha")

# With the Latin letters that their addresses are written in.
MEI = (
    "結衣 yui", "大翔 hiroto", "陽菜 hina", "蓮 ren", "葵 aoi", "悠真 yuma", "凛 rin", "湊 minato", "咲良 sakura", "樹 itsuki",
    "美咲 misaki", "翔太 shota", "愛子 aiko", "健一 kenichi", "由美 yumi", "直樹 naoki", "恵 megumi", "誠 makoto", "香織 kaori",
    "拓也 takuya", "真由美 mayumi", "浩 hiroshi", "千尋 chihiro", "剛 tsuyoshi", "久美子 kumiko", "隆 takashi", "桃子 momoko",
    "修 osamu", "裕子 yuko", "亮 ryo", "智子 tomoko", "和也 kazuya", "彩 aya", "学 manabu", "奈々 nana", "聡 satoshi", "麻衣 mai",
    "徹 toru", "幸子 sachiko", "光 hikaru",
)  # fmt: skip
MYOJI = (
    "佐藤 sato", "鈴木 suzuki", "高橋 takahashi", "田中 tanaka", "伊藤 ito", "渡辺 watanabe", "山本 yamamoto", "中村 nakamura",
    "小林 kobayashi", "加藤 kato", "吉田 yoshida", "山田 yamada", "佐々木 sasaki", "山口 yamaguchi", "松本 matsumoto", "井上 inoue",
    "木村 kimura", "林 hayashi", "斎藤 saito", "清水 shimizu", "山崎 yamazaki", "森 mori", "池田 ikeda", "橋本 hashimoto", "阿部 abe",
    "石川 ishikawa", "前田 maeda", "藤田 fujita", "小川 ogawa", "岡田 okada", "後藤 goto", "長谷川 hasegawa", "石井 ishii",
    "村上 murakami", "近藤 kondo", "坂本 sakamoto", "遠藤 endo", "青木 aoki", "藤井 fujii", "西村 nishimura", "福田 fukuda",
)  # fmt: skip
MACHI = (
    "札幌市", "仙台市", "さいたま市", "千葉市", "世田谷区", "横浜市", "新潟市", "金沢市", "長野市", "静岡市", "名古屋市", "京都市",
    "大阪市", "神戸市", "奈良市", "岡山市", "広島市", "松山市", "福岡市", "熊本市", "鹿児島市", "那覇市",
)  # fmt: skip
OCHA = ("煎茶", "玉露", "ほうじ茶", "玄米茶", "抹茶")


@dataclass(frozen=True, slots=True)
class Person:
    email: str
    name: str
    language: str
    attributes: dict[str, Any]


def person(number: int) -> Person:
    """Every second one is Japanese. Addresses are of domains that are nobody's (RFC 2606; JPRS reserves example.jp)."""
    turn = number // 2
    if number % 2:
        mei, given = MEI[turn % 40].split()
        myoji, family = MYOJI[turn % 41].split()
        host = "example.jp" if turn % 3 else "example.org"
        return Person(f"{given}.{family}{number}@{host}", f"{myoji} {mei}", "ja", _attributes(number, MACHI, OCHA))
    name = f"{GIVEN[turn % 40]} {FAMILY[turn % 41]}"
    local = f"{name.lower().replace(' ', '.').replace(chr(39), '')}{number}"
    host = "example.com" if turn % 3 else "example.org"
    return Person(f"{local}@{host}", name, "en", _attributes(number, CITIES, TEAS))


def _attributes(number: int, cities: tuple[str, ...], teas: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {"city": cities[number // 2 % len(cities)], "points": number * 37 % 900 + 20}
    # Not everybody has told it.
    return found | {"favourite": teas[number % len(teas)]} if number % 7 else found
