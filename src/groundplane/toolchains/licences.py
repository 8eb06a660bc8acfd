"""What a licensed engine prints when its licence manager gives it no seat.

Untested: from the makers' documents and from what their users report; none of these engines was run here.
"""

from __future__ import annotations

import re

from groundplane.model.reasons import Fault, Reason
from groundplane.toolchains.endings import MESSAGE_LIMIT

MATLAB = re.compile(
    r"License Manager Error (?P<code>-\d+)\.?[ \t]*\n\s*(?P<text>[^\n]+)"
    r"|^(?:FLEXlm|FLEXnet |Flex\w* )?Licensing error: ?(?P<flex>-\d+[^\n]*)",
    re.MULTILINE | re.IGNORECASE,
)
SAS = re.compile(
    r"\AERROR: (?P<text>[^\n]*(?:not licensed|licen[cs]e has expired|setinit data|setinit information)[^\n]*)",
    re.IGNORECASE,
)
"""Of a log from its first error on, with its lines unwrapped."""
SPSS = re.compile(
    r"^>?\s*(?P<text>[^\n]*(?:There is no licen[cs]e for|No licen[cs]e (?:was )?(?:found|obtained)|Sentinel RMS"
    r"|licen[cs]es are (?:currently |already )?in use|licen[cs]e (?:for [^\n]+ )?has expired)[^\n]*)",
    re.MULTILINE | re.IGNORECASE,
)


def refusal(engine: str, pattern: re.Pattern[str], *logs: str) -> Reason | None:
    """The reason of a work that got no seat: the last refusal in its log; None when there is none."""
    found = [match for log in logs for match in pattern.finditer(log)]
    if not found:
        return None
    parts = found[-1].groupdict()
    said = parts.get("text") or f"licensing error {parts.get('flex')}"
    code = parts.get("code")
    message = " ".join(f"{said} (License Manager Error {code})".split() if code else said.split())
    return Reason(
        "no_licence_seat",
        message[:MESSAGE_LIMIT],
        hint=f"the licence manager gave no seat: it is tried again. `ground licences set {engine} --seats N "
        "[--server PORT@HOST]` has tasks wait for one instead",
        fault=Fault.BACKEND,
    )
