"""The daemon and the gate by a clock that is ahead: what `governor demo` starts, and no command.

    python -m governor.cli.ahead run|gate SECONDS

is `governor run` or `governor gate` with the settings found in its folder; only the clock differs.
"""

import sys
from datetime import timedelta

from governor import daemon, telemetry
from governor.cli.gate import options_of
from governor.core.errors import GovernorError
from governor.daemon.clocks import WallClock
from governor.gate.serve import serve
from governor.settings import load


def main() -> None:
    """Run one of them until SIGTERM."""
    name, ahead_s = sys.argv[1:]
    wall = WallClock(ahead=timedelta(seconds=float(ahead_s)))
    settings = load(None).settings
    telemetry.configure(settings.log.level, settings.log.format)
    if name == "run":
        daemon.run(settings, wall=wall)
        return
    serve(
        daemon.connection_of(settings),
        topic=settings.directives.topic,
        host=settings.gate.host,
        port=settings.gate.port,
        options=options_of(settings.gate),
        now=lambda: wall.at(None),
    )


if __name__ == "__main__":
    try:
        main()
    except GovernorError as error:
        sys.exit(f"governor: {error}")
