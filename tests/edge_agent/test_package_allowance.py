"""Which packages may run on a node: what its operator listed or signed, and nothing that a message says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.package_signature import PAYLOAD_TYPE, PREDICATE, STATEMENT, sign_package
from heliograph.core.signing import Signer
from heliograph.core.world import World
from heliograph.edge_agent.package_allowance import LOOK, Allowance, AllowedPackages
from tests.packed import packed, spec_of

PACKAGE = packed()
OTHER = packed({"train.py": b"print('another')"})


@pytest.fixture(scope="module")
def operator() -> Signer:
    return Signer.made(World())


@pytest.fixture(scope="module")
def stranger() -> Signer:
    return Signer.made(World())


def test_nothing_is_allowed_at_first() -> None:
    found = Allowance().refusal(spec_of(PACKAGE))
    assert found is not None
    assert not found.final
    assert f"{PACKAGE.digest} is not listed" in found.reason
    assert "--allow-package" in found.reason
    assert "algorithm digits" in found.reason


def test_a_listed_digest_runs_and_no_other() -> None:
    allowed = Allowance(frozenset([PACKAGE.digest]))
    assert allowed.refusal(spec_of(PACKAGE)) is None
    assert allowed.refusal(spec_of(OTHER)) is not None


def test_a_package_that_the_operator_signed_runs(operator: Signer, stranger: Signer) -> None:
    allowed = Allowance(keys={operator.key_id: operator.public_key})
    signed = sign_package(operator, "digits", PACKAGE.digest)
    assert allowed.refusal(spec_of(PACKAGE, signature=signed)) is None
    unsigned = allowed.refusal(spec_of(PACKAGE))
    by_another = allowed.refusal(spec_of(PACKAGE, signature=sign_package(stranger, "digits", PACKAGE.digest)))
    assert unsigned is not None
    assert "it is not signed" in unsigned.reason
    assert by_another is not None
    assert "no key that this node trusts" in by_another.reason
    assert not by_another.final  # the operator may list the digest


def _statement(**changes: Any) -> bytes:
    subject = [{"name": "digits", "digest": {"sha256": PACKAGE.digest}}]
    tree = {"_type": STATEMENT, "subject": subject, "predicateType": PREDICATE, "predicate": {}}
    return json.dumps(tree | changes).encode()


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (_statement(subject=[{"digest": {"sha256": OTHER.digest}}]), "a statement about package"),
        (_statement(predicateType="https://model_signing/signature/v1.0"), PREDICATE),  # the signature of a model
        (_statement(_type="https://in-toto.io/Statement/v0.1"), PREDICATE),
        (_statement(subject=[]), "got none"),
        (_statement(subject="all"), "in-toto statement"),
        (b"[" * 5000, "in-toto statement"),
        (b"", "in-toto statement"),
    ],
)
def test_a_signature_for_another_thing_is_refused_although_the_digest_is_listed(
    operator: Signer, payload: bytes, what: str
) -> None:
    allowed = Allowance(frozenset([PACKAGE.digest]), {operator.key_id: operator.public_key})
    found = allowed.refusal(spec_of(PACKAGE, signature=operator.sign(PAYLOAD_TYPE, payload)))
    assert found is not None
    assert found.final
    assert what in found.reason


def test_a_signature_made_up_in_the_name_of_a_trusted_key_is_refused(operator: Signer, stranger: Signer) -> None:
    allowed = Allowance(frozenset([PACKAGE.digest]), {operator.key_id: operator.public_key})
    forged = sign_package(stranger, "digits", PACKAGE.digest).model_dump(mode="json")
    forged["signatures"][0]["keyid"] = operator.key_id
    found = allowed.refusal(spec_of(PACKAGE, signature=forged))
    assert found is not None
    assert found.final
    assert "bad signature" in found.reason
    other_kind = operator.sign("text/plain", _statement())
    assert allowed.refusal(spec_of(PACKAGE, signature=other_kind)) is not None


def test_the_file_is_read_again_when_it_changes(on_node: Any, tmp_path: Path, logged: list[str]) -> None:
    file = tmp_path / "allowed"
    file.write_text(f"# reviewed on Monday\n{PACKAGE.digest}  # digits\n\n")

    async def test(node: Any) -> None:
        changes: list[int] = []
        allowed = AllowedPackages([OTHER.digest], file, {}, node.world, logged.append)
        watching = node.start(allowed.watch(lambda: changes.append(1)))
        assert allowed.now.digests == {PACKAGE.digest, OTHER.digest}
        file.write_text("")
        await node.world.sleep(1.5 * LOOK)
        assert allowed.now.digests == {OTHER.digest}
        await node.world.sleep(2 * LOOK)
        file.write_text(f"{PACKAGE.digest}\nnonsense\n{'g' * 64}\n")
        await node.world.sleep(LOOK)
        assert allowed.now.digests == {PACKAGE.digest, OTHER.digest}
        file.unlink()
        await node.world.sleep(LOOK)
        assert allowed.now.digests == {OTHER.digest}
        assert len(changes) == 3
        watching.cancel()

    on_node(test)
    assert [line.removeprefix(str(file)) for line in logged] == [
        ":2: expected a SHA-256 in 64 hexadecimal digits; this line allows nothing",
        ": No such file or directory; it allows no package",
    ]


def test_a_file_that_cannot_be_read_allows_nothing(tmp_path: Path, logged: list[str]) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\0" * 100)
    (tmp_path / "large").write_bytes(b"0" * (1 << 20) + PACKAGE.digest.encode())
    for name in ("absent", "binary", "large", "."):
        assert AllowedPackages([], tmp_path / name, {}, World(), logged.append).now.digests == frozenset()
    assert len(logged) == 4
