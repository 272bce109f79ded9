"""`governor demo` does what the README says of it: it tells, checks itself and cleans up."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOVERNOR = [sys.executable, "-m", "governor"]
PATIENCE_S = 150
CHILDREN = 5
"""Broker, daemon and gate, and a watcher each of the last two."""

STORY = (
    r"spend +all is as usual: the free tier has spent [\d.]+ USD of its 100 USD a day",
    r"company +the key of the free account free-0417 is posted in a forum",
    r"slack +new message: .* Info: free-tier-daily\. The free tier spent 5\d\.\d\d USD of 100 USD",
    r"slack +edits its message: .* Warning: free-tier-daily\. ",
    r"gate +slows the free tier to 2/min for each user until 00:00 UTC; paid traffic runs on",
    r"gate +refuses a first request, of user ",
    r"gate +has refused [\d,]+ free requests so far, .* and 0 of paying customers",
    r"clock +midnight: ",
    r"gate +lets the free tier run again, \d\.\d s after midnight",
    r"spend +counts from zero: the free tier has spent [\d.]+ USD",
)
"""What happens, in this order; other lines may come in between."""

CHECKS = (
    "messages about the budget, edited in place: 1",
    "messages about the model without a price: 1",
    "levels that Slack heard: Info, Warning, Critical, Resolved",
    "slowed before midnight: yes",
    "some free requests refused: yes",
    "paid requests refused: 0",
    "freed after midnight: yes",
    "slowed in the new day: no",
    "requests that the gate did not answer: 0",
)


def environment(folder: Path) -> dict[str, str]:
    """Return a clean environment in which temporary folders are made in `folder`."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("GOVERNOR_")}
    return kept | {"TMPDIR": str(folder)}


def governor(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [*GOVERNOR, *map(str, arguments)],
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE_S,
        env=environment(folder),
        cwd=folder,
    )


@contextmanager
def demo(folder: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start a demo; it is killed at the end where it still runs."""
    with subprocess.Popen(
        [*GOVERNOR, "demo", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(folder),
        cwd=folder,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read what the demo says up to a line that holds `text`."""
    assert process.stdout is not None
    assert any(text in line for line in process.stdout), f"it never said {text!r}"


def test_tells_the_story_and_proves_it(tmp_path: Path) -> None:
    """It ends by itself; all happened in order, both books agree, and the store answers."""
    keep = tmp_path / "kept"
    ran = governor(tmp_path, "demo", "--seconds", 40, "--keep", keep)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = iter(ran.stdout.splitlines())
    for happening in STORY:
        assert any(re.search(rf"\d s  \d\d:\d\d:\d\d  {happening}", line) for line in told), (
            f"{happening}\n{ran.stdout}"
        )
    lines = ran.stdout.rstrip().splitlines()
    checks = [line.removeprefix("check: ") for line in lines if line.startswith("check: ")]
    assert len(checks) == 6 + len(CHECKS)
    assert all(line.endswith(": agree") for line in checks[:6])
    assert tuple(checks[6:]) == CHECKS
    (closing,) = (line for line in lines if line.startswith("OK: "))
    sent = re.match(r"OK: ([\d,]+) records sent, each counted once or set aside; ", closing)
    assert sent is not None, closing
    assert len((keep / "sent.ndjson").read_bytes().splitlines()) == int(sent[1].replace(",", ""))
    assert "codestral-nightly" in ran.stdout
    assert "Three next things to try:" in lines[lines.index(closing) + 1 :]
    assert "governor topics create" in lines[-1]

    asked = governor(
        tmp_path,
        *("sql", "--config", keep / "governor.yaml", "-o", "csv"),
        "SELECT tier, count(DISTINCT day) FROM spend_daily GROUP BY 1 ORDER BY 1",
    )
    assert asked.stdout.splitlines()[1:] == ["enterprise,2", "free,2", "pro,2"], asked.stderr
    assert governor(tmp_path, "rules", "check", ROOT / "rules").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]


def test_goes_on_and_answers_until_it_is_told_to_end(tmp_path: Path) -> None:
    """With --forever the commands that it prints work, and Ctrl-C ends it with the summary."""
    keep = tmp_path / "kept"
    config = ("--config", keep / "governor.yaml")
    with demo(tmp_path, "--seconds", 30, "--forever", "--keep", keep) as process:
        read_until(process, "The story is told")
        alerts = governor(tmp_path, "alerts", "list", *config, "--all")
        throttles = governor(tmp_path, "throttles", "list", *config)
        status = governor(tmp_path, "status", *config)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE_S)

    assert "free-tier-daily" in alerts.stdout, alerts.stderr
    assert (throttles.returncode, status.returncode) == (0, 0), throttles.stderr + status.stderr
    assert process.returncode == 0, rest
    assert "\nOK: " in rest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    """Whatever ends the demo in the middle, its children end, too, and in good order."""
    keep = tmp_path / "kept"
    with demo(tmp_path, "--keep", keep) as process:
        read_until(process, "all is as usual")
        children = _children(process.pid)
        assert len(children) == CHILDREN
        process.send_signal(number)
        assert process.wait(PATIENCE_S) in (130, -number)
    deadline = time.monotonic() + PATIENCE_S
    while (left := [pid for pid in children if _runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    assert '"daemon.stopped"' in (keep / "daemon.log").read_text("utf-8")
    assert '"gate.stopped"' in (keep / "gate.log").read_text("utf-8")


def test_refuses_to_mix_two_stores(tmp_path: Path) -> None:
    """A folder that holds something is left alone."""
    (tmp_path / "note.txt").write_text("mine", "utf-8")
    ran = governor(tmp_path, "demo", "--keep", tmp_path)
    assert ran.returncode == 2
    assert "is not an empty folder" in ran.stderr


def _children(pid: int) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            stat = (process / "stat").read_text("utf-8", "replace")
        except OSError:
            continue
        if stat.rpartition(")")[2].split()[1] == str(pid):
            found.append(int(process.name))
    return found


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
