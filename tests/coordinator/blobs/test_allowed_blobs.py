"""An edge may fetch what its desired document names, and its jobs' newest models: nothing else."""

from __future__ import annotations

from heliograph.bus.contract.payloads import Desired, Generation, PackageSpec, TrainTask
from heliograph.bus.contract.resources import DatasetSpec, WeightsRef
from heliograph.bus.contract.resources.dataset import DatasetContent
from heliograph.coordinator.blobs.allowed_blobs import MAX_AHEAD, AllowedBlobs


def _digest(letter: str) -> str:
    return letter * 64


def _desired(edge: str, *letters: str) -> Desired:
    ref, package, down, content = (_digest(letter) for letter in letters)
    task = TrainTask(worker="w", job="job", job_uid="u", round=1, model=WeightsRef(digest=ref, size=1, bucket="models"),
                     down=WeightsRef(digest=down, size=1, bucket="models"),
                     package=PackageSpec(algorithm="p", digest=package, size=1))  # fmt: skip
    data = DatasetSpec(content=DatasetContent(file="x.csv", digest=content, size=1, bucket="datasets"))
    return Desired(edge=edge, generation=Generation(), tasks=[task], datasets={"d": data})


def test_an_edge_may_fetch_what_its_document_names_and_no_other_edge_may() -> None:
    documents = {"edge-1": _desired("edge-1", "a", "b", "c", "d"), "edge-2": _desired("edge-2", "e", "b", "f", "0")}
    allowed = AllowedBlobs(documents.get)
    found = {edge: {letter for letter in "abcdef01" if allowed.may_fetch(edge, _digest(letter))}
             for edge in ("edge-1", "edge-2", "edge-3")}  # fmt: skip
    assert found == {"edge-1": set("abcd"), "edge-2": set("ebf0"), "edge-3": set()}
    assert (allowed.may_fetch("edge-2", _digest("a")), allowed.may_fetch("edge-3", _digest("a"))) == (False, None)


def test_it_follows_the_newest_document() -> None:
    documents = {"edge-1": _desired("edge-1", "a", "b", "c", "d")}
    allowed = AllowedBlobs(documents.get)
    assert allowed.may_fetch("edge-1", _digest("a")) and not allowed.may_fetch("edge-1", _digest("e"))
    documents["edge-1"] = _desired("edge-1", "e", "b", "c", "d")
    assert allowed.may_fetch("edge-1", _digest("e")) and not allowed.may_fetch("edge-1", _digest("a"))


def test_a_closed_rounds_model_may_be_fetched_before_the_document_names_it_and_only_the_newest() -> None:
    allowed = AllowedBlobs(lambda edge: _desired(edge, "0", "0", "0", "0"))
    allowed.let_fetch("edge-1", "job", _digest("a"))
    allowed.let_fetch("edge-1", "other", _digest("b"))
    assert allowed.may_fetch("edge-1", _digest("a")) and not allowed.may_fetch("edge-2", _digest("a"))
    allowed.let_fetch("edge-1", "job", _digest("c"))
    assert [allowed.may_fetch("edge-1", _digest(each)) for each in "abc"] == [False, True, True]
    allowed.forget("edge-1")
    assert not allowed.may_fetch("edge-1", _digest("c"))


def test_what_is_remembered_of_an_edge_is_bounded() -> None:
    allowed = AllowedBlobs(lambda edge: None)
    for number in range(3 * MAX_AHEAD):
        allowed.let_fetch("edge-1", str(number), f"{number:064x}")
    known = [number for number in range(3 * MAX_AHEAD) if allowed.may_fetch("edge-1", f"{number:064x}")]
    assert known == list(range(2 * MAX_AHEAD, 3 * MAX_AHEAD))
