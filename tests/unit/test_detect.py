"""Detection over files: nothing later is looked at, what is odd is found, what is usual is not."""

import csv
import io
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner, Result

from governor.cli import app
from governor.core.surprise import ALARM, MAX_SUM, Score, Surprise

START = datetime(2026, 3, 2, tzinfo=UTC)
STEP = timedelta(minutes=15)
DAY = 96
Series = list[tuple[datetime, float]]


def usual(seed: int, days: int = 21) -> Series:
    """Return a series with a rhythm of days and of weeks."""
    draw = Random(seed)
    found: Series = []
    for number in range(days * DAY):
        at = START + number * STEP
        rhythm = 1 + 0.7 * math.sin((at.hour - 8) / 24 * 2 * math.pi)
        week = 0.6 if at.weekday() >= 5 else 1.0
        found.append((at, 100 * rhythm * week * math.exp(draw.gauss(0, 0.1))))
    return found


def scored(series: Series) -> list[Score]:
    surprise = Surprise()
    return [surprise.see(at, value) for at, value in series]


def changed(series: Series, day: float, days: float, how: str) -> Series:
    """Return a series with something odd in it from a day on."""
    first, last = int(day * DAY), int((day + days) * DAY)
    change = {
        "burst": lambda value: 6 * value,
        "flat": lambda _: 0.0,
        "level": lambda value: value + 250,
        "restless": lambda value: value + 150 * (-1) ** int(value),
    }[how]
    return [
        (at, change(value) if first <= number < last else value)
        for number, (at, value) in enumerate(series)
    ]


def alarms(scores: Sequence[Score]) -> list[int]:
    return [number for number, score in enumerate(scores) if score.alarm]


@pytest.mark.parametrize(
    ("how", "days"), [("burst", 0.1), ("flat", 1), ("level", 2), ("restless", 1)]
)
def test_what_is_odd_is_found_soon(how: str, days: float) -> None:
    """A burst, a stop, another level, unrest: told within hours, and once; nothing before."""
    for seed in range(3):
        found = alarms(scored(changed(usual(seed), 15.4, days, how)))
        first = int(15.4 * DAY)
        within = [number for number in found if first <= number < first + days * DAY]
        assert [number for number in found if number < first] == []
        assert within, (how, seed)
        assert within[0] - first <= 12
        assert len(within) <= 5


def test_what_is_usual_is_quiet() -> None:
    """Three weeks of ten series: no alarm after the first day."""
    assert [alarms(scored(usual(seed)))[:3] for seed in range(100, 110)] == [[]] * 10


def test_nothing_later_is_looked_at() -> None:
    """What is thought of a point does not change with what comes after it."""
    series = changed(usual(1), 10, 0.2, "burst")
    whole = scored(series)
    for cut in (1, 50, 500, 961, 1_000):
        assert scored(series[:cut]) == whole[:cut]


def test_scores_are_from_0_to_1() -> None:
    """Whatever comes: nothing at all, one value for ever, the greatest numbers there are."""
    odd = [0.0] * 300 + [1e300, -1e300, 0.0, 1e-300] + [5.0] * 300
    scores = scored([(START + number * STEP, value) for number, value in enumerate(odd)])
    assert all(0 <= score.score <= 1 for score in scores)
    assert scores[300].alarm
    assert all(sum(score.parts) <= MAX_SUM for score in scores)
    assert scored([(START + n * STEP, 7.0) for n in range(500)])[-1].score == 0


# ------------------------------------------------------------------------------ governor detect


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["detect", *arguments])


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("spend.csv")
    rows = changed(usual(2), 15.4, 0.1, "burst")
    lines = [f"{at:%Y-%m-%d %H:%M:%S},{value:.4f}" for at, value in rows]
    path.write_text("\n".join(["timestamp,value", *lines, ""]))
    return path


def test_a_file_is_scored_line_by_line(file: Path) -> None:
    """Each line has its score, in the order of the file, its time as it was written."""
    done = run(str(file))
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    given = list(csv.DictReader(io.StringIO(file.read_text())))
    assert list(rows[0]) == ["timestamp", "value", "score", "alarm"]
    assert [row["timestamp"] for row in rows] == [row["timestamp"] for row in given]
    assert [float(row["value"]) for row in rows] == [float(row["value"]) for row in given]
    assert {row["alarm"] for row in rows} == {"0", "1"}
    assert all((float(row["score"]) >= ALARM) == (row["alarm"] == "1") for row in rows)
    document = json.loads(run(str(file), "--json", "-o", "out.csv").stdout)
    assert Path("out.csv").read_text() == done.stdout
    assert document["points"] == len(rows)
    assert [alarm["timestamp"] for alarm in document["alarms"]] == [
        row["timestamp"] for row in rows if row["alarm"] == "1"
    ]
    assert document["alarms"][0]["why"] in document["alarms"][0]["parts"]


def test_series_are_judged_apart(file: Path) -> None:
    """One that is named by a column knows nothing of another; columns may have any name."""
    lines = file.read_text().splitlines()[1:]
    both = [f"{line},{name}" for line in lines for name in ("a", "b")]
    Path("both.csv").write_text("\n".join(["day,cost,team", *both]))
    rows = list(csv.DictReader(io.StringIO(run("both.csv", "--series", "team").stdout)))
    assert list(rows[0]) == ["team", "timestamp", "value", "score", "alarm"]
    alone = [row["score"] for row in csv.DictReader(io.StringIO(run(str(file)).stdout))]
    for name in ("a", "b"):
        assert [row["score"] for row in rows if row["team"] == name] == alone


def test_a_picture_of_alarms(file: Path) -> None:
    """It shows the series and marks what was told; the summary says how many."""
    done = run(str(file), "-o", "scored.csv", "--chart", "picture.json")
    spec = json.loads(Path("picture.json").read_text("utf-8"))
    (chart,) = spec["vconcat"]
    line, marks = (spec["datasets"][layer["data"]["name"]] for layer in chart["layer"])
    assert len(line) == 21 * DAY
    assert f"{len(line):,} points, {len(marks)} alarm" in done.stdout
    assert run(str(file), "-o", "x.csv", "--chart", "picture.png").exit_code == 0
    assert Path("picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n", (), "has the columns a, b; name one by --time"),
        ("time,b\n1,2\n", (), "name one by --value"),
        ("time,value\n1,2\n", ("--value", "cost"), "--value 'cost': x.csv has the columns time"),
        ("time,value\n1,two\n", (), "x.csv:2: 'two' is no number"),
        ("time,value\nsoon,2\n", (), "x.csv:2: 'soon' is no time; write such as"),
        ("time,value\n1,2\n", ("--chart", "x.gif"), "write a name that ends in .png"),
    ],
)
def test_what_is_wrong_is_told(
    file: Path, text: str, options: tuple[str, ...], message: str
) -> None:
    """With the place, and what to write."""
    assert file.exists()
    Path("x.csv").write_text(text)
    assert message in str(run("x.csv", *options).exception)
