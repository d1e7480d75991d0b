"""From text to search terms: Unicode word break, possessives, stop words, Porter stems.

The same terms as Anserini's default English analyser (Lucene's StandardTokenizer and filters).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from unicodedata import category, name

from nextstep_envs.worlds.webshop.stemmer import stem

MAX_TOKEN_LENGTH = 255
STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with".split()
)

# Unicode 14 Extended_Pictographic, Han and complex-context (South East Asian) ranges, which unicodedata does not know.
_PICTOGRAPHS = """A9 AE 203C 2049 2122 2139 2194-2199 21A9-21AA 231A-231B 2328 2388 23CF 23E9-23F3 23F8-23FA 24C2
25AA-25AB 25B6 25C0 25FB-25FE 2600-2605 2607-2612 2614-2685 2690-2705 2708-2712 2714 2716 271D 2721 2728 2733-2734 2744
2747 274C 274E 2753-2755 2757 2763-2767 2795-2797 27A1 27B0 27BF 2934-2935 2B05-2B07 2B1B-2B1C 2B50 2B55 3030 303D 3297
3299 1F000-1F0FF 1F10D-1F10F 1F12F 1F16C-1F171 1F17E-1F17F 1F18E 1F191-1F19A 1F1AD-1F1E5 1F201-1F20F 1F21A 1F22F
1F232-1F23A 1F23C-1F23F 1F249-1F3FA 1F400-1F53D 1F546-1F64F 1F680-1F6FF 1F774-1F77F 1F7D5-1F7FF 1F80C-1F80F 1F848-1F84F
1F85A-1F85F 1F888-1F88F 1F8AE-1F8FF 1F90C-1F93A 1F93C-1F945 1F947-1FAFF 1FC00-1FFFD"""
_HAN = "2E80-2E99 2E9B-2EF3 2F00-2FD5 3005 3007 3021-3029 3038-303B 3400-4DBF 4E00-9FFF F900-FAD9 20000-323AF"
_COMPLEX = """E01-E3A E40-E4E E81-EBD EC0-ECD EDC-EDF 1000-103F 1050-108F 109A-109F 1780-17D3 17D7 17DC-17DD 1950-1974
1980-19C9 19DE-19DF 1A20-1A7C 1AA0-1AAD A9E0-A9EF A9FA-A9FE AA60-AADF"""
# Alphabetic although not of category L or Nl: modifier symbols, Armenian and Hebrew marks, circled and squared letters.
_OTHER_LETTERS = "2C2-2C5 2D2-2D7 2DE-2DF 2E5-2FF 55A-55C 55E 58A 5F3 24B6-24E9 A708-A721 A789-A78A 1F130-1F189"

_NOTHING = " "


def _ranges(text: str) -> tuple[range, ...]:
    pairs = (item.partition("-") for item in text.split())
    return tuple(range(int(first, 16), int(last or first, 16) + 1) for first, _, last in pairs)


class _WordBreak(dict[int, str]):
    """One letter for the word-break class of each character, worked out when a character is first met.

    L letter, N digit, K Katakana, U underscore-like, b joins letters, c joins digits, d joins both, E combining mark or
    format character, J zero-width joiner, P pictograph, R regional indicator, S South East Asian, H Han or Hiragana.
    """

    _RANGES = (
        ("P", _ranges(_PICTOGRAPHS)),
        ("R", _ranges("1F1E6-1F1FF")),
        ("H", _ranges(_HAN)),
        ("S", _ranges(_COMPLEX)),
        ("E", _ranges("200C FF9E-FF9F 1F3FB-1F3FF")),
        ("K", _ranges("3031-3035 309B-309C 32D0-32FE 3300-3357")),
        ("L", _ranges(_OTHER_LETTERS)),
    )

    def __init__(self) -> None:
        super().__init__({0x200D: "J", 0x200B: _NOTHING, 0x202F: "U", 0x66B: "N"})
        joiners = (
            ("b", ":\u00b7\u0387\u055f\u05f4\u2027\ufe13\ufe55\uff1a"),
            ("c", ",;\u037e\u0589\u060c\u060d\u066c\u07f8\u2044\ufe10\ufe14\ufe50\ufe54\uff0c\uff1b"),
            ("d", ".'\u2018\u2019\u2024\ufe52\uff07\uff0e"),
        )
        for kind, chars in joiners:
            self.update((ord(char), kind) for char in chars)

    def __missing__(self, code: int) -> str:
        kind = self[code] = self._classify(code)
        return kind

    def _classify(self, code: int) -> str:
        for kind, ranges in self._RANGES:
            if any(code in part for part in ranges):
                return kind
        general = category(chr(code))
        if general[0] == "L" or general == "Nl":
            script = name(chr(code), "")
            if script.startswith("HIRAGANA"):
                return "H"
            return "K" if "KATAKANA" in script else "L"
        if general[0] == "M" or general == "Cf":
            return "E"
        return {"Nd": "N", "Pc": "U"}.get(general, _NOTHING)


def _token_pattern() -> re.Pattern[str]:
    """Where tokens lie in a string of word-break classes (UAX #29, rules WB3c to WB17)."""
    marks = "[EJ]*"
    letter, digit, katakana, under = (kind + marks for kind in "LNKU")
    letters = f"{letter}(?:(?:(?:{under})*|[bd]{marks}){letter})*"
    digits = f"{digit}(?:(?:(?:{under})*|[cd]{marks}){digit})*"
    run = f"(?:{katakana}(?:(?:{under})*{katakana})*|(?:{letters}|{digits})+)"
    word = f"(?:{under})*+{run}(?:(?:{under})+{run})*(?:{under})*"
    pictograph = f"P{marks}(?:(?<=J)P{marks})*"
    # A run of U alone is matched so that it is scanned once; `_tokens` drops it.
    return re.compile(f"{word}|{pictograph}|R{marks}R{marks}|H{marks}|(?:S{marks})+|(?:{under})+")


_CLASSES = _WordBreak()
_TOKEN = _token_pattern()


def analyze(text: str) -> list[str]:
    """The search terms of a text, in order, repeats kept."""
    return [stem(word) for word in words(text)]


def words(text: str) -> Iterator[str]:
    """Lower-cased words of a text without possessive endings and stop words."""
    for token in tokens(text):
        word = normalize(token)
        if word not in STOP_WORDS:
            yield word


def normalize(token: str) -> str:
    """A token without its possessive ending, lower-cased character by character."""
    if len(token) > 1 and token[-1] in "sS" and token[-2] in "'’＇":
        token = token[:-2]
    return token.lower() if token.isascii() else "".join(char.lower()[0] for char in token)


def tokens(text: str) -> Iterator[str]:
    """The words of a text as the Unicode word break finds them, the longest cut as Lucene does."""
    classes = text.translate(_CLASSES)
    for match in _TOKEN.finditer(classes):
        start, end = match.span()
        if classes[start] == "U" and not classes[start:end].strip("UEJ"):
            continue
        for position in range(start, end, MAX_TOKEN_LENGTH):
            yield text[position : min(end, position + MAX_TOKEN_LENGTH)]
