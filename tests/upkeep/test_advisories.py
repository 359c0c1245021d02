"""`make advisories` against a service of this test on loopback, whose documents have the form of OSV's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from upkeep.advisories import ROOT, main, pinned
from upkeep.osv import advisories

DOCUMENTS: dict[str, dict[str, Any]] = {
    "GHSA-1": {
        "id": "GHSA-1", "aliases": ["CVE-1"], "summary": "Reads too much",
        "affected": [
            {"package": {"name": "Left_Pad", "ecosystem": "PyPI"},
             "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]},
                        {"type": "GIT", "events": [{"introduced": "0"}, {"fixed": "c0ffee"}]}]},
            {"package": {"name": "other", "ecosystem": "PyPI"},
             "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "9"}]}]},
        ],
    },
    "PYSEC-1": {"id": "PYSEC-1", "aliases": ["CVE-1", "GHSA-1"], "details": "The same\nand more", "affected": []},
    "GHSA-2": {"id": "GHSA-2", "affected": [{"package": {"name": "left-pad", "ecosystem": "PyPI"}}]},
    "GHSA-3": {"id": "GHSA-3", "withdrawn": "2026-01-01T00:00:00Z"},
}  # fmt: skip
CONCERNED = {("left-pad", "1.0"): [["GHSA-1", "GHSA-3"], ["PYSEC-1"]], ("right-pad", "2.0"): []}
"""Pages of ids by pin."""


class Osv(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        self._answer({"results": [self._result(**query) for query in queries]})

    def do_GET(self) -> None:
        self._answer(DOCUMENTS[self.path.removeprefix("/v1/vulns/")])

    def log_message(self, format: str, *args: object) -> None:
        pass

    @staticmethod
    def _result(package: dict[str, str], version: str, page_token: str = "0") -> dict[str, Any]:
        pages, page = CONCERNED.get((package["name"], version), []), int(page_token)
        if not pages:
            return {}
        more = {"next_page_token": str(page + 1)} if page + 1 < len(pages) else {}
        return {"vulns": [{"id": each, "modified": ""} for each in pages[page]], **more}

    def _answer(self, document: object) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())


@pytest.fixture
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Osv)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "constraints.txt").write_text("# pins\nLeft_Pad==1.0\nright-pad==2.0\n")
    (tmp_path / "advisories.toml").write_text("")
    return tmp_path


def accept(root: Path, name: str, until: str, package: str = "left_pad") -> None:
    with (root / "advisories.toml").open("a") as file:
        file.write(f'[[accepted]]\nid = "{name}"\npackage = "{package}"\nwhy = "never called"\nuntil = {until}\n')


def test_an_advisory_of_several_databases_is_found_once_and_a_withdrawn_one_never(service: str) -> None:
    [found] = advisories({"left-pad": "1.0", "right-pad": "2.0"}, service)
    assert (found.package, found.version, found.fixed) == ("left-pad", "1.0", ("1.1",))
    assert set(found.names) == {"GHSA-1", "PYSEC-1", "CVE-1"}
    assert found.summary == "Reads too much"


def test_an_advisory_is_printed_and_fails(service: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(root), "--service", service]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first == "left-pad 1.0 | GHSA-1 CVE-1 PYSEC-1 | fixed in 1.1 | Reads too much"
    assert last == "2 pinned versions, 1 advisories"


def test_an_accepted_one_is_printed_and_does_not_fail(
    service: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accept(root, "CVE-1", "9999-12-31")
    assert main(["--root", str(root), "--service", service]) == 0
    assert "(accepted until 9999-12-31: never called)" in capsys.readouterr().out


def test_an_entry_past_its_day_or_of_another_package_accepts_nothing(
    service: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accept(root, "CVE-1", "2020-01-01")
    accept(root, "GHSA-1", "9999-12-31", package="right-pad")
    assert main(["--root", str(root), "--service", service]) == 1
    assert "no pin needs the entry GHSA-1 of right-pad" in capsys.readouterr().out


def test_with_a_base_only_what_it_does_not_pin_fails(
    service: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@t")
        subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "old")
    words = ["--root", str(root), "--service", service, "--base"]
    assert main([*words, "HEAD"]) == 0
    assert "(pinned since before HEAD)" in capsys.readouterr().out
    assert main([*words, "HEAD^"]) == 0
    assert "the history lacks HEAD^" in capsys.readouterr().out
    (root / "constraints.txt").write_text("left-pad==0.9\n")
    git("commit", "-a", "-m", "older")
    (root / "constraints.txt").write_text("left-pad==1.0\n")
    assert main([*words, "HEAD"]) == 1


def test_a_service_that_gives_no_answer_fails_nothing(
    service: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(root), "--service", "http://127.0.0.1:1"]) == 0
    (root / "constraints.txt").write_text("left-pad==1.0\n")
    broken = {**DOCUMENTS, "GHSA-1": [1]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "DOCUMENTS", broken)
        assert main(["--root", str(root), "--service", service]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("no advisory was compared: http://127.0.0.1:1: ")
    assert second.endswith("expected an object, got list")


@pytest.mark.parametrize("text", ['[[accepted]]\nid = "A"\n', "accepted = 1\n", "other = 1\n", "["])
def test_a_file_of_accepted_ones_that_cannot_be_read_is_refused(text: str, root: Path) -> None:
    (root / "advisories.toml").write_text(text)
    with pytest.raises(SystemExit, match="2"):
        main(["--root", str(root)])


def test_each_line_of_the_constraints_is_asked_about() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert len(pinned(text)) == text.count("==")
