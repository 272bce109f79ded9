"""`governor demo` does what the README says of it: it counts, checks itself and cleans up."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = [sys.executable, "-m", "governor", "demo"]
PATIENCE_S = 120


def environment(folder: Path) -> dict[str, str]:
    """Return a clean environment in which temporary folders are made in `folder`."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("GOVERNOR_")}
    return kept | {"TMPDIR": str(folder)}


def test_counts_what_was_sent_and_says_so(tmp_path: Path) -> None:
    """Every figure agrees, the store is kept and answers, and nothing else is left."""
    keep = tmp_path / "kept"
    ran = subprocess.run(
        [*DEMO, "--seconds", "8", "--keep", str(keep)],
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE_S,
        env=environment(tmp_path),
        cwd=tmp_path,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = ran.stdout.rstrip().splitlines()
    checks = [line for line in lines if line.startswith("check: ")]
    assert len(checks) == 5
    assert all(line.endswith(": agree") for line in checks)
    closing = lines[lines.index(checks[-1]) + 1]
    sent = re.fullmatch(
        r"OK: ([\d,]+) records sent, each counted once or set aside; .* USD in both books", closing
    )
    assert sent is not None, closing
    assert int(sent[1].replace(",", "")) > 1_000
    assert "Three next things to try:" in lines[lines.index(closing) + 1 :]
    assert "codestral-nightly" in ran.stdout
    assert "governor topics create" in lines[-1]

    asked = subprocess.run(
        [sys.executable, "-m", "governor", "sql", "-o", "csv", "SELECT count(*) > 0 FROM usage"],
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE_S,
        env=environment(tmp_path) | {"GOVERNOR_STORE__PATH": str(keep / "governor.duckdb")},
        cwd=tmp_path,
    )
    assert asked.stdout.splitlines()[1:] == ["True"], asked.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    """Whatever ends the demo, its daemon and its broker end too."""
    keep = tmp_path / "kept"
    with subprocess.Popen(
        [*DEMO, "--seconds", "60", "--keep", str(keep)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(tmp_path),
        cwd=tmp_path,
    ) as demo:
        assert demo.stdout is not None
        assert any(" sent " in line and " counted " in line for line in demo.stdout)
        children = _children(demo.pid)
        assert len(children) == 3, "broker, daemon and the watcher of the daemon"
        demo.send_signal(number)
        demo.wait(PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while (left := [pid for pid in children if _runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    assert '"daemon.stopped"' in (keep / "daemon.log").read_text("utf-8")


def test_refuses_to_mix_two_stores(tmp_path: Path) -> None:
    """A folder that holds something is left alone."""
    (tmp_path / "note.txt").write_text("mine", "utf-8")
    ran = subprocess.run(
        [*DEMO, "--keep", str(tmp_path)],
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE_S,
        env=environment(tmp_path),
    )
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
