"""A report in words: sections of lines that are ready to be shown, and the notice of it."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from governor.core.drivers import Drivers
from governor.core.notifications import Notice, rejection_notice
from governor.core.periods import Every
from governor.core.picture import Line, Mark, Picture, Style
from governor.core.reports import (
    MAX_LISTED,
    Acted,
    Amount,
    BudgetLine,
    Economics,
    Named,
    Report,
    ReportSpec,
)
from governor.core.rules.shared import Level, Mode
from governor.core.rules.units import Measure, Unit, amount_text


def usd(nano: int) -> str:
    """Write money for people."""
    return amount_text(Measure.COST, nano) if nano >= 0 else f"-{amount_text(Measure.COST, -nano)}"


def change(amount: Amount) -> str:
    """Write how much more an amount is than before: `+12% (+3.40 USD)`."""
    if amount.percent is None:
        return f"{change_usd(amount)}, from nothing" if amount.more else "as before"
    return f"{change_percent(amount)} ({change_usd(amount)})"


def change_percent(amount: Amount) -> str:
    """Write how much more an amount is in percent: `+12%`, or `new`."""
    if amount.percent is None:
        return "new" if amount.more else "as before"
    return f"{amount.percent:+,.0f}%"


def change_usd(amount: Amount) -> str:
    """Write how much more an amount is: `+3.40 USD`."""
    return f"{'+' if amount.more >= 0 else '-'}{usd(abs(amount.more))}"


def notes(report: Report) -> list[str]:
    """Write what whoever reads it should know of how it was made."""
    lines = []
    if not report.whole:
        lines.append("some of its usage may not be counted yet: ingest is behind")
    if report.missed:
        lines.append(
            f"{report.missed:,} reports before were not made, since governor was down:"
            " governor report daily --date D --dry-run shows one"
        )
    return lines


def called(named: Named) -> str:
    """Write what a value is."""
    return f"{named.dimension} {named.value if named.value is not None else '(none)'}"


def drivers_text(drivers: Drivers) -> str:
    """Write what drove a difference, the greatest first, without what did nothing."""
    named = {
        "volume": drivers.volume,
        "mix": drivers.mix,
        "tokens": drivers.tokens,
        "price": drivers.price,
    }
    parts = sorted(named.items(), key=lambda item: -abs(item[1]))
    told = [f"{name} {'+' if nano > 0 else ''}{usd(nano)}" for name, nano in parts if nano]
    return ", ".join(told) or "nothing"


def headline(report: Report) -> str:
    """Write the report in one sentence."""
    before = {
        Every.DAY: "the same weekday a week before",
        Every.WEEK: "the week before",
        Every.MONTH: "the month before",
    }[report.every]
    if report.spend.percent is None and report.spend.more:
        return f"{usd(report.spend.cost)} spent, and nothing on {before}."
    return f"{usd(report.spend.cost)} spent, {change(report.spend)} against {before}."


def sections(report: Report) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield what it tells as titles with lines; a section of which there is nothing is left out."""
    for title, lines in (
        ("Spend", _spend(report)),
        ("Unit economics", _economics(report.economics)),
        ("What moved", [_mover(named) for named in report.movers]),
        ("Budgets", [_budget(line) for line in report.budgets[:MAX_LISTED]]),
        *((f"By {name}", _values(report, name)) for name in report.by),
        ("Not priced, not attributed", _unknown(report)),
        ("What rules did", [_acted(each) for each in report.throttles[:MAX_LISTED]]),
        ("Shadow rules would have", [_acted(each) for each in report.shadow[:MAX_LISTED]]),
        ("Rules to look at", list(report.troubles[:MAX_LISTED])),
    ):
        if lines:
            yield title, lines


def picture_of_report(report: Report) -> Picture:
    """Return what a chart of a report shows: the last local days."""
    zone = ZoneInfo(report.zone)
    noons = [(at + timedelta(hours=12), cost) for at, cost in report.days]
    mark = Mark(report.period.start, report.period.name, "info")
    return Picture(
        title=report.title,
        why=headline(report),
        unit=Unit.COST,
        lines=(Line(f"spend by day, {zone.key}", Style.USED, tuple(noons)),),
        marks=(mark,),
    )


