"""The gate, whole: decisions against a reference, time, identity, gateways, shared rates."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from governor import telemetry
from governor.core.directives import Directive, Effect, Heartbeat, WireCondition
from governor.core.errors import ConfigError
from governor.core.rules.actions import Fail
from governor.gate.app import Gate
from governor.gate.board import is_meant
from governor.gate.follow import News
from governor.gate.identity import Identity, TokenOptions, Tokens, UnknownCallerError
from governor.gate.lease import Lease
from tests.unit.test_gate import LEASE, NOW, Site, directive, heartbeat

SECOND = timedelta(seconds=1)


def block(**changes: Any) -> Directive:
    return directive(effect=Effect.BLOCK, **changes)


def downgrade(models: Mapping[str, str], **changes: Any) -> Directive:
    return directive(effect=Effect.DOWNGRADE, models=dict(models), **changes)


def allow(**changes: Any) -> Directive:
    return directive(effect=Effect.ALLOW, fail=Fail.CLOSED, **changes)


# ------------------------------------------------------------------------ against a reference


def reference(
    directives: list[Directive], asked: Mapping[str, str | None], now: datetime, lease: datetime
) -> tuple[str, bool, str | None]:
    """Decide as the page of the reference says, one directive after the other; no rate is used."""

    def meant(each: Directive) -> bool:
        for name, condition in each.scope.items():
            value = asked.get(name)
            like = value is not None and any(fnmatchcase(value, g) for g in condition.like)
            if (value in condition.values or like) is condition.not_:
                return False
        begins = each.starts_at or NOW - LEASE
        led = now < lease if each.fail is Fail.OPEN else begins < lease or not each.starts_at
        named = f"{each.rule}\0{each.action}\0{asked.get(each.percent_of or '')}".encode()
        share = int.from_bytes(blake2b(named, digest_size=4).digest()) % 100 < each.percent
        some = each.percent == 100 or (asked.get(each.percent_of or "") is not None and share)
        return begins <= now < each.until and led and some and not each.shadow

    held = [each for each in directives if meant(each)]
    kinds = {each.effect for each in held}
    if Effect.ALLOW in kinds:
        return "allow", True, None
    if Effect.BLOCK in kinds:
        return "block", False, None
    refused = any(e.effect is Effect.THROTTLE and not e.rate_requests for e in held)
    model = None
    for each in sorted(held, key=lambda e: -e.version):
        wanted = asked.get("model")
        if each.effect is Effect.DOWNGRADE and wanted and model is None:
            globs = (new for old, new in each.models.items() if fnmatchcase(wanted, old))
            new = each.models.get(wanted) or next(globs, None)
            model = None if new == wanted else new
    kind = "throttle" if Effect.THROTTLE in kinds else "downgrade" if model else "allow"
    return kind, not refused, None if refused else model


values = st.sampled_from(["a", "b", "ab", "gpt-4o", "gpt-4o-mini"])
conditions = st.builds(
    WireCondition,
    values=st.lists(values, max_size=2).map(tuple),
    like=st.lists(st.sampled_from(["*", "a*", "gpt-*"]), max_size=1).map(tuple),
    not_=st.booleans(),
)
names = ["customer", "tier", "model"]
made = st.builds(
    lambda effect, scope, **more: directive(effect=effect, scope=scope, **more),
    effect=st.sampled_from([e for e in Effect if e is not Effect.RELEASE]),
    scope=st.dictionaries(st.sampled_from(names), conditions, max_size=2),
    rate_requests=st.sampled_from([0, 10**6]),
    models=st.dictionaries(
        st.sampled_from(["gpt-4o", "gpt-*", "a"]), values, min_size=1, max_size=2
    ),
    fail=st.sampled_from(Fail),
    shadow=st.booleans(),
    percent=st.sampled_from([0, 30, 100]),
    percent_of=st.sampled_from(["customer", "user"]),
    starts_at=st.sampled_from([None, NOW - SECOND, NOW + 20 * SECOND, NOW + 90 * SECOND]),
    until=st.sampled_from([NOW + 10 * SECOND, NOW + timedelta(hours=1)]),
)
asked_for = st.dictionaries(st.sampled_from([*names, "user"]), st.none() | values, max_size=4)


@pytest.mark.slow
@settings(deadline=None, max_examples=2_000)
@given(
    st.lists(made, max_size=6),
    st.lists(asked_for, min_size=1, max_size=4),
    st.sampled_from([0, 5, 15, 25, 40, 120]),
)
def test_decisions_are_those_of_the_reference(
    drawn: list[Directive], asked: list[dict[str, str | None]], later_s: int
) -> None:
    """Whatever directives there are, at whatever time: kind, whether it runs, and the model."""
    directives = [
        msgspec.structs.replace(each, id=str(n), version=n + 1) for n, each in enumerate(drawn)
    ]
    site = Site(heartbeat(), *directives)
    site.now = NOW + later_s * SECOND
    found = site.ask(asked)[1]  # type: ignore[arg-type]
    for question, answer in zip(asked, found, strict=True):
        kind, runs, model = reference(directives, question, site.now, NOW + LEASE)
        assert answer["decision"] == kind
        assert answer.get("allowed", True) is runs
        assert answer.get("model") == model


def test_what_is_said_of_each() -> None:
    """Every decision names its rule and reason, and until when; a block how long to wait."""
    site = Site(
        heartbeat(),
        block(id="b", scope={"tier": WireCondition(values=("free",))}),
        downgrade({"gpt-4o": "gpt-4o-mini"}, id="d", scope={}),
        allow(id="a", scope={"customer": WireCondition(values=("vip",))}, reason="launch"),
    )
    blocked = site.ask({"tier": "free"})[1]
    assert (blocked["decision"], blocked["allowed"]) == ("block", False)
    assert blocked["retry_after_s"] == 6 * 3600.0
    assert site.ask({"model": "gpt-4o"})[1]["model"] == "gpt-4o-mini"
    assert site.ask({"model": "gpt-5"})[1] == {"decision": "allow"}
    let = site.ask({"tier": "free", "customer": "vip", "model": "gpt-4o"})[1]
    assert (let["decision"], let["allowed"], let["reason"]) == ("allow", True, "launch")
    assert "model" not in let


def test_a_downgrade_to_itself_is_none() -> None:
    """A record that a model is to be replaced by itself changes nothing."""
    site = Site(heartbeat(), downgrade({"gpt-4o": "gpt-4o", "gpt-*": "small"}, id="m", scope={}))
    assert site.ask({"model": "gpt-4o"})[1] == {"decision": "allow"}
    assert site.ask({"model": "gpt-5"})[1]["model"] == "small"


def test_a_throttled_request_may_be_downgraded_too() -> None:
    """Within its rate it runs on the cheaper model; beyond it nothing is said of models."""
    site = Site(
        heartbeat(), directive(rate_requests=1), downgrade({"gpt-*": "small"}, id="m", scope={})
    )
    question = {"tier": "free", "model": "gpt-4o"}
    first, second = (site.ask(question)[1] for _ in range(2))
    assert (first["decision"], first["allowed"], first["model"]) == ("throttle", True, "small")
    assert (second["allowed"], second.get("model")) == (False, None)


def test_a_share_is_always_the_same() -> None:
    """A greater share holds those of a smaller one; about as many are meant as it says."""
    asked = [{"user": f"user-{n}"} for n in range(2_000)]
    shares = {}
    for percent in (10, 50):
        each = directive(percent=percent, percent_of="user")
        shares[percent] = {n for n, one in enumerate(asked) if is_meant(each, one)}
        assert abs(len(shares[percent]) / 2_000 - percent / 100) < 0.03
    assert shares[10] < shares[50]
    assert not is_meant(directive(percent=99, percent_of="user"), {"user": None})


def test_shadow_refuses_nobody_and_is_counted() -> None:
    """A rule in shadow says what it would have done, by the rate it would have had."""
    counter = {"rule": "free-tier"}
    name = "governor_gate_shadow_refused_total"
    before = telemetry.GATE_REGISTRY.get_sample_value(name, counter) or 0
    site = Site(heartbeat(), directive(shadow=True, rate_requests=1))
    found = [site.ask({"tier": "free"})[1] for _ in range(3)]
    assert [one["decision"] for one in found] == ["allow"] * 3
    assert [one.get("shadow") for one in found] == [None, ["free-tier"], ["free-tier"]]
    assert telemetry.GATE_REGISTRY.get_sample_value(name, counter) == before + 2


# -------------------------------------------------------------------------------- the time


def beat(sent: datetime, steady_s: float, version: int = 100) -> Heartbeat:
    return Heartbeat(
        version=version,
        sent_at=sent,
        lease_until=sent + LEASE,
        sender="one",
        steady_ms=int(steady_s * 1000),
    )


def ns(seconds: float) -> int:
    return int(seconds * 1e9)


@pytest.mark.parametrize("off", [timedelta(minutes=5), -timedelta(minutes=5), timedelta(hours=9)])
def test_a_clock_that_is_off_changes_nothing(off: timedelta) -> None:
    """The gate's own time of day may be anything once it has heard a heartbeat as it came."""
    lease = Lease()
    lease.take(beat(NOW, 1000), NOW + off, ns(5), live=True)
    assert lease.now(NOW + off, ns(15)) == NOW + 10 * SECOND
    lease.take(beat(NOW + 10 * SECOND, 1010), NOW - off, ns(15), live=True)
    assert lease.now(NOW, ns(40)) == NOW + 35 * SECOND
    assert lease.until == NOW + 40 * SECOND


