"""What users call their data: each file is split as it is, and what an agent refuses is refused before a cluster."""

from __future__ import annotations

import asyncio
import csv
import gzip
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.edge_agent.datasets import csv_file, index
from heliograph.edge_agent.datasets.csv_look import look
from heliograph.local.split import Split
from tests.cli.conftest import CommandLine, Ran
from tests.field.splitting import EDGES, parts_of, refusal_of
from tests.patience import HANGS

# row 8: the files that were brought


@pytest.mark.parametrize(
    ("name", "encoding", "above", "found"),
    [
        ("iris.csv", "utf-8", 1, "iris.csv: 150 rows, 5 columns named by the first line"),
        ("iris.csv.gz", "utf-8", 1, "150 rows"),
        ("iris.zip", "utf-8", 1, "150 rows"),
        ("iris_semicolon.csv", "utf-8", 1, "fields separated by ';'"),
        ("iris_semicolon_decimalcomma.csv", "utf-8", 1, "decimal commas"),
        ("iris_tab.csv", "utf-8", 1, "fields separated by tabs"),
        ("iris_utf16.csv", "utf-16", 1, "UTF-16"),
        ("iris_latin1.csv", "latin-1", 1, "Latin-1"),
        ("iris_dupnames.csv", "utf-8", 1, "9 columns"),
        ("iris_noheader.csv", "utf-8", 0, "without a header: 0, …, 4; if the first line names them, say --header yes"),
        ("cats.csv", "utf-8", 1, "3 columns"),
        ("trailing.csv", "utf-8", 1, "40 rows"),
        ("comment.csv", "utf-8", 2, "40 rows"),
        ("empty_rows.csv", "utf-8", 1, "1 of 5 labels are missing"),
    ],
)
def test_each_csv_is_split_as_it_is(
    files: Path, tmp_path: Path, name: str, encoding: str, above: int, found: str
) -> None:
    edges = EDGES[:2] if name == "empty_rows.csv" else EDGES  # it has five rows
    parts = parts_of(files / name, tmp_path, edges=edges)
    assert any(found in sentence for sentence in parts.found)
    whole = lines_of(files / name, encoding)
    written = [lines_of(file, encoding) for file in parts.files.values()]
    assert all(lines[:above] == whole[:above] for lines in written)
    rows = [line for lines in written for line in lines[above:]]
    assert Counter(rows) == Counter(line for line in whole[above:] if line.strip())


def lines_of(path: Path, encoding: str) -> list[str]:
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            data = archive.read("iris.csv")
    return data.decode(encoding).splitlines()


def test_quoted_line_ends_stay_in_their_rows(files: Path, tmp_path: Path) -> None:
    parts = parts_of(files / "quoted.csv", tmp_path, Split(0.5))
    rows = [row for file in parts.files.values() for row in rows_of(file)]
    assert Counter(rows) == Counter(rows_of(files / "quoted.csv"))
    assert len(rows) == 40


def rows_of(path: Path) -> list[tuple[str, ...]]:
    with path.open(newline="") as file:
        return [tuple(row) for row in csv.reader(file)][1:]


@pytest.mark.parametrize("name", ["blank.csv", "header_only.csv", "nulls.csv"])
def test_what_an_agent_refuses_is_refused_with_its_sentence(files: Path, tmp_path: Path, name: str) -> None:
    assert refusal_of(files / name, tmp_path) == index("d", files / name).error


