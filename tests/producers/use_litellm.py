"""Uses the real litellm package with our logger: calls of every kind, answered by mocks of its own.

Run by tests/e2e/test_producers.py in an environment of its own; Kafka is named by variables.
"""

import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import litellm
from litellm import Usage
from litellm.types.utils import (
    CompletionTokensDetailsWrapper,
    ModelResponse,
    PromptTokensDetailsWrapper,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "producers"))

from litellm_kafka import logger

SAID = [{"role": "user", "content": "the kingfisher merger is secret"}]


def who(customer: str, feature: str) -> dict[str, Any]:
    """Return what a proxy puts into the metadata of a request."""
    return {"user_api_key_end_user_id": customer, "tags": [f"feature:{feature}"]}


def answer(name: str, model: str, usage: Usage) -> ModelResponse:
    """Return what a provider answers."""
    return ModelResponse(
        id=name,
        model=model,
        choices=[{"message": {"role": "assistant", "content": "kingfisher noted"}}],
        usage=usage,
    )


def cached() -> Usage:
    """Return usage of which a part came out of a cache, and a part was reasoning."""
    return Usage(
        prompt_tokens=1_000,
        completion_tokens=200,
        total_tokens=1_200,
        prompt_tokens_details=PromptTokensDetailsWrapper(cached_tokens=400),
        completion_tokens_details=CompletionTokensDetailsWrapper(reasoning_tokens=50),
    )


def anthropic() -> Usage:
    """Return what LiteLLM makes of Anthropic's usage: 10,000 of input, inclusive."""
    return Usage(
        prompt_tokens=10_000,
        completion_tokens=1_000,
        total_tokens=11_000,
        prompt_tokens_details=PromptTokensDetailsWrapper(
            cached_tokens=2_000, cache_creation_tokens=4_000
        ),
        cache_creation_input_tokens=4_000,
        cache_read_input_tokens=2_000,
    )


def calls() -> None:
    """Call synchronously: plain, cached, streamed, embedded, failed."""
    known: dict[str, Any] = {"metadata": who("acme", "answers")}
    litellm.completion(
        model="gpt-4o", messages=SAID, mock_response=answer("s1", "gpt-4o", cached()), **known
    )
    litellm.completion(
        model="anthropic/claude-sonnet-4-5",
        messages=SAID,
        mock_response=answer("s2", "claude-sonnet-4-5", anthropic()),
        **known,
    )
    stream = litellm.completion(
        model="gpt-4o-mini",
        messages=SAID,
        mock_response="a streamed kingfisher answer",
        stream=True,
        stream_options={"include_usage": True},
        **known,
    )
    (usage,) = [chunk.usage for chunk in stream if getattr(chunk, "usage", None)][-1:]
    print("streamed", usage.prompt_tokens, usage.completion_tokens)
    litellm.embedding(
        model="text-embedding-3-small", input=["kingfisher"], mock_response=[0.1, 0.2], **known
    )
    with contextlib.suppress(Exception):
        litellm.completion(
            model="gpt-4o",
            messages=SAID,
            mock_response="litellm.RateLimitError",
            num_retries=0,
            **known,
        )


async def acalls() -> None:
    """Call asynchronously."""
    await litellm.acompletion(
        model="gpt-4o",
        messages=SAID,
        mock_response=answer("a1", "gpt-4o", cached()),
        metadata=who("beta", "search"),
    )
    await asyncio.sleep(1)  # its logging worker runs beside


if __name__ == "__main__":
    litellm.callbacks = [logger]
    calls()
    asyncio.run(acalls())
    time.sleep(1)  # and its threads
    logger.close()
    print("lost", logger.lost)