def test_what_was_held_back_renews_nothing() -> None:
    """A heartbeat that lay somewhere for minutes is as old when it comes."""
    lease = Lease()
    for n in range(4):
        lease.take(beat(NOW + 10 * n * SECOND, 10 * n), NOW, ns(10 * n + 0.01), live=True)
    lease.take(beat(NOW + 40 * SECOND, 40), NOW, ns(340), live=True)
    assert lease.now(NOW, ns(340)) >= NOW + 339 * SECOND
    assert lease.until is not None
    assert lease.now(NOW, ns(340)) > lease.until


def test_a_daemon_that_sets_its_clock() -> None:
    """It is the daemon's day that counts; its lease is as long as before."""
    lease = Lease()
    lease.take(beat(NOW, 0), NOW, ns(0), live=True)
    back = NOW - timedelta(minutes=5)
    lease.take(beat(back, 10), NOW, ns(10), live=True)
    assert lease.now(NOW, ns(12)) == back + 2 * SECOND
    assert lease.until == back + LEASE


def test_from_the_past_of_the_topic() -> None:
    """What lay there is as old as the time of day says, and never from the future."""
    lease = Lease()
    lease.take(beat(NOW - 20 * SECOND, 0), NOW, ns(3), live=False)
    assert lease.now(NOW, ns(3)) == NOW
    lease.take(beat(NOW + timedelta(minutes=9), 0), NOW, ns(3), live=False)
    assert lease.now(NOW, ns(3)) == NOW + timedelta(minutes=9)


