"""The client and the middleware against a real gate behind a real socket."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from governor.client import Client, Decision
from governor.client.middleware import DECISION, GateMiddleware
from governor.core.directives import Directive, Effect, WireCondition
from governor.gate.serve import configured, listening
from tests.unit.test_gate import directive
from tests.unit.test_gate_whole import gate_of

BLOCKED = {"customer": WireCondition(values=("bad",))}
RECORDS = (
    directive(rate_requests=1),
    directive(id="b", effect=Effect.BLOCK, scope=BLOCKED),
    directive(
        id="m",
        effect=Effect.DOWNGRADE,
        models={"gpt-4o": "gpt-4o-mini"},
        scope={"feature": WireCondition(values=("chat",))},
    ),
)


@contextlib.contextmanager
def served(*records: Directive, **options: Any) -> Iterator[str]:
    """Serve a gate that knows these directives; yield its address."""
    server = uvicorn.Server(configured(gate_of(*records, **options)))
    with listening("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def url() -> Iterator[str]:
    with served(*RECORDS) as url:
        yield url


def test_what_the_gate_says(url: str) -> None:
    """Each kind of decision comes typed, with its reason and its end."""
    client = Client(url, remember_s=0)
    assert client.decide(tier="paid", user=None) == Decision("allow")
    first, second = (client.decide(tier="free") for _ in range(2))
    assert (first.allowed, second.allowed) == (True, False)
    assert second.retry_after_s == 60.0
    assert second.until is not None
    assert second.until.tzinfo is not None
    assert client.decide(customer="bad").decision == "block"
    assert client.decide(feature="chat", model="gpt-4o").model == "gpt-4o-mini"
    with pytest.raises(ValueError, match="did you mean 'tier'"):
        client.decide(teir="free")
    client.close()


def test_what_is_remembered(url: str) -> None:
    """A plain answer for a second, a refusal while it lasts; what draws from a rate never."""
    now = [0.0]
    asked: list[bytes] = []

    class Counting(Client):
        def _answer(self, connection: Any, body: bytes) -> Decision:
            asked.append(body)
            return super()._answer(connection, body)

    client = Counting(url, monotonic=lambda: now[0])
    for _ in range(3):
        client.decide(tier="paid")
    assert len(asked) == 1
    now[0] = 1.1
    client.decide(tier="paid")
    assert len(asked) == 2
    assert [client.decide(tier="free").allowed for _ in range(3)] == [True, False, False]
    assert len(asked) == 4
    client.close()


@pytest.mark.parametrize(("fail", "allowed"), [("open", True), ("closed", False)])
def test_a_gate_that_does_not_answer(fail: Any, *, allowed: bool) -> None:
    """The client decides as it was told to, says so, and goes on once the gate is back."""
    with served(*RECORDS) as url:
        client = Client(url, fail=fail, remember_s=0)
        assert client.decide(tier="paid").answered
    found = client.decide(tier="paid")
    assert (found.allowed, found.answered) == (allowed, False)
    assert found.reason == "the gate does not answer"
    client.close()


def test_a_token() -> None:
    """A gate that asks for one is shown it."""
    with served(*RECORDS, caller_token="sesame") as secret:
        for token, answered in (("sesame", True), (None, False)):
            client = Client(secret, token=token)
            assert client.decide(tier="paid").answered is answered
            client.close()
    for wrong in ("127.0.0.1:9465", "ftp://x", ""):
        with pytest.raises(ValueError, match="must be such as http"):
            Client(wrong)


def test_an_application_asks_first(url: str) -> None:
    """Refused before it runs, with why and how long; else it reads which model to use."""
    ran: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        ran.append(scope.get(DECISION))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ran"})

    def who(scope: Any) -> dict[str, str] | None:
        return scope["who"]  # type: ignore[no-any-return]

    client = Client(url)
    middleware = GateMiddleware(application, client=client, who=who)

    def ask(who: dict[str, str] | None, kind: str = "http") -> tuple[int, dict[bytes, bytes]]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(middleware({"type": kind, "who": who}, None, send))  # type: ignore[arg-type]
        return sent[0]["status"], dict(sent[0]["headers"])

    assert ask({"feature": "chat", "model": "gpt-4o"})[0] == 200
    assert ran[-1].model == "gpt-4o-mini"
    assert [ask({"tier": "free"})[0] for _ in range(2)] == [200, 429]
    assert ask({"tier": "free"})[1][b"retry-after"] == b"60"
    assert ask({"customer": "bad"})[0] == 403
    count = len(ran)
    assert ask(None)[0] == ask({"tier": "free"}, "lifespan")[0] == 200
    assert ran[count:] == [None, None]
    client.close()
