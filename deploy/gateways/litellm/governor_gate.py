"""Asks governor's gate before LiteLLM's proxy runs a request: refuses, or takes another model.

Put this file and deploy/producers/litellm_kafka.py beside the config of the proxy, and name both:

    litellm_settings:
      callbacks: [governor_gate.hook, litellm_kafka.logger]

Variables: LITELLM_GATE_URL (http://127.0.0.1:9465), LITELLM_GATE_TOKEN (where the gate asks its
callers for one), LITELLM_GATE_TIMEOUT_S (0.2), and LITELLM_GATE_FAIL: `open` (requests go through
where the gate does not answer) or `closed`.

Who asks comes from the proxy's keys and the tags that keys and teams have, so that no client can
say it is another. LITELLM_GATE_REQUEST_TAGS=feature,tier names dimensions that tags of the request
may say, too: where an application of your own sends them. The end user is what the request calls
its `user`: where clients are your customers, give each a key.
"""

import logging
import os
from typing import Any

import httpx
from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger

TAGGED = ("customer", "tier", "segment", "feature", "team", "project", "environment", "region")
"""Dimensions that a tag may name, as `feature:chat`."""
REQUEST_TAGS = tuple(filter(None, os.environ.get("LITELLM_GATE_REQUEST_TAGS", "").split(",")))
"""Those that a tag of the request may name, too."""

log = logging.getLogger("governor_gate")


class GateHook(CustomLogger):
    """A hook of LiteLLM that asks the gate."""

    def __init__(self) -> None:
        super().__init__()
        token = os.environ.get("LITELLM_GATE_TOKEN")
        self._closed = os.environ.get("LITELLM_GATE_FAIL", "open") == "closed"
        self._gate = httpx.AsyncClient(
            base_url=os.environ.get("LITELLM_GATE_URL", "http://127.0.0.1:9465"),
            timeout=float(os.environ.get("LITELLM_GATE_TIMEOUT_S", "0.2")),
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )
        self.unanswered = 0

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Refuse the request by an error, or return it, with another model where it is told so."""
        decision = await self._ask(dimensions(user_api_key_dict, data))
        if decision.get("allowed") is False:
            wait = decision.get("retry_after_s")
            raise HTTPException(
                status_code=403 if decision["decision"] == "block" else 429,
                detail={"error": {"message": decision["reason"], "governor": decision}},
                headers={"Retry-After": str(int(wait) + 1)} if wait else {},
            )
        if decision.get("model"):
            data["model"] = decision["model"]
        return data

    async def _ask(self, who: dict[str, str]) -> dict[str, Any]:
        try:
            answer = await self._gate.post("/v1/decide", json=who)
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            self.unanswered += 1
            if self.unanswered & (self.unanswered - 1) == 0:  # 1, 2, 4, 8, ...: not once a request
                log.error("the gate did not answer %d times: %r", self.unanswered, error)
            if self._closed:
                raise HTTPException(503, "governor's gate does not answer") from error
            return {"decision": "allow"}
        return found


def dimensions(key: Any, data: dict[str, Any]) -> dict[str, str]:
    """Return what the usage of a request will say of it."""
    asked = (data.get("metadata") or data.get("litellm_metadata") or {}).get("tags")
    found = {
        "customer": getattr(key, "end_user_id", None) or data.get("user"),
        "user": getattr(key, "user_id", None),
        "team": getattr(key, "team_alias", None) or getattr(key, "team_id", None),
        "segment": getattr(key, "org_id", None),
        "api_key": getattr(key, "key_alias", None) or getattr(key, "api_key", None),
        "model": data.get("model"),
    }
    found |= tagged(asked, REQUEST_TAGS)
    for metadata in (getattr(key, "team_metadata", None), getattr(key, "metadata", None)):
        found |= tagged((metadata or {}).get("tags"), TAGGED)
    return {name: str(value)[:256] for name, value in found.items() if value}


def tagged(tags: Any, known: tuple[str, ...]) -> dict[str, str]:
    """Return what tags such as `feature:chat` say of dimensions."""
    pairs = (str(tag).partition(":") for tag in tags or ())
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip() in known}


hook = GateHook()