def test_run_refuses_before_a_cluster_starts(
    files: Path, tmp_path: Path, typed: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").touch()
    nulls, iris = files / "nulls.csv", files / "iris.csv"
    for words, expected in (
        (("--data", nulls), f"error: {nulls} has a null character in line 2"),
        (("--data", iris, "--test", nulls), f"error: {nulls} has a null character in line 2"),
        (("--data", iris, "--split", "by-column:user"), "field --split by-column: expected one of sepal"),
        (("--data", iris, "--split", "dirichlet:1", "--label", "0"), "got numbers with fractions, such as 4.3"),
        (("--label", "y"), "field --label: expected --data with it"),
        (("--data", "train.py"), "train.py is empty"),
    ):
        ran = typed("run", "train.py", "--edges", "2", *words)
        assert ran.code == 1
        assert expected in ran.err
        assert ran.err.count("\n") == 1
        assert "starting" not in ran.out


async def test_a_csv_without_a_header_is_trained_on(files: Path, tmp_path: Path, alone: CommandLine) -> None:
    """One whole run: the agents are told about the header, and the test has its share of each species."""
    (tmp_path / "train.py").write_text("""
import csv
import numpy as np
from heliograph import FederatedLearning, dataset
rows = list(csv.reader(open(dataset())))
x = np.array([row[:4] for row in rows], np.float32)
species = sorted({row[4] for row in rows})
model = {"mean": np.zeros(4, np.float32)}
def measure(): return {"species": len(species), "error": float(abs(model["mean"] - x.mean(0)).sum())}
for r in FederatedLearning(model, num_samples=len(rows), evaluate=measure).rounds():
    model["mean"][:] = x.mean(0)
""")
    words = ("--data", files / "iris_noheader.csv", "--header", "no", "--label", "-1", "--test", "0.2")
    async with asyncio.timeout(HANGS):
        ran = await alone.apart("run", tmp_path / "train.py", "--edges", "2", "--rounds", "1", *words,
                          "--split", "by-label:2", "--out", tmp_path / "model.safetensors",
                          "--folder", tmp_path / "run", "--plain")  # fmt: skip
    assert ran.code == 0, ran.out + ran.err
    assert "iris_noheader.csv: 150 rows, 5 columns without a header" in ran.out
    assert "species=3" in ran.out


# relatives: what a csv looks like


@pytest.mark.parametrize(
    ("text", "names", "rows", "delimiter"),
    [
        ("5,1;3,5;0\n4,9;3,0;1\n", ["0", "1", "2"], 2, ";"),
        ("1 2 3\n 4  5 6 \n", ["0", "1", "2"], 2, " "),
        ("a|b\n1|x\n2|y\n", ["a", "b"], 2, "|"),
        (",a,b\n0,1,2\n1,3,4\n", ["", "a", "b"], 2, ","),
        ('"a","b"\n"r1",1,x\n"r2",2,y\n', ["", "a", "b"], 2, ","),
        ("0,1,2,3\n.5,.5,.5,.5\n.1,.2,.3,.4\n", ["0", "1", "2", "3"], 2, ","),
        ("city,mood\nrome,good\nbonn,bad\n", ["city", "mood"], 2, ","),
        ("rome,good\nbonn,bad\nrome,bad\n", ["0", "1"], 3, ","),
        ("# x,y\n1,2\n# note\n3,4\n", ["x", "y"], 2, ","),
        ("text\nhello, world\nfoo\nbar\nbaz\nboo\n", [], 0, ","),
        ("a,b\r1,2\r3,4\r", ["a", "b"], 2, ","),
        ("\n\na,b\n\n1,2\n   \n3,4\n\n", ["a", "b"], 2, ","),
        ("label,text\n1,one; two\n0,three; four\n", ["label", "text"], 2, ","),
        ("when,v\n2020-01-01 00:00:00,5\n2020-01-02 00:00:00,6\n", ["when", "v"], 2, ","),
        ("a, b\n1, \"x, y\"\n2, z\n", ["a", "b"], 2, ","),
        ("y\n1\n0\n", ["y"], 2, ","),
    ],
)
def test_the_form_of_a_csv_is_told_by_looking(
    tmp_path: Path, text: str, names: list[str], rows: int, delimiter: str
) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode())
    found = index("d", path)
    if not names:
        assert "2 fields in line 2, expected 1" in found.error
        return
    assert (list(found.columns), found.samples, found.error) == (names, rows, "")
    assert look(text.encode(), "utf-8", b"", None, True).delimiter == delimiter


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 99), st.text(st.sampled_from('ab,"\n\r;é '), max_size=5)), min_size=6, max_size=30
    ),
    block=st.integers(1, 40),
    quoting=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]),
)
@settings(max_examples=40, deadline=None)
def test_rows_are_whole_wherever_a_block_ends(
    tmp_path_factory: Any, rows: list[tuple[int, str]], block: int, quoting: bool, encoding: str
) -> None:
    directory = tmp_path_factory.mktemp("blocks")
    path = directory / "x.csv"
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL if quoting else csv.QUOTE_MINIMAL)
        writer.writerows([("number", "text"), *rows])
    before = csv_file.BLOCK
    csv_file.BLOCK = block
    try:
        parts = parts_of(path, directory, header="yes")
    finally:
        csv_file.BLOCK = before
    read: list[list[str]] = []
    for part in parts.files.values():
        with part.open(newline="", encoding=encoding) as file:
            header, *some = csv.reader(file)
            assert header == ["number", "text"]
            read += some
    assert Counter(map(tuple, read)) == Counter((str(number), text) for number, text in rows)


