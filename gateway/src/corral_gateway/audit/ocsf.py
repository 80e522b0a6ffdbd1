"""Records as events of the Open Cybersecurity Schema Framework, 1.3.0: https://schema.ocsf.io/1.3.0. Pure.

========================  =====================================================================
request.begun, .ended     API Activity (6003); Create, Read or Delete by the method
request.refused           Authentication (3002), Logon, where nobody was known; else API Activity
decision                  API Activity (6003) with the profile security_control: Allowed or Denied
execution                 Process Activity (1007), Terminate: the tool in its sandbox
audit.*                   Event Log Activity (1008)
========================  =====================================================================
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from corral import __version__
from corral_gateway.audit.log import Stored
from corral_gateway.audit.records import Kind

VERSION = "1.3.0"
_API, _AUTHENTICATION, _PROCESS, _EVENT_LOG = 6003, 3002, 1007, 1008
_OTHER = 99
#: A method of HTTP, or the first word of a gRPC one.
_ACTIVITIES = {"POST": 1, "GET": 2, "HEAD": 2, "OPTIONS": 2, "PUT": 3, "PATCH": 3, "DELETE": 4}
_EVENT_LOG_ACTIVITIES = {Kind.AUDIT_STARTED: 6, Kind.AUDIT_STOPPED: 7, Kind.AUDIT_REMOVED: 2}
_INFORMATIONAL, _LOW = 1, 2
_SUCCESS, _FAILURE = 1, 2
_ALLOWED, _DENIED = 1, 2


def event_of(one: Stored) -> dict[str, Any]:
    """Return the event of a record."""
    said = one.said
    kind = said["kind"]
    if kind in {Kind.REQUEST_BEGUN, Kind.REQUEST_ENDED, Kind.REQUEST_REFUSED}:
        made = _request(said)
    elif kind == Kind.DECISION:
        made = _decision(said)
    elif kind == Kind.EXECUTION:
        made = _execution(said)
    else:
        made = _audit(said)
    class_uid, activity = made["class_uid"], made["activity_id"]
    failed = made.get("status_id") == _FAILURE
    return {
        "metadata": {
            "version": VERSION,
            "product": {"name": "Corral", "vendor_name": "Corral", "version": __version__},
            "uid": one.hash,
            "sequence": one.seq,
            "log_name": kind,
            "correlation_uid": said.get("requestId") or said.get("taskUid") or one.hash,
            "profiles": ["security_control"] if "action_id" in made else [],
        },
        "time": _milliseconds(said["time"]),
        "category_uid": class_uid // 1000,
        "type_uid": class_uid * 100 + activity,
        "severity_id": _LOW if failed else _INFORMATIONAL,
        "unmapped": {"corral": said},
        **made,
    }


def _request(said: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "src_endpoint": {"ip": said["source"]} if said["source"] else {"name": "unknown"},
        "http_request": {
            "http_method": said["method"],
            "url": {"path": said["target"]},
            "user_agent": said["userAgent"],
            "uid": said["requestId"],
        },
    }
    if "code" in said:
        made |= {
            "status_id": _SUCCESS if said["status"] == "success" else _FAILURE,
            "status_code": said["code"],
        }
    if "reason" in said:
        made["status_detail"] = said["reason"]
    if said.get("count", 1) != 1:
        made |= {
            "count": said["count"],
            "start_time": _milliseconds(said["began"]),
            "end_time": _milliseconds(said["time"]),
        }
    if said.get("reason") == "Unauthenticated":
        return made | {"class_uid": _AUTHENTICATION, "activity_id": 1, "user": {"name": "unknown"}}
    return made | {
        "class_uid": _API,
        "activity_id": _ACTIVITIES.get(said["method"], _OTHER),
        "actor": _actor(said),
        "api": {
            "operation": f"{said['method']} {said['route']}".strip(),
            "request": {"uid": said["requestId"]},
            "service": {"name": "corral-gateway"},
        },
    }


def _decision(said: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "class_uid": _API,
        "activity_id": _OTHER,
        "activity_name": "Decide",
        "actor": _actor(said),
        "api": {"operation": "decide", "request": {"uid": said["requestId"]}},
        "src_endpoint": {"svc_name": "corral-gateway"},
        "resources": [{"name": tool, "type": "tool"} for tool in said["tools"]],
        "action_id": _ALLOWED if said["allowed"] else _DENIED,
        "status_id": _SUCCESS if said["allowed"] else _FAILURE,
    }
    return made | ({"status_detail": said["reason"]} if "reason" in said else {})


def _execution(said: Mapping[str, Any]) -> dict[str, Any]:
    sandbox = said.get("sandbox", {})
    made: dict[str, Any] = {
        "class_uid": _PROCESS,
        "activity_id": 2,
        "actor": _actor(said),
        "device": {
            "type_id": _OTHER,
            "type": "Sandbox",
            "name": sandbox.get("podName") or sandbox.get("node") or "sandbox",
        },
        "process": {
            "name": said["tool"],
            "uid": f"{said['taskUid']}/{said['execution']}/{said['attempt']}",
        },
        "status_id": _SUCCESS if said["status"] == "success" else _FAILURE,
    }
    if "exitCode" in said:
        made["exit_code"] = said["exitCode"]
    return made | ({"status_detail": said["reason"]} if "reason" in said else {})


def _audit(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "class_uid": _EVENT_LOG,
        "activity_id": _EVENT_LOG_ACTIVITIES.get(said["kind"], _OTHER),
        "actor": {"app_name": "corral-gateway"},
        "device": {"type_id": _OTHER, "type": "Gateway", "name": "corral-gateway"},
    }


def _actor(said: Mapping[str, Any]) -> dict[str, Any]:
    user = {"name": said["caller"] or "unknown"}
    if said.get("credential"):
        user["uid"] = said["credential"]
    return {"user": user}


def _milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
