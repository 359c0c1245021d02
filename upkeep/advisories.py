"""Compare the pinned versions with public advisories.

Exit code 1: an advisory concerns a pin, and advisories.toml does not list it. Exit code 0: none does, or the service
gives no answer, which a line says. Exit code 2: the command line or a file cannot be read.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from upkeep.accepted import read_accepted, unused
from upkeep.osv import SERVICE, Advisory, Unreachable, advisories

ROOT = Path(__file__).parents[1]
PINS = "constraints.txt"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="advisories", description="Compare pinned versions with public advisories.")
    parser.add_argument("--base", metavar="REVISION", help="fail only for versions that this revision does not pin")
    parser.add_argument("--service", default=SERVICE, help="where the API of OSV is")
    parser.add_argument("--root", type=Path, default=ROOT, help=f"the folder with {PINS} and advisories.toml")
    options = parser.parse_args(words)
    try:
        pins = pinned((options.root / PINS).read_text())
        accepted = read_accepted((options.root / "advisories.toml").read_text())
    except (OSError, ValueError) as error:
        parser.error(str(error))
    try:
        found = advisories(pins, options.service)
    except Unreachable as error:
        print(f"no advisory was compared: {error}")
        return 0
    today = datetime.date.today()
    before = _pins_of(options.root, options.base) if options.base else {}
    if before is None:
        print(f"the history lacks {options.base}: no advisory fails this run")
        before = pins
    failing = False
    for each in found:
        listed = next((entry for entry in accepted if entry.covers(each, today)), None)
        note = f"accepted until {listed.until}: {listed.why}" if listed else ""
        if not listed and before.get(each.package) == each.version:
            note = f"pinned since before {options.base}"
        failing |= not note
        print(line(each, note))
    for entry in unused(accepted, found):
        print(f"advisories.toml: no pin needs the entry {entry.id} of {entry.package}: take it out")
    print(f"{len(pins)} pinned versions, {len(found)} advisories")
    return 1 if failing else 0


def pinned(text: str) -> dict[str, str]:
    """Return version by name of each line of a file of constraints. Raise ValueError where one pins none."""
    found: dict[str, str] = {}
    for each in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        name, is_pin, version = each.partition("==")
        if not is_pin:
            raise ValueError(f"{PINS}: expected NAME==VERSION, got {each}")
        found[canonicalize_name(name.strip())] = version.strip()
    return found


def line(advisory: Advisory, note: str) -> str:
    """Return an advisory as it is printed."""
    fixed = f"fixed in {', '.join(advisory.fixed)}" if advisory.fixed else "not fixed"
    parts = [f"{advisory.package} {advisory.version}", " ".join(advisory.names), fixed, advisory.summary]
    return " | ".join(part for part in [*parts, f"({note})" if note else ""] if part)


def _pins_of(root: Path, revision: str) -> dict[str, str] | None:
    """Return what a revision pins; None where the history lacks it."""
    done = subprocess.run(["git", "show", f"{revision}:{PINS}"], cwd=root, capture_output=True, text=True)
    return pinned(done.stdout) if done.returncode == 0 else None


if __name__ == "__main__":
    raise SystemExit(main())
