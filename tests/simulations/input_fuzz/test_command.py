"""The fuzzer finds planted faults, makes their inputs small, and replays them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.simulations.input_fuzz import __main__ as command
from heliograph.simulations.input_fuzz import messages
from heliograph.simulations.input_fuzz.finding import Finding
from heliograph.simulations.input_fuzz.live import batch_of
from heliograph.simulations.input_fuzz.minimise import minimise
from heliograph.simulations.input_fuzz.sandbox import Sandbox


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("raise", "LookupError in"), ("exit", "ends the process"), ("allocate", "MemoryError in"),
        ("hang", "_TooSlow in"),
    ],
)  # fmt: skip
def test_each_kind_of_fault_is_found_and_made_small(word: str, kind: str) -> None:
    with Sandbox() as sandbox:
        assert sandbox.read("self-test", b"nothing").accepted
        assert sandbox.read("self-test", b"refuse") == sandbox.read("self-test", b"refuse again")
        data = f"some bytes, {word}, and more".encode()
        fault = sandbox.read("self-test", data).fault
        assert fault is not None and kind in fault.kind
        if word == "raise":  # after each of the others another child has to start
            assert Finding("self-test", fault, data).minimised(sandbox).data == word.encode()
        assert sandbox.read("self-test", b"nothing").accepted  # another child took over


def test_a_fault_is_written_with_its_command_and_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "self-test.one.bin"
    file.write_bytes(b"raise")
    assert command.main(["--replay", str(file)]) == 1
    assert f"--replay {file}" in capsys.readouterr().out
    file.write_bytes(b"nothing")
    assert command.main(["--replay", str(file)]) == 0
    assert command.main(["--target", "address", "--seconds", "0.2", "--out", str(tmp_path)]) == 0
    assert "address: " in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--target", "nothing"], ["--replay", "nothing.bin"], ["--replay", "nothing.json"]])
def test_wrong_words_are_one_line_on_stderr(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=6), st.integers(0, 200))
def test_minimising_keeps_what_fails_and_little_else(around: bytes, needle: bytes, at: int) -> None:
    data = around[:at] + needle + around[at:]
    found = minimise(data, lambda each: needle in each, most=10_000)
    assert found == needle


def test_batches_of_messages_are_the_same_everywhere_and_outlive_a_file(tmp_path: Path) -> None:
    batch = batch_of(7, 3)
    assert batch == batch_of(7, 3) != batch_of(7, 4)
    assert {each.where for each in batch} == {"door", "node", "edge", "raw-door", "raw-node"}
    assert messages.read(messages.write(batch, tmp_path / "batch.json")) == batch
