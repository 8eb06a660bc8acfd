"""An event in the words of other systems: OCSF, CEF, RFC 5424 syslog. Pure; a line each, without its newline.

event: a leaf, as it is or in clear. A person whose name is sealed is told by what stands for that person.
"""

from __future__ import annotations

import json
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from groundplane.model.version import VERSION

_OCSF = "1.7.0"
_PRODUCT = "Groundplane"
_API_ACTIVITY = 6003
_CREATE, _READ, _UPDATE, _DELETE, _OTHER = 1, 2, 3, 4, 99
_ACTIVITIES = {
    **dict.fromkeys(("submit", "create", "add", "build", "lock", "rerun", "install"), (_CREATE, "Create")),
    **dict.fromkeys(("read", "get", "list", "show", "reveal", "export"), (_READ, "Read")),
    **dict.fromkeys(("set", "update", "cancel", "declassify", "attest"), (_UPDATE, "Update")),
    **dict.fromkeys(("remove", "delete", "revoke", "prune", "forget", "expire"), (_DELETE, "Delete")),
}
_INFORMATIONAL, _MEDIUM = (1, "Informational"), (3, "Medium")
_SUCCESS, _FAILURE = (1, "Success"), (2, "Failure")
_CEF_LOW, _CEF_MEDIUM = 3, 6
_LOG_AUDIT, _WARNING, _NOTICE = 13, 4, 5  # facility and severities of RFC 5424
_LONGEST_MSGID = 32
_CONTROLS = {code: f"#{code:03o}" for code in (*range(0x20), 0x7F)}  # as rsyslog writes them


def ocsf(event: dict[str, Any], number: int) -> str:
    """An API Activity (6003)."""
    activity, name = _ACTIVITIES.get(_verb(event), (_OTHER, _verb(event)))
    failed = event["outcome"] != "done"
    severity, status = (_MEDIUM, _FAILURE) if failed else (_INFORMATIONAL, _SUCCESS)
    kind, _, _ = event["action"].partition(".")
    person, credential = _who(event["actor"]), event["details"].get("actor", {}).get("credential")
    document = {
        "activity_id": activity,
        "activity_name": name,
        "category_uid": _API_ACTIVITY // 1000,
        "class_uid": _API_ACTIVITY,
        "type_uid": _API_ACTIVITY * 100 + activity,
        "time": _milliseconds(event),
        "severity_id": severity[0],
        "severity": severity[1],
        "status_id": status[0],
        "status": status[1],
        "status_detail": event["outcome"],
        "metadata": {
            "version": _OCSF,
            "product": {"name": _PRODUCT, "vendor_name": _PRODUCT, "version": VERSION},
            "uid": event["id"],
            "sequence": number,
            "original_time": event["time"],
            "log_name": "audit",
        },
        "actor": {"user": {**person, **({"credential_uid": credential} if credential else {})}},
        "api": {"operation": event["action"], "service": {"name": _PRODUCT.lower()}},
        "src_endpoint": _endpoint(event["source"]),
        "resources": [{"type": kind, **_who(event["object"])}],
        "unmapped": event["details"],
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def cef(event: dict[str, Any], number: int) -> str:
    """ArcSight's Common Event Format, version 0."""
    source = _endpoint(event["source"]).get("ip")
    fields: dict[str, object] = {
        "rt": _milliseconds(event),
        "externalId": event["id"],
        "suser": next(iter(_who(event["actor"]).values())),
        "act": event["action"],
        "outcome": event["outcome"],
        **({"src" if ":" not in source else "c6a2": source} if source else {}),
        **({"c6a2Label": "Source IPv6 Address"} if source and ":" in source else {}),
        "cs1Label": "object",
        "cs1": next(iter(_who(event["object"]).values())),
        "cs2Label": "details",
        "cs2": _compact(event["details"]),
        "cn1Label": "number",
        "cn1": number,
    }
    severity = _CEF_LOW if event["outcome"] == "done" else _CEF_MEDIUM
    head = [_PRODUCT, _PRODUCT, VERSION, event["action"], f"{event['action']} {event['outcome']}", str(severity)]
    extension = " ".join(f"{name}={_cef_value(str(value))}" for name, value in fields.items())
    return f"CEF:0|{'|'.join(_cef_head(part) for part in head)}|{extension}"


def syslog(event: dict[str, Any], number: int) -> str:
    """RFC 5424: the fields as structured data, what happened as the message."""
    priority = _LOG_AUDIT * 8 + (_NOTICE if event["outcome"] == "done" else _WARNING)
    person = next(iter(_who(event["actor"]).values()))
    on = next(iter(_who(event["object"]).values()))
    fields = {
        "id": event["id"],
        "number": str(number),
        "actor": person,
        "source": _endpoint(event["source"]).get("ip") or event["source"],
        "action": event["action"],
        "object": on,
        "outcome": event["outcome"],
        "details": _compact(event["details"]),
    }
    # 32473: the enterprise number that RFC 5612 keeps for documentation; Groundplane has none of its own.
    data = "".join(f' {name}="{_parameter(value)}"' for name, value in fields.items())
    message = f"{person} {event['action']} {on}: {event['outcome']}".translate(_CONTROLS)
    name = "".join(sign if "!" <= sign <= "~" else "_" for sign in event["action"])[:_LONGEST_MSGID] or "-"
    return f"<{priority}>1 {event['time']} - groundplane - {name} [audit@32473{data}] \ufeff{message}"


def _verb(event: dict[str, Any]) -> str:
    return event["action"].rpartition(".")[2]


def _who(text: str) -> dict[str, str]:
    """A name, or, when it is sealed, what stands for it."""
    return {"uid": text.split(":")[1]} if text.startswith("sealed:") and text.count(":") == 2 else {"name": text}


def _endpoint(source: str) -> dict[str, str]:
    try:
        return {"ip": str(ip_address(source))}
    except ValueError:
        return {"name": "sealed" if source.startswith("sealed:") else source or "control plane"}


def _milliseconds(event: dict[str, Any]) -> int:
    return round(datetime.fromisoformat(event["time"]).timestamp() * 1000)


def _compact(details: dict[str, Any]) -> str:
    return json.dumps(details, ensure_ascii=False, separators=(",", ":"))


def _cef_head(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("\r", " ")


def _cef_value(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("=", "\\=")
    return escaped.replace("\r\n", "\\n").replace("\n", "\\n").replace("\r", "\\r")


def _parameter(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
    return escaped.translate(_CONTROLS)
