import sqlite3
from pathlib import Path

import pytest

from heliograph.simulations.virtual import disk as disks
from heliograph.simulations.virtual.disk import Disk, OpenFiles

PATH = Path("/state/journal.db")


def rows(disk: Disk) -> list[tuple[int]]:
    found: list[tuple[int]] = disk.connect(PATH).execute("SELECT n FROM t ORDER BY n").fetchall()
    return found


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[Disk]:
    """Return three disks with a file each; only one of the files has a connection at a time."""
    monkeypatch.setattr(disks, "MOST_OPEN", 1)
    open_files = OpenFiles()
    found = [Disk(open_files) for _ in range(3)]
    for n, disk in enumerate(found):
        disk.connect(PATH).executescript("CREATE TABLE t (n INTEGER, filling BLOB)")
        disk.connect(PATH).execute("INSERT INTO t VALUES (?, NULL)", (n,))
    return found


def test_a_file_without_its_connection_keeps_its_content(files: list[Disk]) -> None:
    assert [rows(disk) for disk in files] == [[(0,)], [(1,)], [(2,)]]
    found = files[1].file("journal.db")
    assert found is not None
    assert found.execute("SELECT n FROM t").fetchall() == [(1,)]


def test_a_file_in_a_transaction_keeps_its_connection(files: list[Disk]) -> None:
    connection = files[0].connect(PATH)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t VALUES (10, NULL)")
    assert rows(files[1]) == [(1,)]
    assert connection.in_transaction
    connection.execute("ROLLBACK")
    assert rows(files[0]) == [(0,)]


def test_a_full_disk_stays_full_without_its_connection(files: list[Disk]) -> None:
    files[0].fill(True)
    assert rows(files[1]) == [(1,)]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        files[0].connect(PATH).execute("INSERT INTO t VALUES (11, zeroblob(5000))")
    files[1].connect(PATH).execute("INSERT INTO t VALUES (11, zeroblob(5000))")
    files[0].fill(False)
    files[0].connect(PATH).execute("INSERT INTO t VALUES (11, zeroblob(5000))")
    assert rows(files[0]) == [(0,), (11,)]
