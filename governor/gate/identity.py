"""Identity: who asks, from headers that the gateway sets or from a signed token.

By default nothing is believed: no header is read unless it is named in the settings, since what the
gateway does not set itself its client can forge.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from governor.core.errors import ConfigError
from governor.gate.reading import MAX_VALUE_CHARS, Asked

MAX_KNOWN_TOKENS: Final = 10_000
"""Tokens whose signature was checked and is not checked again before they end."""
MAX_TOKEN_CHARS: Final = 8_192
SHARED: Final = ("HS256", "HS384", "HS512")
PUBLIC: Final = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")

RawHeaders = Iterable[tuple[bytes, bytes]]


class UnknownCallerError(Exception):
    """It is not known who asks; the text says why and holds nothing of the token."""


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """How tokens are checked: a shared `secret`, or `public` keys as PEM or a JSON Web Key Set."""

    header: str
    claims: Mapping[str, str]
    secret: str | None = None
    public: str | None = None
    issuer: str | None = None
    audience: str | None = None


class Tokens:
    """Checks signed tokens (JWT, RFC 7519), each once, and reads dimensions from their claims."""

    def __init__(self, options: TokenOptions, now: Callable[[], datetime]) -> None:
        self._options = options
        self._jwt = _library()
        self._keys = self._read_keys()
        self._now = now
        self._known: OrderedDict[str, tuple[float, Asked]] = OrderedDict()

    def dimensions(self, token: str) -> Asked:
        """Return what a token says; raise UnknownCallerError where it cannot be believed."""
        now_s = self._now().timestamp()
        known = self._known.get(token)
        if known is not None and now_s < known[0]:
            return known[1]
        claims = self._checked(token)
        found = {name: _text(claims.get(claim)) for name, claim in self._options.claims.items()}
        self._known[token] = (float(claims["exp"]), found)
        if len(self._known) > MAX_KNOWN_TOKENS:
            self._known.popitem(last=False)
        return found

    def _checked(self, token: str) -> Mapping[str, Any]:
        jwt, options = self._jwt, self._options
        try:
            name = jwt.get_unverified_header(token).get("kid")
            key = self._keys.get(name) or self._keys.get(None)
            if key is None:
                raise UnknownCallerError("the token is signed with a key that is not known")
            found: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(SHARED if options.secret else PUBLIC),
                issuer=options.issuer,
                audience=options.audience,
                options={"require": ["exp"], "verify_aud": options.audience is not None},
            )
        except jwt.PyJWTError as error:
            raise UnknownCallerError(f"the token is not good: {error}") from None
        return found

    def _read_keys(self) -> dict[str | None, Any]:
        options = self._options
        if options.secret:
            return {None: options.secret}
        text = options.public or ""
        if not text.lstrip().startswith("{"):
            return {None: text}
        try:
            keys = self._jwt.PyJWKSet.from_dict(json.loads(text)).keys
        except (ValueError, self._jwt.PyJWTError) as error:
            raise ConfigError(f"gate.token_key_file: is no JSON Web Key Set: {error}") from None
        return {key.key_id: key.key for key in keys}


class Identity:
    """Reads who asks from the headers of a request; used by one thread."""

    def __init__(
        self,
        headers: Mapping[str, str] | None = None,
        tokens: Tokens | None = None,
        token_header: str = "",
    ) -> None:
        self._named = {name.lower().encode(): dim for dim, name in (headers or {}).items()}
        self._tokens = tokens
        self._token_header = token_header.lower().encode()

    def of(self, headers: RawHeaders) -> Asked:
        """Return the dimensions of a request; what a token says goes above headers.

        Raise UnknownCallerError where a token is asked for and is missing or not good, or a header
        is there twice, of which the client may have sent one.
        """
        found: Asked = {}
        token: str | None = None
        for name, value in headers:
            dimension = self._named.get(name)
            if dimension is not None:
                if dimension in found:
                    raise UnknownCallerError(f"the header {name.decode()} is there twice")
                found[dimension] = value.decode("utf-8", "replace")[:MAX_VALUE_CHARS] or None
            if name == self._token_header and self._tokens is not None:
                token = value.decode("latin-1")
        if self._tokens is not None:
            found |= self._tokens.dimensions(self._bare(token))
        return found

    def _bare(self, token: str | None) -> str:
        if not token:
            raise UnknownCallerError(f"there is no token in {self._token_header.decode()}")
        bare = token[7:].strip() if token[:7].lower() == "bearer " else token
        if len(bare) > MAX_TOKEN_CHARS:
            raise UnknownCallerError(f"the token is longer than {MAX_TOKEN_CHARS:,} characters")
        return bare


def _text(value: object) -> str | None:
    if value is None or isinstance(value, list | dict):
        return None
    return str(value)[:MAX_VALUE_CHARS]


def _library() -> Any:
    try:
        import jwt  # noqa: PLC0415  # an extra: most gates read no tokens
    except ImportError:
        raise ConfigError(
            "gate.token_key: signed tokens need the extra `tokens`: pip install 'governor[tokens]'"
        ) from None
    return jwt
