"""The settings of the gate: where it answers, whom it believes, whether it shares its rates."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from governor.core.scopes import DIMENSIONS
from governor.settings.group import CONFLICT, FilePath, Group, Line, Secret
from governor.settings.values import Pairs, Whole


class Gate(Group):
    """Where the gate answers whether a request may run, and how it knows who asks."""

    host: Line = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Whole(0, 65_535, 9465)] = Field(
        9465, description="Port to listen on; 0 takes any free port."
    )
    caller_token: Secret | None = Field(
        None, description="Token that callers of the JSON pages must show."
    )
    headers: Annotated[Mapping[str, str], Pairs(DIMENSIONS, "customer=x-customer"), NoDecode] = (
        Field(
            default_factory=dict,
            description="Headers that the gateway sets itself, by dimension, commas between.",
        )
    )
    token_header: Line = Field(
        "authorization", description="Header of the signed token that says who asks."
    )
    token_key: Secret | None = Field(None, description="Shared key of signed tokens (HS256).")
    token_key_file: FilePath | None = Field(
        None, description="File of the public keys of signed tokens: PEM, or a JSON Web Key Set."
    )
    token_claims: Annotated[Mapping[str, str], Pairs(DIMENSIONS, "customer=sub"), NoDecode] = Field(
        default_factory=dict, description="Claims of the token, by dimension, commas between."
    )
    token_issuer: Line | None = Field(None, description="Issuer that tokens must name.")
    token_audience: Line | None = Field(None, description="Audience that tokens must name.")
    redis_url: Secret | None = Field(
        None, description="Redis where gates share their rates, such as redis://127.0.0.1:6379/0."
    )

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        conflicts = []
        keys = [self.token_key, self.token_key_file]
        if all(keys):
            conflicts.append(("token_key", "takes only one of it and gate.token_key_file"))
        if any(keys) and not self.token_claims:
            conflicts.append(("token_claims", "says what the token tells, such as customer=sub"))
        if self.token_claims and not any(keys):
            conflicts.append(("token_claims", "needs gate.token_key or gate.token_key_file"))
        if conflicts:
            text = "; ".join(f"gate.{name} {message}" for name, message in conflicts)
            raise PydanticCustomError(CONFLICT, "{text}", {"text": text, "conflicts": conflicts})
        return self
