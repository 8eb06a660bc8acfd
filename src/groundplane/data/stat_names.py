"""Which column names and label lengths SPSS, Stata and SAS take."""

import re
from collections.abc import Sequence

from groundplane.data.errors import refused
from groundplane.data.losses import quoted

_SPSS_WORDS = "ALL AND BY EQ GE GT LE LT NE NOT OR TO WITH"
_STATA_WORDS = "_all _b byte _coef _cons double float if in int long _n _N _pi _pred _rc _skip str strL using with"
XPT5_NAME, XPT5_LABEL, XPT5_TEXT = 8, 40, 200
"""What version 5 of SAS transport holds: characters of a name and a label, bytes of a text."""


def check_names(names: Sequence[str], ending: str) -> None:
    """Raise `ConversionError` (refused) naming the columns whose names the format cannot hold."""
    if bad := [name for name in names if not _fits(name, ending)]:
        raise refused(
            f"{ending} cannot hold the column name{'s' if len(bad) > 1 else ''} {quoted(bad)}", _RULES[ending]
        )
    if ending == "dta":
        return  # Stata tells upper case from lower
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(name.casefold(), name)) != name:
            raise refused(f"{ending} takes the column names '{other}' and '{name}' for one", "rename one of them")


_RULES = {
    "sav": "an SPSS name starts with a letter, has letters, digits, . _ $ # @ and at most 64 bytes; rename the column",
    "dta": "a Stata name starts with a letter or _, has letters, digits, _ and at most 32 of them; rename the column",
    "xpt": "a SAS name starts with a letter or _, has English letters, digits, _ and at most 32; rename the column",
}
_RULES["zsav"] = _RULES["sav"]


def _fits(name: str, ending: str) -> bool:
    if ending == "xpt":
        return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,31}", name) is not None
    if ending == "dta":
        word = re.fullmatch(r"[^\W\d]\w*", name)
        # str1 to str2045 are storage types.
        return (
            bool(word) and len(name) <= 32 and name not in _STATA_WORDS.split() and not re.fullmatch(r"str[0-9]+", name)
        )
    if len(name.encode()) > 64 or name.upper() in _SPSS_WORDS.split() or name.endswith("."):
        return False
    return re.fullmatch(r"[^\W\d_][\w.$#@]*", name) is not None


def shortened(text: str, limit: int) -> str:
    """Cut text to at most `limit` bytes of UTF-8, never inside a character."""
    return text.encode()[:limit].decode(errors="ignore")
