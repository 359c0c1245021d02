"""The directory in which a script runs: filled with the files of its working directory, and afterwards left with what
the script has written."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from heliograph.core.errors import HeliographError
from heliograph.edge_agent import outputs
from heliograph.edge_agent.outputs import LogFile, Outputs, WorkingPlace


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a working directory as people have them."""
    root = tmp_path / "project"
    for name in ("conf/deep", ".git", "__pycache__", "heliograph-runs/train-1"):
        (root / name).mkdir(parents=True)
    for name in ("train.py", "conf/deep/model.yaml", ".git/HEAD", "__pycache__/train.pyc", "heliograph-runs/train-1/x"):
        (root / name).write_text(name)
    return root.resolve()


def _prepare(tmp_path: Path, project: Path) -> WorkingPlace:
    return Outputs(tmp_path / "outputs").prepare("job", "job-edge-1", project)


def _tree(directory: Path) -> dict[str, str]:
    """Return each file below a directory with its text; of a link where it leads."""
    return {
        str(path.relative_to(directory)): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in sorted(directory.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_a_worker_finds_the_projects_files_without_hidden_ones_caches_and_earlier_runs(
    tmp_path: Path, project: Path
) -> None:
    place = _prepare(tmp_path, project)
    assert place.directory == tmp_path / "outputs" / "job" / "job-edge-1"
    assert _tree(place.directory) == {"train.py": "train.py", "conf/deep/model.yaml": "conf/deep/model.yaml"}
    assert not (place.directory / "conf").is_symlink()
    assert place.notes == []


def test_its_outputs_are_left_and_nothing_else(tmp_path: Path, project: Path) -> None:
    place = _prepare(tmp_path, project)
    (place.directory / "conf" / "deep" / "seen.txt").write_text("written")
    (place.directory / "train.py").write_text("changed")
    (place.directory / "__pycache__").mkdir()
    (place.directory / "__pycache__" / "helpers.pyc").write_text("")
    assert place.clear() == []
    assert _tree(place.directory) == {"conf/deep/seen.txt": "written", "train.py": "changed"}
    assert (project / "train.py").read_text() == "train.py"


def test_a_worker_that_wrote_nothing_leaves_no_directory(tmp_path: Path, project: Path) -> None:
    place = _prepare(tmp_path, project)
    place.clear()
    assert list((tmp_path / "outputs" / "job").iterdir()) == []


def test_outputs_of_an_earlier_start_are_found_again_and_never_overwritten(tmp_path: Path, project: Path) -> None:
    first = _prepare(tmp_path, project)
    (first.directory / "checkpoint.pt").write_text("round 1")
    (first.directory / "train.py").write_text("changed")
    first.clear()
    second = _prepare(tmp_path, project)
    assert _tree(second.directory)["checkpoint.pt"] == "round 1"
    assert _tree(second.directory)["train.py"] == "changed"
    second.clear()
    assert _tree(second.directory) == {"checkpoint.pt": "round 1", "train.py": "changed"}


def test_what_an_agent_that_was_killed_has_laid_goes_at_the_next_workers_end(tmp_path: Path, project: Path) -> None:
    _prepare(tmp_path, project)
    again = _prepare(tmp_path, project)
    again.clear()
    assert not again.directory.exists()


def test_a_large_file_is_linked_but_a_model_is_copied_since_scripts_write_it_again(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "SMALL", 100)
    for name in ("data.csv", "best.pt"):
        (project / name).write_bytes(bytes(101))
    place = _prepare(tmp_path, project)
    assert (place.directory / "data.csv").readlink() == project / "data.csv"
    (place.directory / "best.pt").write_text("better")
    assert (project / "best.pt").read_bytes() == bytes(101)
    assert place.clear() == []
    assert _tree(place.directory) == {"best.pt": "better"}


def test_a_write_through_a_link_is_said(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "SMALL", 100)
    (project / "data.csv").write_bytes(bytes(101))
    place = _prepare(tmp_path, project)
    (place.directory / "data.csv").write_text("changed")
    [note] = place.clear()
    assert note == f"data.csv was written through a link to {project / 'data.csv'}, which all workers share"


def test_copies_are_bounded(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "COPIED", 250)
    for number in range(4):
        (project / f"{number}.csv").write_bytes(bytes(100))
    tree = _tree(_prepare(tmp_path, project).directory)
    assert [tree[f"{number}.csv"].startswith("->") for number in range(4)] == [False, False, True, True]


def test_a_directory_of_many_files_is_linked_as_a_whole_and_what_is_nearest_comes_first(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "MAX_ENTRIES", 10)
    (project / "images" / "below").mkdir(parents=True)
    for number in range(20):
        (project / "images" / f"{number}.png").write_text("")
    place = _prepare(tmp_path, project)
    assert (place.directory / "images").readlink() == project / "images"
    assert "conf/deep/model.yaml" in _tree(place.directory)
    for number in range(20):
        (project / f"{number}.txt").write_text("")
    place.clear()
    [note] = _prepare(tmp_path, project).notes
    assert note == f"{project} has more than 10 entries: the script finds 10 of them by relative names"


def test_a_link_out_of_the_project_is_not_followed(tmp_path: Path, project: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("secret")
    (project / "file").symlink_to(tmp_path / "secret")
    (project / "directory").symlink_to(tmp_path / "elsewhere")
    (project / "circle").symlink_to(project / "circle")
    tree = _tree(_prepare(tmp_path, project).directory)
    assert {name: tree[name] for name in ("file", "directory", "circle")} == {
        name: f"-> {project / name}" for name in ("file", "directory", "circle")
    }


def test_a_link_that_an_earlier_script_left_is_not_followed_either(tmp_path: Path, project: Path) -> None:
    place = _prepare(tmp_path, project)
    place.clear()
    place.directory.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (place.directory / "conf").symlink_to(tmp_path / "elsewhere")
    (place.directory / "train.py").symlink_to(tmp_path / "elsewhere" / "new")
    _prepare(tmp_path, project).clear()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_users_own_files_stay_where_a_script_has_linked_its_directory_to_them(
    tmp_path: Path, project: Path
) -> None:
    place = _prepare(tmp_path, project)
    before = _tree(project)
    shutil.rmtree(place.directory / "conf")
    (place.directory / "conf").symlink_to(project / "conf")
    (project / "conf" / "deep" / "__pycache__").mkdir()
    place.clear()
    assert _tree(project) == before
    assert (project / "conf" / "deep" / "__pycache__").exists()
    assert _tree(place.directory) == {"conf": f"-> {project / 'conf'}"}


def test_the_agents_own_directories_are_no_part_of_it(tmp_path: Path, project: Path) -> None:
    for name in ("state/workers", "outputs/other-job/w"):
        (project / name).mkdir(parents=True)
        (project / name / "secret").write_text("secret")
    own = Outputs(project / "outputs", (project / "state",))
    place = own.prepare("job", "w", project)
    assert set(_tree(place.directory)) == {"train.py", "conf/deep/model.yaml"}
    for source in (project / "state", project / "outputs" / "other-job"):
        with pytest.raises(HeliographError, match="is no working directory"):
            own.prepare("job", "w", source)


def test_its_user_alone_reads_it(tmp_path: Path, project: Path) -> None:
    (project / "run.sh").write_text("")
    (project / "run.sh").chmod(0o755)
    before = os.umask(0)
    try:
        place = _prepare(tmp_path, project)
        LogFile(place.log, "").close()
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in (tmp_path / "outputs").rglob("*")}
    assert modes[place.directory / "run.sh"] == 0o700
    assert {mode & 0o077 for mode in modes.values()} == {0}
    assert stat.S_IMODE((tmp_path / "outputs").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["..", "a/b", "", "A", ".", "a\0"])
def test_a_name_that_is_no_label_makes_no_directory(tmp_path: Path, project: Path, name: str) -> None:
    for job, worker in ((name, "worker"), ("job", name)):
        with pytest.raises(HeliographError, match="no names of directories"):
            Outputs(tmp_path / "outputs").prepare(job, worker, project)
    assert not (tmp_path / "outputs").exists()


def test_a_file_in_the_way_is_said(tmp_path: Path, project: Path) -> None:
    (tmp_path / "outputs").write_text("")
    with pytest.raises(HeliographError, match="outputs: "):
        _prepare(tmp_path, project)
    (tmp_path / "outputs").unlink()
    (tmp_path / "outputs" / "job").mkdir(parents=True)
    (tmp_path / "outputs" / "job" / "job-edge-1").symlink_to(tmp_path)
    with pytest.raises(HeliographError, match="is no directory; move it away"):
        _prepare(tmp_path, project)


def test_what_is_neither_file_nor_directory_is_left_out(tmp_path: Path, project: Path) -> None:
    os.mkfifo(project / "pipe")
    assert not (_prepare(tmp_path, project).directory / "pipe").exists()


def test_a_log_has_each_start_and_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        log = LogFile(tmp_path / "w.log", f"(start {number})")
        log.add(f"line {number} \ud83d")
        log.close()
    assert (tmp_path / "w.log").read_text() == "line 1 ?\n(start 2)\nline 2 ?\n"
    monkeypatch.setattr(outputs, "LOG_BYTES", 1 << 20)
    log = LogFile(tmp_path / "w.log", "(start 3)")
    for _ in range(20):
        log.add("x" * 65536)
    log.close()
    log.add("after")
    assert (tmp_path / "w.log").read_text().endswith("x\n(this log ends at 1 MiB)\n")
    assert (tmp_path / "w.log").stat().st_size < 1 << 20