def test_read_again_from_a_sender_that_is_known() -> None:
    """After a lost connection what is read again is as old as it is, whatever our time of day."""
    lease = Lease()
    for n in (0, 10):
        lease.take(beat(NOW + n * SECOND, n), NOW, ns(n), live=True)
    for off in (timedelta(minutes=5), -timedelta(minutes=5)):
        lease.take(beat(NOW + 10 * SECOND, 10), NOW + off, ns(25), live=False)
        assert lease.now(NOW + off, ns(25)) == NOW + 25 * SECOND


def test_an_older_heartbeat_is_ignored() -> None:
    """No version goes back."""
    lease = Lease()
    lease.take(beat(NOW, 0, version=7), NOW, ns(0), live=True)
    lease.take(beat(NOW + LEASE, 30, version=6), NOW, ns(30), live=True)
    assert lease.until == NOW + LEASE


# ------------------------------------------------------------------------------ who asks


def answer(
    gate: Gate, path: str, headers: Mapping[str, str] | list[tuple[str, str]], method: str = "GET"
) -> tuple[int, bytes, dict[str, str]]:
    """Ask as a gateway does."""
    import asyncio  # noqa: PLC0415

    given = headers.items() if isinstance(headers, Mapping) else headers
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(k.lower().encode(), v.encode()) for k, v in given],
    }
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read of a body")

    asyncio.run(gate(scope, receive, send))
    start, end = sent
    return start["status"], end["body"], {k.decode(): v.decode() for k, v in start["headers"]}


