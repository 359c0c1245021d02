"""The command line's table of beacons."""

from heliograph.cli.cells import name_of, status_of
from heliograph.cli.presentation import Presentation

BEACONS = Presentation("NAME PHASE SEEN", lambda each, now: [
    name_of(each), status_of(each)["phase"], f"{status_of(each)['seen']}/{each['spec']['flashes']}"
])  # fmt: skip
