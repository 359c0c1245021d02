"""Kill the process that imports this module at a point named by a test: a crash at exactly that instant.

A file ``<process>.<point>`` in FAULTS contains the number of the passing, counted from then on, at which the process
is killed. The file is deleted first, so that the next process lives. ``<process>`` is ``coordinator`` or
``aggregate``. Points:

    before-put-<bucket>.<key>    after-put-<bucket>.<key>      a write to key-value; <key> is the key's last word
    before-publish-<topic>       after-publish-<topic>         the topic's second word

With a file ``hasty`` a lease expires four times as fast.
"""

import importlib.abc
import importlib.util
import os
import signal
import sys
from collections import Counter
from pathlib import Path

FAULTS = Path(os.environ["FAULTS"])
passed: Counter[str] = Counter()


def reached(point):
    words = sys.orig_argv
    aggregates = any(word.startswith("heliograph.workers.aggregation") for word in words)
    process = "aggregate" if aggregates else "coordinator" if "coordinator" in words else ""
    file = FAULTS / f"{process}.{point}"
    if process and file.exists():
        passed[point] += 1
        if int(file.read_text()) == passed[point]:
            file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def between(module, kind, method, point_of):
    inner = getattr(getattr(module, kind), method)

    async def outer(self, *args, **more):
        point = point_of(self, *args)
        reached(f"before-{point}")
        result = await inner(self, *args, **more)
        reached(f"after-{point}")
        return result

    setattr(getattr(module, kind), method, outer)


def hurry(lease):
    if (FAULTS / "hasty").exists():
        for name in ("RENEW_EVERY", "STOPS_AFTER", "TAKEN_AFTER"):
            setattr(lease, name, getattr(lease, name) / 4)


PATCHES = {
    "heliograph.bus.nats.key_value": lambda module: between(
        module, "NatsKeyValue", "put", lambda self, key, *_: f"put-{self.bucket}.{key.rpartition('.')[2]}"
    ),
    "heliograph.bus.nats.bus": lambda module: between(
        module, "NatsBus", "publish", lambda _, topic, *__: "publish-" + "".join(topic.split("/")[1:2])
    ),
    "heliograph.coordinator.leadership": hurry,
}


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in PATCHES:
            return None
        patch = PATCHES.pop(name)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            patch(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
