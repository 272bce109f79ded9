"""The reference page of the settings, written from the models so that it cannot be wrong."""

from collections.abc import Iterator
from enum import Enum
from itertools import groupby
from typing import Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from governor.formats import FORMATS
from governor.settings.listing import written
from governor.settings.model import Settings
from governor.settings.sources import CATALOGUE, Route, parts, variable
from governor.settings.values import Reader

_HEAD: Final = """\
# Settings

<!-- Generated: `governor config reference > docs/reference/settings.md` -->

A setting is looked for in this order; the first source that has it wins:

1. options of the command line, such as `--config`;
2. environment variables: `GOVERNOR_` + group + `__` + name, such as `GOVERNOR_KAFKA__GROUP_ID`;
3. the secrets directory: `GOVERNOR_SECRETS_DIR`, or `/run/secrets` where it exists. A file is
   named like the variable in lower case, such as `governor_kafka__sasl_password`, and holds the
   value; line ends after it are dropped. Other files there are not opened;
4. the settings file: `--config`, else `GOVERNOR_CONFIG`, else `governor.yaml` in the working
   directory if there is one. YAML 1.2, at most 1 MB, nested at most 32 deep, without anchors,
   aliases and tags, each key once;
5. the defaults below.

`governor config show` prints every setting in force with its origin.

A name that is no setting is refused, in every source, and so is a `GOVERNOR_` variable that is
none; those that Kubernetes sets for a service named `governor` are passed over. A secret appears
in no message and no listing. Paths are relative to the working directory.

Durations are a whole number with a unit: `ms`, `s`, `m`, `h`, `d` (200ms, 30s, 45d). Sizes
likewise: `B`, `KB`, `MB`, `GB`, `TB` are powers of 1000, `KiB`, `MiB`, `GiB`, `TiB` of 1024.
A bare number is refused.

"""

_TOPICS: Final = """\
The names of the topics to read are keys of their own:

```yaml
topics:
  usage:
    format: native
  llm-traces:
    format: otlp_proto
    fields: {team: company.team}
```

`format` is one of the [formats](formats/index.md). `fields` says where a field of the event stands
in a record, where the format does not know: an attribute in OTLP, a path such as `$.data.owner` in
JSON.

A source that names any topic replaces the topics of the sources below it.

"""


def reference() -> str:
    """Return the page as Markdown."""
    groups = groupby(CATALOGUE.items(), key=lambda item: item[0][0])
    return _HEAD + "\n".join("".join(_section(name, list(items))) for name, items in groups)


def _section(group: str, items: list[tuple[Route, FieldInfo]]) -> Iterator[str]:
    yield f"## {group}\n\n"
    about = Settings.model_fields[group].annotation
    if group == "topics":
        yield _TOPICS
    elif about is not None and about.__doc__:
        yield f"{about.__doc__}\n\n"
    yield "| setting | type | default | variable | meaning |\n|---|---|---|---|---|\n"
    for route, field in items:
        cells = (
            f"`{'.'.join(route)}`",
            _type(field),
            _default(route, field),
            f"`{variable(route)}`",
            field.description or "",
        )
        yield f"| {' | '.join(cells)} |\n"


def _type(field: FieldInfo) -> str:
    if field.annotation is not None and Settings.model_fields["topics"] is field:
        return f"mapping of topic name to `format`: {_choices(sorted(FORMATS))}"
    for part in (*field.metadata, *parts(field.annotation)):
        if isinstance(part, Reader):
            return str(part)
        if get_origin(part) is Literal:
            return _choices(get_args(part))
        if isinstance(part, type) and issubclass(part, Enum):
            return _choices([member.value for member in part])
    raise TypeError(f"a setting of {field.annotation} has no reader that names its type")


def _choices(names: Any) -> str:
    return " or ".join(f"`{name}`" for name in names)


def _default(route: Route, field: FieldInfo) -> str:
    if route == ("topics",):
        return "`usage=native`"
    value = written(field, field.get_default(call_default_factory=True, validated_data={}))
    if value is None:
        return "unset"
    text = ",".join(value) if isinstance(value, list) else str(value)
    return f"`{text.lower() if isinstance(value, bool) else text}`"
