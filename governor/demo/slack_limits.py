"""What Slack refuses in a message, with its own words for it; part of the local stand-in.

Stricter than Slack where Slack is vague: any block or key that we do not use is refused.
https://docs.slack.dev/reference/block-kit and https://docs.slack.dev/reference/methods
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

MAX_TEXT: Final = 4_000
"""What `chat.update` takes and Slack advises; a post is cut at 40,000."""
MAX_BLOCKS: Final = 50
MAX_BLOCKS_TEXT: Final = 12_000
"""Characters in all blocks; not documented, about 13,000 were seen to be refused."""
MAX_HEADER: Final = 150
MAX_SECTION: Final = 3_000
MAX_FIELDS: Final = 10
MAX_FIELD: Final = 2_000
MAX_ELEMENTS: Final = 10
MAX_BUTTONS: Final = 25
MAX_BUTTON: Final = 75
MAX_VALUE: Final = 2_000
MAX_ID: Final = 255

_TEXT_KEYS: Final = {
    "plain_text": {"type", "text", "emoji"},
    "mrkdwn": {"type", "text", "verbatim"},
}
_BUTTON_KEYS: Final = {"type", "action_id", "text", "value", "style", "confirm"}
_CONFIRM_KEYS: Final = {"title": 100, "text": 300, "confirm": 30, "deny": 30}
_BLOCK_KEYS: Final = {
    "actions": {"type", "block_id", "elements"},
    "context": {"type", "block_id", "elements"},
    "divider": {"type", "block_id"},
    "header": {"type", "block_id", "text"},
    "section": {"type", "block_id", "text", "fields"},
}


class SlackError(Exception):
    """A call that Slack refuses: its word for why, and what it says beside it."""

    def __init__(self, error: str, detail: str = "", **more: str) -> None:
        super().__init__(error, detail)
        self.error = error
        self.detail = detail
        self.more = more


def message_of(
    arguments: Mapping[str, Any],
) -> tuple[str, list[dict[str, Any]] | None, dict[str, Any] | None]:
    """Return text, blocks and metadata of a call; SlackError where Slack would refuse them.

    Blocks are None where the call has none, which is not the same as an empty list.
    """
    text = arguments.get("text") or ""
    blocks = None if arguments.get("blocks") is None else _blocks(arguments["blocks"])
    if not isinstance(text, str) or (not text.strip() and not blocks):
        raise SlackError("no_text")
    if len(text) > MAX_TEXT:
        raise SlackError("msg_too_long", f"text has {len(text)} characters, {MAX_TEXT} at most")
    metadata = arguments.get("metadata")
    return text, blocks, None if metadata is None else _metadata(metadata)


def texts(blocks: Any) -> Iterator[dict[str, Any]]:
    """Yield every text object of checked blocks."""
    for block in blocks:
        yield from (block[name] for name in ("text",) if name in block)
        elements = block.get("elements", ())
        yield from (
            *block.get("fields", ()),
            *(each["text"] if block["type"] == "actions" else each for each in elements),
        )


def _blocks(given: Any) -> list[dict[str, Any]]:
    blocks = _parsed(given)
    if not isinstance(blocks, list):
        raise SlackError("invalid_blocks_format")
    if len(blocks) > MAX_BLOCKS:
        raise _invalid(f"no more than {MAX_BLOCKS} items allowed", "/blocks")
    for index, block in enumerate(blocks):
        _check_block(block, f"/blocks/{index}")
    length = sum(len(text["text"]) for text in texts(blocks))
    if length > MAX_BLOCKS_TEXT:
        raise SlackError("msg_blocks_too_long", f"{length} characters, {MAX_BLOCKS_TEXT} at most")
    return blocks


def _check_block(block: Any, place: str) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind not in _BLOCK_KEYS:
        raise _invalid(f"unsupported type: {kind}", place)
    _check_keys(block, _BLOCK_KEYS[kind], place)
    if kind == "header":
        _check_text(block.get("text"), MAX_HEADER, f"{place}/text", plain=True)
    elif kind == "actions":
        _check_buttons(block.get("elements"), f"{place}/elements")
    elif kind == "context":
        _check_texts(block.get("elements"), MAX_ELEMENTS, MAX_SECTION, f"{place}/elements")
    elif kind == "section":
        _check_section(block, place)


def _check_section(block: Mapping[str, Any], place: str) -> None:
    if "text" not in block and "fields" not in block:
        raise _invalid("missing required field: text or fields", place)
    if "text" in block:
        _check_text(block["text"], MAX_SECTION, f"{place}/text")
    if "fields" in block:
        _check_texts(block["fields"], MAX_FIELDS, MAX_FIELD, f"{place}/fields")


def _check_buttons(buttons: Any, place: str) -> None:
    if not isinstance(buttons, list) or not 1 <= len(buttons) <= MAX_BUTTONS:
        raise _invalid(f"must have 1 to {MAX_BUTTONS} items", place)
    names = [button.get("action_id") for button in buttons if isinstance(button, dict)]
    if len(set(names)) < len(buttons):
        raise _invalid("action_id must be there and unique", place)
    for index, button in enumerate(buttons):
        _check_button(button, f"{place}/{index}")


def _check_button(button: Mapping[str, Any], place: str) -> None:
    if button.get("type") != "button":
        raise _invalid(f"unsupported type: {button.get('type')}", place)
    _check_keys(button, _BUTTON_KEYS, place)
    _check_text(button.get("text"), MAX_BUTTON, f"{place}/text", plain=True)
    for name, most in (("action_id", MAX_ID), ("value", MAX_VALUE)):
        if len(str(button.get(name, ""))) > most:
            raise _invalid(f"must be less than {most + 1} characters", f"{place}/{name}")
    if button.get("style") not in {None, "primary", "danger"}:
        raise _invalid("must be primary or danger", f"{place}/style")
    confirm = button.get("confirm", {})
    _check_keys(confirm, set(_CONFIRM_KEYS), f"{place}/confirm")
    for name, text in confirm.items():
        _check_text(text, _CONFIRM_KEYS[name], f"{place}/confirm/{name}")


def _check_texts(objects: Any, most: int, limit: int, place: str) -> None:
    if not isinstance(objects, list) or not 1 <= len(objects) <= most:
        raise _invalid(f"must have 1 to {most} items", place)
    for index, text in enumerate(objects):
        _check_text(text, limit, f"{place}/{index}")


def _check_text(text: Any, limit: int, place: str, *, plain: bool = False) -> None:
    kind = text.get("type") if isinstance(text, dict) else None
    if kind not in _TEXT_KEYS or (plain and kind != "plain_text"):
        raise _invalid(f"unsupported type: {kind}", place)
    _check_keys(text, _TEXT_KEYS[kind], place)
    content = text.get("text")
    if not isinstance(content, str) or not content.strip():
        raise _invalid("must be more than 0 characters", f"{place}/text")
    if len(content) > limit:
        raise _invalid(f"must be less than {limit + 1} characters", f"{place}/text")


def _check_keys(value: Mapping[str, Any], known: set[str], place: str) -> None:
    for name in value:
        if name not in known:
            raise _invalid(f"invalid additional property: {name}", place)


def _metadata(given: Any) -> dict[str, Any]:
    metadata = _parsed(given)
    if (
        not isinstance(metadata, dict)
        or set(metadata) != {"event_type", "event_payload"}
        or not isinstance(metadata["event_type"], str)
        or not metadata["event_type"]
        or not isinstance(metadata["event_payload"], dict)
    ):
        raise SlackError("invalid_metadata_format")
    return metadata


def _parsed(given: Any) -> Any:
    """Parse what a form carries as JSON text; JSON bodies have the value itself."""
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except ValueError:
        return None


def _invalid(message: str, place: str) -> SlackError:
    return SlackError("invalid_blocks", f"[ERROR] {message} [json-pointer:{place}]")
