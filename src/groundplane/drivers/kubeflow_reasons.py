"""Why a task did not end well, from a KFP server's words. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from groundplane.drivers.kubeflow_api import Refused
from groundplane.drivers.kubeflow_runs import Seen, part
from groundplane.model.errors import Unavailable
from groundplane.model.reasons import Fault, Reason

CANCELLED = Reason("cancelled", "it was cancelled")
AGAIN = "ground runs rerun ID makes it anew"
IN_KUBEFLOW = "it is in Kubeflow; `ground backends check` tells what its API gives away"
_EXIT_CODE = re.compile(r"exit code (\d+)")
_PULL = re.compile(r"ErrImagePull|ImagePullBackOff|pull image|manifest unknown")


def failed(message: str) -> tuple[int | None, Reason | None]:
    """How a task failed whose error says this: its exit code, or the reason where it was not the work's own doing."""
    if "OOMKilled" in message:
        return 137, Reason("out_of_memory", f"it used more memory than it had: {message}", "ask for more memory")
    if "DeadlineExceeded" in message or "deadline" in message.lower():
        return None, Reason("timeout", f"its time was over: {message}", "raise the step's `timeout`")
    if _PULL.search(message):
        hint = "can the cluster's nodes reach the registry, and may they pull?"
        return None, Reason("image_pull", f"its image cannot be pulled: {message}", hint, Fault.BACKEND)
    code = _EXIT_CODE.search(message)
    return int(code[1]) if code else 1, None


def gone(run: str) -> Reason:
    """The KFP run is not there any more."""
    text = f"its run in Kubeflow ({run}) is not there any more: somebody deleted it"
    return Reason("run_gone", text, AGAIN, Fault.BACKEND)


def never(state: str, found: Mapping[str, Any], seen: Seen | None) -> Reason:
    """The run has ended, and the task has not, or never began."""
    said = str(part(found, "error").get("message", ""))
    what = "did not end it" if seen is not None else "never began it"
    text = f"its run in Kubeflow is {state.lower()} and {what}{f': {said}' if said else ''}"
    if state == "CANCELED":
        return Reason("stopped_outside", f"somebody terminated its run in Kubeflow, which {what}", AGAIN, Fault.BACKEND)
    return Reason("upstream_failed", text, "another task of the run has failed", Fault.BACKEND)


def refused(said: Refused) -> Reason:
    """What the server would not do."""
    if said.status in (401, 403):
        error = unavailable(said)
        return Reason(error.code, error.message, error.hint, Fault.BACKEND)
    return Reason("start_failed", f"Kubeflow refuses it: {said.message or said.status}", fault=Fault.BACKEND)


def unavailable(refused: Refused) -> Unavailable:
    """The same where nothing was to be run."""
    said = refused.message or str(refused.status)
    if refused.status == 401:
        hint = "put a token into KF_PIPELINES_TOKEN, and add the backend again"
        return Unavailable(f"the server does not know who asks: {said}", hint=hint, code="backend_unavailable")
    if refused.status == 403:
        hint = "may its token see and make runs in this namespace? --namespace NS names another"
        return Unavailable(f"the server refuses: {said}", hint=hint, code="backend_unavailable")
    hint = "--url is that of Kubeflow Pipelines: `/apis/v2beta1/healthz` follows it"
    return Unavailable(f"the server refuses: {said}", hint=hint, code="backend_unavailable")
