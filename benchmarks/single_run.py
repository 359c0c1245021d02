"""One run of one benchmark in a process of its own; the runner starts it as ``python -m … NAME SECONDS``.

Its last line of output is its samples as JSON. It ends every process that it has started before it ends itself.
"""

from __future__ import annotations

import json
import signal
import sys
import traceback
from typing import Any

from benchmarks.catalog import BENCHMARKS
from benchmarks.processes import adopt_orphans, end_all


def main(name: str, seconds: str) -> int:
    adopt_orphans()
    signal.signal(signal.SIGALRM, lambda *_: _abort(f"took more than {float(seconds):g} s"))
    signal.signal(signal.SIGTERM, lambda *_: _abort("ended from outside"))
    signal.setitimer(signal.ITIMER_REAL, float(seconds))
    try:
        samples: dict[str, Any] = {key: list(each) for key, each in BENCHMARKS[name].measure().items()}
    except Exception as error:
        traceback.print_exc()
        print(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, flush=True)
        return 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for each in (signal.SIGTERM, signal.SIGINT):  # a second signal must not interrupt the clean-up
            signal.signal(each, signal.SIG_IGN)
        end_all()
    print("\n" + json.dumps(samples), flush=True)
    return 0


def _abort(why: str) -> None:
    raise TimeoutError(why)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
