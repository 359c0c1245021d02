"""Label selectors in Kubernetes' syntax."""

from __future__ import annotations

import pytest

from heliograph.core.errors import Refused
from heliograph.core.selector import MAX_LENGTH, Selector

LABELS = {"site": "berlin", "tier": "a", "edgeai.io/line": "4", "empty": ""}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("  ", True),
        ("site", True),
        ("shift", False),
        ("!shift", True),
        ("! site", False),
        ("site=berlin", True),
        ("site == berlin", True),
        ("site=paris", False),
        ("site!=paris", True),
        ("site!=berlin", False),
        ("shift!=night", True),
        ("shift=night", False),
        ("tier in (a, b)", True),
        ("tier in (b)", False),
        ("tier notin (b,c)", True),
        ("tier notin (a)", False),
        ("shift notin (a)", True),
        ("shift in (a)", False),
        ("edgeai.io/line=4", True),
        ("empty=", True),
        ("site=", False),
        ("empty in (,x)", True),
        ("site=berlin,tier in (a,b),!shift", True),
        ("site=berlin,tier in (c)", False),
        ("in=x", False),
    ],
)
def test_a_selector_holds_as_in_kubernetes(text: str, holds: bool) -> None:
    assert Selector.parse(text).matches(LABELS) is holds


@pytest.mark.parametrize(
    ("text", "got"),
    [
        (",", "',' at character 1"),
        ("site=berlin,", "the end at character 13"),
        ("site berlin", "'berlin' at character 6"),
        ("site=a=b", "'=' at character 7"),
        ("=berlin", "'=' at character 1"),
        ("!", "the end at character 2"),
        ("!site=a", "'=' at character 6"),
        ("tier in", "the end at character 8"),
        ("tier in a", "'a' at character 9"),
        ("tier in (a", "the end at character 11"),
        ("tier in (a b)", "'b' at character 12"),
        ("tier>3", "'>' at character 5"),
        ("tier='a'", "''' at character 6"),
        ("site=münchen", "'ü' at character 7"),
        ("a" * (MAX_LENGTH + 1), f"{MAX_LENGTH + 1}"),
    ],
)
def test_a_selector_that_does_not_parse_is_refused_with_the_place(text: str, got: str) -> None:
    with pytest.raises(Refused) as refused:
        Selector.parse(text)
    assert (refused.value.code, refused.value.field, refused.value.got) == ("bad-selector", "selector", got)