def gate_of(*records: Directive | Heartbeat, **options: Any) -> Gate:
    gate = Gate(now=lambda: NOW, monotonic_ns=lambda: 0, **options)
    gate.learn(News((heartbeat(), *records), caught_up=True))
    return gate


NAMED = {"customer": "X-Customer", "tier": "X-Tier", "model": "X-Model"}


def test_nothing_is_believed_by_default() -> None:
    """Headers that are not named in the settings say nothing, whoever sent them."""
    gate = gate_of(block())
    assert answer(gate, "/v1/auth/envoy", {"X-Tier": "free", "tier": "free"})[0] == 200


def test_what_gateways_are_told() -> None:
    """Nginx hears 200 or 403 and the status to give; Envoy and Traefik hand on what they get."""
    gate = gate_of(
        directive(rate_requests=0),
        block(id="b", scope={"customer": WireCondition(values=("bad",))}, reason="größer\r\nX: y"),
        downgrade({"gpt-4o": "gpt-4o-mini"}, id="m", scope={}),
        identity=Identity(NAMED),
    )
    for gateway, path in (
        ("nginx", "/v1/auth/nginx"),
        ("envoy", "/v1/auth/envoy/v1/chat/completions"),
        ("traefik", "/v1/auth/traefik"),
    ):
        status, body, headers = answer(gate, path, {"X-Tier": "free"}, method="POST")
        assert status == (403 if gateway == "nginx" else 429)
        assert (headers["governor-status"], headers["retry-after"]) == ("429", "21600")
        assert headers["governor-rule"] == "free-tier"
        assert headers["governor-until"] == "2026-11-24T15:00:00Z"
        assert json.loads(body)["decision"] == "throttle"
        status, _, headers = answer(gate, path, {"X-Customer": "bad"})
        assert (status, headers["governor-status"]) == (403, "403")
        assert headers["governor-reason"] == "gr??er??X: y"
        status, body, headers = answer(gate, path, {"X-Model": "gpt-4o"})
        assert (status, body, headers["governor-model"]) == (200, b"", "gpt-4o-mini")
        status, body, headers = answer(gate, path, {"X-Tier": "paid"})
        assert (status, headers["governor-decision"]) == (200, "allow")
    assert answer(gate, "/v1/auth/apache", {})[0] == 404
    assert answer(gate, "/v1/auth/nginx/else", {})[0] == 404


def test_a_header_that_is_there_twice() -> None:
    """One of them may be the client's: it is not known who asks."""
    gate = gate_of(identity=Identity(NAMED))
    twice = [("X-Tier", "paid"), ("X-Tier", "free")]
    assert answer(gate, "/v1/auth/traefik", twice)[0] == 401
    status, _, headers = answer(gate, "/v1/auth/nginx", twice)
    assert (status, headers["governor-status"]) == (403, "401")


KEY = "a shared key that is long enough for everybody"
CLAIMS = {"sub": "acme", "plan": "free", "exp": int(NOW.timestamp()) + 10**9}


def tokens(**changes: Any) -> Tokens:
    options = {"header": "authorization", "claims": {"customer": "sub", "tier": "plan"}}
    return Tokens(TokenOptions(**options | {"secret": KEY} | changes), lambda: NOW)


def signed(key: Any = KEY, algorithm: str = "HS256", **claims: Any) -> str:
    body = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    return jwt.encode(body, key, algorithm=algorithm)


def test_a_signed_token_says_who_asks() -> None:
    """Its claims are dimensions, above what headers say; without a good one nobody is known."""
    gate = gate_of(
        directive(rate_requests=0),
        identity=Identity({"tier": "x-tier"}, tokens(), "authorization"),
    )
    asked = {"Authorization": f"Bearer {signed()}", "X-Tier": "paid"}
    assert answer(gate, "/v1/auth/envoy", asked)[0] == 429
    assert answer(gate, "/v1/auth/envoy", {"X-Tier": "paid"})[0] == 401
    wrong = {"Authorization": f"Bearer {signed(key='another key that is long enough, too')}"}
    status, body, headers = answer(gate, "/v1/auth/traefik", wrong)
    assert (status, headers["governor-decision"]) == (401, "unknown")
    assert b"eyJ" not in body


