"""What every group of settings is made of."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, SecretStr

from governor.settings.values import Flag, Text

CONFLICT: Final = "conflict"
"""The type of error for settings that are each right and do not go together."""

Line = Annotated[str, Text()]
FilePath = Annotated[Path, Text("path")]
Secret = Annotated[SecretStr, Text("secret text")]
Switch = Annotated[bool, Flag()]


class Group(BaseModel):
    """Settings that belong together; frozen, unknown names refused, no value in an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True
    )
