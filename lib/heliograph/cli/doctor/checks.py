"""The doctor's checks, in the order in which they are made."""

from __future__ import annotations

from heliograph.cli.doctor.broker import BrokerCheck
from heliograph.cli.doctor.certificates import CertificatesCheck
from heliograph.cli.doctor.check import Check
from heliograph.cli.doctor.clock import ClockCheck
from heliograph.cli.doctor.confinement import ConfinementCheck
from heliograph.cli.doctor.coordinator import CoordinatorCheck
from heliograph.cli.doctor.disk import DiskCheck
from heliograph.cli.doctor.edges import EdgesCheck
from heliograph.cli.doctor.logins import LoginsCheck
from heliograph.cli.doctor.node import NodeCheck
from heliograph.cli.doctor.permissions import PermissionsCheck
from heliograph.cli.doctor.versions import VersionsCheck

CHECKS: tuple[Check, ...] = (
    BrokerCheck(),
    NodeCheck(),
    CoordinatorCheck(),
    EdgesCheck(),
    ClockCheck(),
    LoginsCheck(),
    CertificatesCheck(),
    DiskCheck(),
    ConfinementCheck(),
    VersionsCheck(),
    PermissionsCheck(),
)