def message_of(report: str, made_at: datetime) -> str:
    """Return the id of the message that tells of a report which was made at a time."""
    return f"report-{report}-{made_at:%Y%m%dT%H%M%S.%f}"


def notice_of_report(report: Report, spec: ReportSpec, message: str) -> Notice:
    """Return what is told of a report to those who get it."""
    lines = [
        "\n".join([f"{title}:", *(f"• {line}" for line in lines)])
        for title, lines in sections(report)
    ]
    base = rejection_notice(f"report-{spec.name}", report.title, headline(report), report.made_at)
    return Notice(
        message=message,
        alert=base.alert,
        revision=1,
        rule=base.rule,
        owner=base.owner,
        mode=Mode.NOTIFY,
        level=Level.INFO,
        resolved="",
        title=base.title,
        summary=base.summary,
        value="",
        limit="",
        percent=None,
        group=(),
        period=report.period.name,
        period_end=report.period.end,
        at=report.made_at,
        fired_at=report.made_at,
        history=(),
        kind="report",
        to=spec.to,
        why="\n\n".join(lines),
        together=message,
    )


def _spend(report: Report) -> list[str]:
    spend = report.spend
    lines = [
        f"{usd(spend.cost)}, {change(spend)}; {spend.requests:,} requests, {spend.tokens:,} tokens",
        f"{usd(report.month_to_date)} so far in the month",
    ]
    if report.drivers is not None and spend.more:
        lines.insert(1, f"What drove it: {drivers_text(report.drivers)}")
    lines += notes(report)
    return lines


def _economics(found: Economics) -> list[str]:
    lines = []
    if found.per_revenue is not None and found.revenue is not None:
        told = f"{found.per_revenue:,.1f}% of revenue ({usd(found.revenue)})"
        lines.append(f"Cost is {told}")
    if found.per_user is not None:
        lines.append(f"{usd(found.per_user)} for each of {found.users:,} users")
    return lines


def _mover(named: Named) -> str:
    why = f"; {drivers_text(named.drivers)}" if named.drivers else ""
    return f"{called(named)}: {usd(named.amount.cost)}, {change(named.amount)}{why}"


def _budget(line: BudgetLine) -> str:
    share = f" ({int(line.percent):,}%)" if line.percent is not None else ""
    odds = "passed" if line.odds == "passed" else f"odds to pass the limit {line.odds}"
    ahead = f"; heading for {line.likely}, {odds}" if line.likely else ""
    group = f", {line.group}" if line.group else ""
    return f"{line.rule}{group}, {line.period}: {line.so_far} of {line.limit}{share}{ahead}"


def _values(report: Report, dimension: str) -> list[str]:
    lines = [
        f"{named.value if named.value is not None else '(none)'}: {usd(named.amount.cost)},"
        f" {change(named.amount)}"
        for named in report.by[dimension]
    ]
    rest = report.others.get(dimension)
    if rest is not None and (rest.cost or rest.before):
        lines.append(f"all others: {usd(rest.cost)}, {change(rest)}")
    return lines


def _unknown(report: Report) -> list[str]:
    found, cost = report.unknown, report.spend.cost
    lines = []
    if found.events:
        lines.append(
            f"{found.events:,} events without a price ({found.tokens:,} tokens); caps count"
            f" {usd(found.capped)} for them"
        )
    for dimension, nano in found.unattributed.items():
        if nano and cost:
            share = Decimal(100 * nano) / cost
            lines.append(f"{usd(nano)} without a {dimension} ({share:,.1f}% of the spend)")
    return lines


def _acted(each: Acted) -> str:
    return (
        f"{each.rule}: {each.what}, {each.times:,} times"
        if each.times > 1
        else (f"{each.rule}: {each.what}")
    )
