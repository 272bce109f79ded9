"""How `governor demo` looks: a line for each happening; on a terminal, the numbers below them."""

from collections.abc import Callable
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from governor.adapters.duckdb.query import Answer
from governor.core.pricing import NANO_PER_USD
from governor.demo.company import TIERS
from governor.demo.evening import Evening
from governor.demo.gateway import Verdict
from governor.demo.narrator import Cap, Happening
from governor.demo.story import Moment

BAR_CELLS: Final = 30
MAX_CELL_CHARACTERS: Final = 50

_STYLES: Final = {"slack": "magenta", "gate": "cyan", "spend": "yellow", "clock": "green"}
_FULL_FROM: Final = 1.0
_HIGH_FROM: Final = 0.8


class View:
    """Shows the story on a console, from the start to the end of a `with`."""

    def __init__(self, console: Console, going_on: Callable[[], list[str]]) -> None:
        self._console = console
        self._going_on = going_on
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self._console.print("starting broker, Slack, daemon and gate ...")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def opening(self, evening: Evening) -> None:
        """Say that all is ready, and what the demo's clock shows."""
        shown, left_s = f"{evening.now():%H:%M:%S} UTC", f"{evening.left_s():.0f} s"
        self._say(
            "All of them live by the demo's own clock, so that a day ends while you look on: it"
            f" shows\n{shown}, and midnight comes in {left_s}. In this time the load has the rhythm"
            " of a whole day.\n"
        )
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()

    def happened(self, happening: Happening, seconds: float) -> None:
        """Tell one line."""
        when = f"{seconds:5.1f} s  {happening.at:%H:%M:%S}"
        if not self._console.is_terminal:
            self._say(f"{when}  {happening.who:<9}{happening.text}")
            return
        line = Table.grid(Column(no_wrap=True), Column(width=7), Column(), padding=(0, 2, 0, 0))
        style = _STYLES.get(happening.who, "bold")
        line.add_row(Text(when, "dim"), Text(happening.who, style), Text(happening.text))
        self._console.print(line)

    def stands(self, moment: Moment) -> None:
        """Show how things stand, where there is a terminal."""
        if self._live is not None:
            self._live.update(_standing(moment), refresh=True)

    def goes_on(self) -> None:
        """Say that the story is told and that all runs on."""
        self._say("\n".join(["", *self._going_on(), ""]))

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _standing(moment: Moment) -> Group:
    heading = Text(
        f"\n{moment.at:%H:%M:%S} UTC by the demo's clock, {moment.seconds:.0f} s", "bold"
    )
    budgets = Table.grid(padding=(0, 2))
    for cap in sorted(moment.caps, key=lambda cap: cap.limit_nano):
        budgets.add_row(
            cap.rule, _bar(cap), f"{_usd(cap.spent_nano)} of {_usd(cap.limit_nano)} USD"
        )
    tiers = Table.grid(padding=(0, 2))
    for _ in range(3):
        tiers.add_column(justify="right")
    tiers.add_row("", "asked", "refused", style="dim")
    for tier in TIERS:
        refused = moment.traffic.refused[tier]
        shown = Text(f"{refused:,}", style="bold red" if refused else "")
        tiers.add_row(tier, f"{moment.traffic.asked[tier]:,}", shown)
    totals = moment.totals
    governor = Table.grid(padding=(0, 2))
    governor.add_column()
    governor.add_column(justify="right")
    behind = max(0, moment.ledger.sent - totals["events"])
    for name in ("counted", "duplicates", "rejected", "unpriced"):
        governor.add_row(name, f"{totals[name]:,}")
    governor.add_row("not stored yet", f"{behind:,}")
    side = Table.grid(padding=(0, 6))
    side.add_row(tiers, governor)
    said = moment.slack.splitlines()[:2] or ["nothing yet"]
    slack = Text("Slack      ", "dim").append("\n           ".join(said), "not dim magenta")
    return Group(heading, budgets, _throttle(moment.traffic.throttle), Text(), side, Text(), slack)


def _throttle(verdict: Verdict | None) -> Text:
    line = Text("\nthrottles  ", "dim")
    if verdict is None:
        return line.append("none", "not dim")
    until = f" until {verdict.until:%H:%M} UTC" if verdict.until else ""
    return line.append(f"free tier: {verdict.rate} for each user{until}", "not dim bold red")


def _bar(cap: Cap) -> Text:
    cells = int(min(cap.share, 1.0) * BAR_CELLS)
    style = "red" if cap.share >= _FULL_FROM else "yellow" if cap.share >= _HIGH_FROM else "green"
    return Text("█" * cells, style=style) + Text("░" * (BAR_CELLS - cells), style="dim")


def _usd(nano: int) -> str:
    return f"{Decimal(nano) / NANO_PER_USD:,.2f}"


def report(title: str, answer: Answer) -> Table:
    """Return the answer to a question as a table."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, name in enumerate(answer.columns):
        numeric = any(isinstance(row[number], int | Decimal) for row in answer.rows)
        table.add_column(name, justify="right" if numeric else "left")
    for row in answer.rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, int | Decimal):
        return f"{value:,}"
    text = str(value)
    return text if len(text) <= MAX_CELL_CHARACTERS else f"{text[: MAX_CELL_CHARACTERS - 3]}..."
