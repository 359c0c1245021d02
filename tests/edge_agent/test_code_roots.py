"""The code that a document names: below one root, wherever its links lead, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.payloads import ScriptSpec
from heliograph.edge_agent.code_roots import Code, CodeRoot, locate


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A root with a script and a package; beside it a directory that no document may reach."""
    root = tmp_path / "code"
    (root / "package").mkdir(parents=True)
    (root / "main.py").write_text("")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "planted").write_bytes(b"PK")
    (root / "link.py").symlink_to(tmp_path / "models" / "planted")
    (root / "link").symlink_to(tmp_path / "models")
    (root / "circle").symlink_to(root / "circle")
    return root.resolve()


def _named(boot_file: str, directory: str = "") -> ScriptSpec:
    return ScriptSpec.model_construct(boot_file=boot_file, directory=directory)


def _code(boot_file: Path, directory: Path | None) -> Code:
    """Return code that works where it imports from."""
    return Code(boot_file, directory, directory)


def test_a_script_imports_from_its_own_directory_or_from_a_named_one(code: Path) -> None:
    roots = (CodeRoot.parse(str(code)),)
    assert locate(_named("main.py"), roots) == _code(code / "main.py", code)
    assert locate(_named("main.py", "package"), roots) == _code(code / "main.py", code / "package")
    assert locate(_named("main.py", "."), roots) == _code(code / "main.py", code)
    assert locate(_named(str(code / "main.py"), str(code / "package")), roots) == _code(
        code / "main.py", code / "package"
    )


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../up.py", "package/../main.py", "link.py", "link/planted", "circle/x", "a\0b", "\ud83d"]
)
def test_a_path_that_leaves_the_root_names_no_code(code: Path, name: str) -> None:
    roots = (CodeRoot.parse(str(code)),)
    assert locate(_named(name), roots) is None
    assert locate(_named("main.py", name), roots) == _code(code / "main.py", None)


def test_a_root_may_be_called_by_another_path(code: Path) -> None:
    roots = (CodeRoot.parse(f"/code={code}"),)
    assert locate(_named("/code/main.py", "/code/package"), roots) == _code(code / "main.py", code / "package")
    assert locate(_named("/code/../main.py"), roots) is None
    assert locate(_named(str(code / "main.py")), roots) is None


def test_the_agents_state_is_no_code_although_it_lies_below_a_root(code: Path) -> None:
    root = replace(CodeRoot.parse(str(code)), state=code / "package")
    assert root.below("main.py") == code / "main.py"
    assert root.below("package") is None
    assert root.below("package/models/planted") is None
    assert root.below("packages") == code / "packages"


def test_script_and_directory_lie_below_the_same_root(code: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    one, two = CodeRoot.parse(f"/one={code}"), CodeRoot.parse(f"/two={other}")
    assert locate(_named("/one/main.py", "/two"), (one, two)) == _code(code / "main.py", None)
    assert locate(_named("/two/main.py", "/two"), (one, two)) == _code(other / "main.py", other)
    assert locate(_named("main.py", "/two"), (one, two)) == _code(other / "main.py", other)


def test_code_that_is_here_is_found_below_any_root(code: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "data").mkdir(parents=True)
    (other / "second.py").write_text("")
    roots = (CodeRoot.parse(str(code)), CodeRoot.parse(str(other)))
    assert locate(_named("second.py"), roots) == _code(other / "second.py", other)
    assert locate(_named("main.py"), roots) == _code(code / "main.py", code)
    assert locate(_named("third.py"), roots) == _code(code / "third.py", code)  # in neither
    named = ScriptSpec(boot_file="main.py", working_directory="data")  # in the other root
    assert locate(named, roots) == Code(code / "main.py", code, other / "data")


_WORDS = st.sampled_from(["..", ".", "", "package", "link", "link.py", "main.py", "planted", "models", "\0", "~"])


@given(st.lists(_WORDS, max_size=6), st.booleans(), st.booleans())
def test_whatever_a_document_names_lies_below_the_root(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], absolute: bool, prefixed: bool
) -> None:
    base = tmp_path_factory.getbasetemp() / "whatever"
    root = base / "code"
    if not root.exists():
        (root / "package").mkdir(parents=True)
        (base / "models").mkdir()
        (root / "link").symlink_to(base / "models")
    name = "/" * absolute + ("code/" if prefixed else "") + "/".join(words)
    found = CodeRoot(Path("/code"), root.resolve()).below(name)
    assert found is None or found == root.resolve() or root.resolve() in found.parents