@pytest.mark.parametrize(
    "token",
    [
        signed(exp=None),
        signed(exp=int(NOW.timestamp()) - 10**9),
        signed()[:-3],
        "nonsense",
        "",
        "a" * 9_000,
        jwt.encode(CLAIMS, None, algorithm="none"),
        signed(iss="somebody else"),
        signed(aud="somebody else"),
    ],
)
def test_a_token_that_is_not_good(token: str) -> None:
    """Without an end, over, cut, unsigned, of another: it is not believed."""
    identity = Identity({}, tokens(issuer="us", audience="gate"), "authorization")
    with pytest.raises(UnknownCallerError):
        identity.of([(b"authorization", token.encode())])


def test_public_keys() -> None:
    """A PEM or a key set; a token signed with the public text as if it were shared is refused."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    by_pem = tokens(secret=None, public=pem.decode())
    token = signed(private, "RS256")
    assert by_pem.dimensions(token) == {"customer": "acme", "tier": "free"}
    one = jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
    key_set = json.dumps({"keys": [one | {"kid": "k1", "use": "sig", "alg": "RS256"}]})
    by_set = tokens(secret=None, public=key_set)
    named = jwt.encode(CLAIMS, private, algorithm="RS256", headers={"kid": "k1"})
    assert by_set.dimensions(named)["customer"] == "acme"
    other = jwt.encode(CLAIMS, private, algorithm="RS256", headers={"kid": "k2"})
    for believer, forged in ((by_pem, signed()), (by_set, other)):
        with pytest.raises(UnknownCallerError):
            believer.dimensions(forged)
    with pytest.raises(ConfigError, match=r"gate\.token_key_file: is no JSON"):
        tokens(secret=None, public='{"keys": 3}')


def test_a_token_is_checked_once_and_not_beyond_its_end() -> None:
    """Its signature costs once; it ends when it says."""
    clock = [NOW]
    options = TokenOptions("authorization", {"customer": "sub"}, secret=KEY)
    known = Tokens(options, lambda: clock[0])
    ends = datetime.now(UTC) + timedelta(seconds=3600)
    token = signed(exp=int(ends.timestamp()))
    clock[0] = ends - SECOND
    assert known.dimensions(token) is known.dimensions(token)
    first = known.dimensions(token)
    clock[0] = ends + SECOND
    assert known.dimensions(token) is not first  # asked of the library again, by its own clock


def test_callers_show_their_token() -> None:
    """With gate.caller_token the JSON pages need it; health and metrics do not."""
    site = Site()
    site.gate = gate_of(directive(), caller_token="open sesame")
    assert site.ask({"tier": "free"})[0] == 401
    good = {"authorization": "Bearer open sesame"}
    assert site.ask({"tier": "free"}, headers=good)[0] == 200
    assert site.ask(method="GET", path="/v1/directives")[0] == 401
    assert site.ask(method="GET", path="/v1/directives", headers=good)[0] == 200
    for page in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert site.ask(method="GET", path=page)[0] == 200


# ----------------------------------------------------------------------------------- batches


def test_several_at_once() -> None:
    """A list is answered by a list in its order; each draws from its rate."""
    site = Site(heartbeat(), directive(rate_requests=1))
    status, found, _ = site.ask([{"tier": "free"}, {"tier": "paid"}, {"tier": "free"}])  # type: ignore[arg-type]
    assert status == 200
    assert [one.get("allowed") for one in found] == [True, None, False]
    assert site.ask([])[:2] == (200, [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (json.dumps([{}] * 101), "the body has 101 questions; at most 100 are answered at once"),
        ('[{"teir": "x"}]', "unknown dimension 'teir' (did you mean 'tier'?)"),
        ('[{"tier": 3}]', "tier must be a text or null"),
        ("[3]", "the body must be an object of dimensions"),
    ],
)
def test_a_wrong_batch(body: str, said: str) -> None:
    """Nothing of it is decided, and what is wrong is said."""
    status, found, _ = Site(heartbeat()).ask(body.encode())
    assert status == 400
    assert found["error"].startswith(said)
