"""Who is held out: by the hash of the sample's id, for ever, on every node."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.core.errors import Refused
from heliograph.core.membership import EvaluationSet, HeldOut, part_of

IDS = [hashlib.sha256(f"sample {number}".encode()).hexdigest() for number in range(10_000)]


def test_a_part_is_the_same_in_every_version() -> None:
    assert [part_of(each) for each in ("", "a", "sample-1", "Ä")] == [92, 66, 92, 54]
    assert part_of("sample-1", "2026") == 87


@settings(max_examples=20)
@given(st.text(max_size=40), st.text(max_size=10))
def test_a_part_is_one_of_a_hundred(sample: str, salt: str) -> None:
    assert 0 <= part_of(sample, salt) < 100


def test_each_part_has_its_share_and_no_part_is_the_newest_tail() -> None:
    rule = HeldOut(20)
    held_out = [each in rule for each in IDS]
    assert sum(held_out) == pytest.approx(2000, abs=150)
    assert sum(held_out[-1000:]) == pytest.approx(200, abs=45)
    train, test = rule.split(IDS)
    assert sorted(train + test) == sorted(IDS)
    assert not set(train) & set(test)


def test_a_sample_stays_on_its_side_whatever_is_appended_shuffled_or_removed() -> None:
    before = set(HeldOut(20).split(IDS[:5000])[1])
    shuffled = random.Random(1).sample(IDS, len(IDS))
    after = set(HeldOut(20).split(shuffled)[1])
    assert before == after.intersection(IDS[:5000])


def test_a_larger_share_holds_out_all_of_a_smaller_one_and_another_salt_divides_anew() -> None:
    ten, twenty, other = (set(rule.split(IDS)[1]) for rule in (HeldOut(10), HeldOut(20), HeldOut(10, "2026")))
    assert ten < twenty
    assert len(ten & other) == pytest.approx(100, abs=40)


def test_a_version_names_the_members_and_the_rule_in_any_order() -> None:
    rule = HeldOut(10)
    first = EvaluationSet.of(rule, IDS[:1000])
    assert first == EvaluationSet.of(rule, reversed(IDS[:1000]))
    assert first.count == len(rule.split(IDS[:1000])[1])
    appended = EvaluationSet.of(rule, IDS[:2000], first.version)
    assert appended.version != first.version and appended.parent == first.version
    without_members = [each for each in IDS[1000:1100] if each not in rule]
    assert EvaluationSet.of(rule, [*IDS[:1000], *without_members]).version == first.version
    assert EvaluationSet.of(HeldOut(11), IDS[:1000]).version != first.version
    assert EvaluationSet.of(HeldOut(10, "2026"), IDS[:1000]).version != first.version


@pytest.mark.parametrize("percent", [0, 100, -1, 1.5, True])
def test_a_share_that_holds_out_none_or_all_is_refused(percent: int) -> None:
    with pytest.raises(Refused) as refused:
        HeldOut(percent)
    assert (refused.value.field, refused.value.got) == ("percent", str(percent))


@pytest.mark.parametrize("salt", ["x" * 65, "a\0b"])
def test_a_salt_is_short_text(salt: str) -> None:
    with pytest.raises(Refused, match="salt"):
        HeldOut(10, salt)


def test_a_sample_that_is_there_twice_or_a_set_without_members_is_refused() -> None:
    member = next(each for each in IDS if each in HeldOut(10))
    with pytest.raises(Refused) as refused:
        EvaluationSet.of(HeldOut(10), [*IDS, member])
    assert (refused.value.code, refused.value.got) == ("twice", member)
    with pytest.raises(Refused) as refused:
        EvaluationSet.of(HeldOut(10), [])
    assert refused.value.code == "no-samples"
