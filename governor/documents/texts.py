"""How names, lines and addresses are written in a file, read or refused with advice."""

import re
import unicodedata
from typing import Final

from governor.documents.sections import Read

MAX_URL_CHARACTERS: Final = 1_000

_ID: Final = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)
_URL: Final = re.compile(r"https?://[^\s<>|\"]+")
_UNREADABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})


def identifier(text: str) -> str:
    """Read a name for machines: of a rule or an action."""
    if _ID.fullmatch(text):
        return text
    fixed = re.sub("[^a-z0-9]+", "-", text.casefold()).strip("-0123456789")
    close = f"; write {fixed}" if _ID.fullmatch(fixed) else ""
    raise ValueError(f"must be 1 to 63 of a-z, 0-9 and -, a letter first{close}")


def line(most: int) -> Read[str]:
    """Return a reader of one line of text of at most so many characters."""

    def read(text: str) -> str:
        if not text.strip():
            raise ValueError("is empty; write something")
        if any(unicodedata.category(character) in _UNREADABLE for character in text):
            raise ValueError("must be one line without control characters")
        if len(text) > most:
            raise ValueError(f"is {len(text)} characters long; {most} is the most")
        return text

    return read


def url(text: str) -> str:
    """Read an address of the web."""
    if len(text) > MAX_URL_CHARACTERS or not _URL.fullmatch(text):
        most = f"of at most {MAX_URL_CHARACTERS} characters"
        raise ValueError(f"must be a web address {most}, such as https://wiki.example.com/caps")
    return line(MAX_URL_CHARACTERS)(text)
