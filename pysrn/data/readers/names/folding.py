"""What a class name shares with those that look like it: `folded`; and what of it the eye does not see."""

from __future__ import annotations

import re
import unicodedata

# Letters or marks to Unicode, but nothing to the eye: fillers, the joiner of graphemes, variation selectors.
_UNSEEN = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u3164\uffa0\ufe00-\ufe0f"
_INVISIBLE = re.compile(f"[{_UNSEEN}]")
# Joiners and variation selectors belong to words of some languages and to emoji; the others nobody types on purpose.
_NOTHING = re.compile(
    "(?<![^\0-\x7f])[\u200c\u200d\ufe0e\ufe0f]|[\u00ad\u034f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)
# Letters of other alphabets that look like Latin ones. Assumed: of Unicode's confusables (UTS 39) those of Cyrillic,
# Greek and Armenian, and Latin ones beyond ASCII. Capitals and small letters apart: Cyrillic `В` is seen as B, `в` not.
_CAPITALS = dict(
    zip("АВЕЅІЈКМНОРСТУХԚԜҮΑΒΕΖΗΙΚΜΝΟΡΤΥΧՕՍԼ", "ABESIJKMHOPCTYXQWYABEZHIKMNOPTYXOUL", strict=True)
)  # fmt: skip
_SMALL = dict(zip("аеѕіјорсухһԛԝүαικνορυχγηωօսոհցɑɡıⅼ", "aesijopcyxhqwyaikvopuxynwounhgagil", strict=True))
_SEEN = str.maketrans(_CAPITALS | _SMALL)
_SEEN_FOLDED = str.maketrans({letter.casefold(): twin.casefold() for letter, twin in _CAPITALS.items()} | _SMALL)
_SINGLE, _DOUBLE = "\u2018\u2019\u201b\u02bc\u2032\u00b4`", "\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033"
_QUOTES = str.maketrans(dict.fromkeys(_SINGLE, "'") | dict.fromkeys(_DOUBLE, '"'))
_MIXED = re.compile(f"[A-Za-z][{''.join(map(chr, _SEEN))}]|[{''.join(map(chr, _SEEN))}][A-Za-z]")
# Around a name these say nothing. What may belong to it stays: `C++`, `C#`, `5%`, `.5`.
_AROUND = re.compile(r"""^[\s"']+|^[#@*•·.,:;!?]+\s*(?=[^\W\d])|[\s"'.,:;!?。、،؛؟·•]+$""")
_BRACKETS = re.compile(r"^(?:\(.+\)|\[.+\]|\{.+\}|<.+>)$")


def folded(name: str) -> str:
    """What a name shares with its look-alikes: one Unicode form (NFKC), no case, blanks, `_`, hyphens, unseen signs,
    quotes, brackets and marks around it, and Latin letters for those of other alphabets that look like them.

    What tells numbers apart is kept: `10-20` is not `1020`, `-1` is not `1`; but `3.0` is `3`.
    """
    text = seen(name)
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = "".join(map(_plain_sign, text)).translate(_SEEN_FOLDED).strip()
    while (bare := _BRACKETS.sub(lambda found: found[0][1:-1], _AROUND.sub("", text))) not in ("", text):
        text = bare
    sign = "-" if re.match(r"-\d", text) else ""
    text = re.sub(r"(?<![\d -])[ -]++|[ -]++(?!\d)", "", text)  # what divides digits stays
    text = sign + re.sub(r"[ -]+", " ", text)
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text) or name


def seen(name: str) -> str:
    """A name in one Unicode form, without what shows nothing, and in Latin letters where it has some of these."""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", name.translate(_QUOTES)))
    return text.translate(_SEEN) if re.search("[A-Za-z]", text) else text


def oddly_written(name: str) -> str:
    """What of a name cannot be seen: signs that show nothing, letters of two alphabets in a word; empty for nothing."""
    text = unicodedata.normalize("NFKC", name)
    if _NOTHING.search(text) or any(unicodedata.category(sign) == "Cc" for sign in text):
        return "has signs that cannot be seen"
    return "mixes letters of two alphabets that look alike" if _MIXED.search(text) else ""


def _plain_sign(sign: str) -> str:
    kind = unicodedata.category(sign)
    if sign.isspace() or kind == "Pc":
        return " "
    if kind == "Pd" or sign == "\N{MINUS SIGN}":
        return "-"
    return "" if kind in ("Cf", "Cc") else sign
