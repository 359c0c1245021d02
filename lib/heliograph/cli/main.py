"""``heliograph``: kubectl's verbs for federated, incremental and joint jobs, and the processes themselves."""

from __future__ import annotations

import sys

import typer

from heliograph.cli import clusters, resources, serve, topics

app = typer.Typer(
    name="heliograph",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Models trained and served on edges and in the cloud together, over MQTT and NATS.",
)
for module in (clusters, resources, topics, serve):
    module.register(app)


def main() -> None:
    """Entry of the command; what is expected to go wrong is one line on stderr and exit code 1."""
    from heliograph.bus.errors import HeliographError

    try:
        app()
    except HeliographError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