def test_a_csv_of_many_columns_is_indexed_and_told_in_part(tmp_path: Path) -> None:
    path = tmp_path / "genes.csv"
    path.write_text(",".join(f"gene-{n}" for n in range(9_000)) + "\n" + (",".join(["1.5"] * 9_000) + "\n") * 7)
    found = index("d", path)
    assert (found.samples, found.error) == (7, "")
    assert found.columns["gene-0"] == "number"
    assert found.columns["…"].endswith(" more columns")
    assert sum(parts_of(path, tmp_path).samples.values()) == 7


def test_a_long_text_is_a_field(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("text,label\n" + "".join(f'"{"x" * 200_000}, {n}",{n % 2}\n' for n in range(6)))
    assert sum(parts_of(path, tmp_path).samples.values()) == 6


# relatives: labels, groups, tests


def write_users(path: Path, users: int = 7, rows: int = 200) -> Path:
    rng = np.random.default_rng(3)
    drawn = rng.integers(0, users, rows)
    path.write_text("user,x,label\n" + "".join(f"u{user},{n},{n % 4}\n" for n, user in enumerate(drawn)))
    return path


def test_all_rows_of_a_user_lie_on_one_edge(tmp_path: Path) -> None:
    path = write_users(tmp_path / "users.csv")
    parts = parts_of(path, tmp_path, Split.parse("by-column:user"), test=0.2)
    owners = [{line.split(",")[0] for line in file.read_text().splitlines()[1:]} for file in parts.files.values()]
    assert sum(map(len, owners)) == len(set().union(*owners)) == 7
    assert max(parts.samples.values()) < 2 * min(parts.samples.values())


@pytest.mark.parametrize(
    ("text", "split", "expected"),
    [
        ("user,x\nu1,1\nu2,2\nu1,3\nu2,4\nu1,5\nu2,6\n", "by-column:user", "at least 3 different values of user"),
        ("user,x\nu1,1\n,2\nu1,3\nu2,4\nu3,5\nu3,6\n", "by-column:user", "got 1 missing of 6"),
        ("x,y\n1,0\n2,\n3,1\n4,NA\n5,0\n6,1\n", "dirichlet:1", "got 2 missing of 6"),
        ("x,y\n" + "".join(f"{n},{n}.5\n" for n in range(9)), "by-label:2", "numbers with fractions, such as 0.5"),
        ("x,y\n" + "".join(f"{n},id{n}\n" for n in range(50)), "by-label:2", "50 different values in 50 samples"),
    ],
)
def test_labels_and_groups_that_do_not_fit_are_refused(tmp_path: Path, text: str, split: str, expected: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    assert expected in refusal_of(tmp_path / "x.csv", tmp_path, Split.parse(split))


def test_whole_numbers_may_be_written_with_a_point(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("x,y\n" + "".join(f"{n},{n % 2}{'.0' if n % 3 else ''}\n" for n in range(30)))
    parts = parts_of(tmp_path / "x.csv", tmp_path, Split(labels=1))
    for file in parts.files.values():
        assert len({float(line.split(",")[1]) for line in file.read_text().splitlines()[1:]}) == 1


def test_each_class_has_its_share_in_the_test(tmp_path: Path) -> None:
    y = np.repeat([0, 1, 2], [150, 40, 10])
    np.savez(tmp_path / "x.npz", x=np.arange(200.0), y=y)
    parts = parts_of(tmp_path / "x.npz", tmp_path, test=0.2)
    assert parts.test is not None
    with np.load(parts.test) as test:
        assert np.bincount(test["y"]).tolist() == [30, 8, 2]
