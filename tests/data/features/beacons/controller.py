"""The coordinator's part of the beacons feature."""

from beacons import FLASH, Beacon
from heliograph.coordinator.feature import Feature


class Beacons(Feature[Beacon]):
    def parts(self):
        return (self._count,)

    async def reconcile(self):
        for each in self.resources():
            if each.status.phase == "Pending":
                await self.context.step(Beacon, each.name, lambda beacon: _with(beacon, phase="Running"))

    def steer(self, beacon, verb, topic):
        return _with(beacon, phase="Stopped")

    async def _count(self):
        async with self.context.port.subscribe(FLASH, lambda error: self.context.warn(str(error))) as flashes:
            async for each in flashes:
                await self.context.step(Beacon, each.params["beacon"], _seen)


def _seen(beacon):
    seen = beacon.status.seen + 1
    return _with(beacon, seen=seen, phase="Succeeded" if seen == beacon.spec.flashes else beacon.status.phase)


def _with(beacon, **changes):
    return beacon.model_copy(update={"status": beacon.status.model_copy(update=changes)})
