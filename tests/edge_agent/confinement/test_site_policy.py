"""The file with the site policy: what it says, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.core.errors import Refused
from heliograph.edge_agent.confinement.site_policy import CONFINED, SitePolicy, read_site_policy, written

ABSOLUTE = st.lists(st.from_regex(r"/[a-zA-Z0-9_ \"'\\é.-]{1,12}", fullmatch=True).filter(lambda x: x != "/.."))


def _read(directory: Path, text: str | bytes) -> SitePolicy:
    file = directory / "site-policy.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_site_policy(file)


def test_an_empty_file_confines(tmp_path: Path) -> None:
    assert _read(tmp_path, "") == _read(tmp_path, "[workers]\n") == CONFINED
    assert (CONFINED.files, CONFINED.network) == ("own", "node")


def test_each_field_is_read(tmp_path: Path) -> None:
    fields = ['files = "machine"', 'network = "full"', 'read = ["/mnt/a b"]', "processes = 64", "cpu-percent = 150",
              'projects = ["north"]']  # fmt: skip
    assert _read(tmp_path, "\n".join(["[workers]", *fields])) == SitePolicy(
        "machine", "full", (Path("/mnt/a b"),), processes=64, cpu_percent=150, projects=("north",)
    )


@given(read=ABSOLUTE, private=ABSOLUTE, free=st.integers(0, 1 << 20))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, read: list[str], private: list[str],
                                       free: int) -> None:  # fmt: skip
    policy = SitePolicy(read=tuple(map(Path, read)), private=tuple(map(Path, private)), keep_free_mb=free)
    assert _read(tmp_path_factory.getbasetemp(), written(policy)) == policy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workers = 3", "field workers: expected a section, [workers], got 3"),
        ("[agents]\nfiles = 1", "field agents: expected the section workers alone"),
        ("[workers]\nfile = 'own'", "field workers.file: expected one of files, network, read, write, private, "),
        ("[workers]\nfiles = 'all'", "field workers.files: expected own or machine, got all"),
        ("[workers]\nnetwork = true", "field workers.network: expected node or full, got True"),
        ("[workers]\nread = '/mnt'", "field workers.read: expected a list of absolute paths, got /mnt"),
        ("[workers]\nread = ['mnt']", "field workers.read: expected a list of absolute paths"),
        ("[workers]\nwrite = ['/a/../etc']", "field workers.write: expected a list of absolute paths"),
        ("[workers]\nprocesses = 1", "field workers.processes: expected a number from 8 to 1048576, got 1"),
        ("[workers]\ncpu-percent = -1", "field workers.cpu-percent: expected a number from 0 to 1048576, got -1"),
        ("[workers]\nprocesses = true", "field workers.processes: expected a number"),
        ("[workers]\nprojects = 'north'", "field workers.projects: expected a list of projects, each "),
        ("[workers]\nprojects = ['No']", "field workers.projects: expected a list of projects, each "),
        ("[workers", "expected TOML, got Expected ']'"),
        (b"\xff", "expected TOML"),
        ("#" * 70000, "expected at most 65536 bytes, got more"),
    ],
)
def test_what_is_no_policy_is_refused_with_its_field(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(Refused) as refused:
        _read(tmp_path, text)
    assert words in str(refused.value) and "site-policy.toml" in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="expected a file with the site policy, got No such file"):
        read_site_policy(tmp_path / "nowhere.toml")
