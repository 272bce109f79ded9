"""The command line: one file a command group; exit codes that scripts can rely on."""

import sys
from typing import Final

import typer

from governor.cli import (
    alerts,
    budgets,
    config,
    demo,
    detect,
    enforce,
    forecast,
    gate,
    prices,
    produce,
    report,
    rerate,
    rules,
    run,
    showback,
    silences,
    slack,
    sql,
    status,
    throttles,
    topics,
)
from governor.core.errors import ConfigError, GovernorError, TransientError

EXIT_FAILED: Final = 1
"""It was tried and did not succeed; the message says what a person must do."""
EXIT_USAGE: Final = 2
"""A setting, a file or the command line is wrong."""
EXIT_UNAVAILABLE: Final = 69
"""Kafka, the disk or the daemon is not there right now; the same command may succeed later."""
EXIT_INTERRUPTED: Final = 130

app: Final = typer.Typer(
    name="governor",
    help="Keep AI inference spend inside its budgets.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong settings or usage, 69 not available now.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(demo.demo)
app.command()(run.run)
app.command()(gate.gate)
app.command()(produce.produce)
app.add_typer(topics.app, name="topics")
app.command()(status.status)
app.command()(sql.sql)
app.command()(detect.detect)
app.command()(forecast.forecast)
app.add_typer(rules.app, name="rules")
prices.app.command()(rerate.rerate)
app.add_typer(prices.app, name="prices")
app.add_typer(alerts.app, name="alerts")
app.add_typer(budgets.app, name="budgets")
report.app.command()(showback.showback)
app.add_typer(report.app, name="report")
app.add_typer(silences.app, name="silences")
app.add_typer(slack.app, name="slack")
app.add_typer(throttles.app, name="throttles")
app.add_typer(enforce.app, name="enforce")
app.add_typer(config.app, name="config")


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        app()
    except GovernorError as error:
        sys.stderr.write(f"governor: {error}\n")
        sys.exit(_code(error))
    except KeyboardInterrupt:
        sys.stderr.write("governor: interrupted\n")
        sys.exit(EXIT_INTERRUPTED)


def _code(error: GovernorError) -> int:
    if isinstance(error, ConfigError):
        return EXIT_USAGE
    return EXIT_UNAVAILABLE if isinstance(error, TransientError) else EXIT_FAILED
