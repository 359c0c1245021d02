"""The documents name only existing files, modules and commands, and the hooks run the checks of ``make check``."""

from __future__ import annotations

import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from heliograph.bus.contract.features import ENTRY_POINTS
from heliograph.cli.main import main
from heliograph.frameworks import installed
from heliograph.simulations.scenario.scenario_files import parse_scenario
from heliograph.workers.algorithms import GROUP

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "examples" / "README.md"])
FOLDERS = "benchmarks|bus|coordinator|deploy|docs|edge_agent|examples|lib|simulations|tests|workers"
GROUPS = {ENTRY_POINTS, GROUP, installed.GROUP}
"""Names of entry-point groups, which look like modules."""
LINK = re.compile(r"\]\(([^)#:]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
MOVED = re.compile(r"^\s*\|.*\|.*\|$", re.MULTILINE)


def names_of(page: Path) -> Iterator[str]:
    """Yield the code spans of a page, but not those of the changelog's tables, which list former names."""
    text = page.read_text()
    if page.name == "CHANGELOG.md":
        text = MOVED.sub("", text)
    yield from CODE.findall(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_file_and_module_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    missing = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    for name in names_of(page):
        if re.fullmatch(rf"({FOLDERS})/[\w./-]*", name) and not (ROOT / name).exists():
            missing.append(name)
        if re.fullmatch(r"heliograph(\.\w+)+", name) and name not in GROUPS and not is_importable(name):
            missing.append(name)
    assert missing == []


def is_importable(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_the_index_names_each_page() -> None:
    listed = set(LINK.findall((ROOT / "docs" / "README.md").read_text()))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= listed


def commands() -> list[tuple[str, str]]:
    """Return each command line of the pages' code blocks, with its page."""
    line = re.compile(r"^ {4,}(?:[A-Z_]+=\S+ +)*heliograph +([a-z].*)$", re.MULTILINE)
    return [
        (page.name, " ".join(words))
        for page in PAGES
        for found in line.findall(page.read_text().replace("\\\n", " "))
        if (words := before_pipe(shlex.split(found, comments=True)))
    ]


def before_pipe(words: list[str]) -> list[str]:
    return words[: words.index("|")] if "|" in words else words


@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda each: str(each)[:40])
def test_each_command_takes_the_options_that_a_page_gives_it(
    page: str, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = line.split()
    options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    verbs = words[0].split("|")
    group = verbs if verbs in (["algorithms"], ["models"], ["trace"], ["edge"], ["user"], ["device"]) else []
    for verb in words[1].split("|") if group else verbs:
        monkeypatch.setattr("sys.argv", ["heliograph", *group, verb, "--help"])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr().out
        assert not ended.value.code, f"{page}: {line}"
        known = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", printed))
        assert options <= known, f"{page}: {line}: {verb} takes {sorted(known)}"


def test_each_test_that_the_page_about_security_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text()))
    defined = {name for file in (ROOT / "tests").rglob("test_*.py")
               for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)}  # fmt: skip
    assert len(named) > 30 and named <= defined, named - defined


def test_each_target_that_a_page_names_is_one_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        if page.name != "CHANGELOG.md":
            named = set(re.findall(r"(?:^ {4}|`)make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE))
            assert named <= targets, page.name


def test_the_scenario_of_the_page_is_valid() -> None:
    text = (ROOT / "docs" / "simulations.md").read_text()
    block = text.split("## The file\n")[1].split("\n|")[0]
    assert parse_scenario(yaml.safe_load(block)).name == "flaky"


def test_the_hooks_run_the_checks_of_make_check_and_download_nothing() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [each["repo"] for each in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    check = (ROOT / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0]
    tools = re.findall(r"^\t\$\(BIN\)/(.+)$", check, re.MULTILINE)
    assert len(tools) == len(hooks)
    for tool, hook in zip(tools, hooks, strict=True):
        assert hook["entry"].removeprefix(".venv/bin/").split(" --force-exclude")[0] in tool
