"""The pages for machines, over real HTTP."""

import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from governor.adapters.probes import Pages, Probes


def asked(path: str, status: Callable[[], Mapping[str, Any]], *troubles: str) -> tuple[int, str]:
    """Return status code and body of a page."""
    pages = Pages(list, lambda: [*troubles], status, lambda: b"governor_events_total 1\n")
    with closing(Probes("127.0.0.1", 0, pages)) as probes:
        try:
            url = f"http://127.0.0.1:{probes.port}{path}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def broken() -> Mapping[str, Any]:
    """Fail, as a page with a bug does."""
    raise AttributeError("no such thing")


def test_pages() -> None:
    """Health, readiness with its troubles, status and metrics each answer."""
    assert asked("/healthz", dict, "no broker") == (200, "ok\n")
    assert asked("/readyz", dict) == (200, "ok\n")
    assert asked("/readyz?verbose", dict, "no broker", "no disk") == (503, "no broker\nno disk\n")
    assert asked("/status", lambda: {"ready": True}) == (200, '{"ready": true}')
    assert asked("/metrics", dict) == (200, "governor_events_total 1\n")


def test_an_unknown_page() -> None:
    """It is a 404 that names the pages there are."""
    code, body = asked("/", dict)
    assert code == 404
    assert "/healthz /readyz /status /metrics" in body


def test_a_page_that_fails() -> None:
    """Whoever asks gets an answer that says so, not a dropped connection."""
    assert asked("/status", broken) == (500, "this page failed; see the log\n")
