"""JSONPath as kubectl has it: the examples of its documentation, and what it refuses."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.cli.printing.jsonpath import template
from heliograph.cli.printing.jsonpath_steps import path
from heliograph.core.errors import Refused

TREE: dict[str, Any] = {
    "kind": "List",
    "items": [
        {"kind": "None", "metadata": {"name": "127.0.0.1", "labels": {"kubernetes.io/hostname": "127.0.0.1"}},
         "status": {"capacity": {"cpu": 4}, "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.1"}]}},
        {"kind": "None", "metadata": {"name": "127.0.0.2"},
         "status": {"capacity": {"cpu": 8}, "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.2"},
                                                          {"type": "another", "address": "127.0.0.3"}]}},
    ],
    "users": [
        {"name": "myself", "user": {}},
        {"name": "e2e", "user": {"username": "admin", "password": "secret"}},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("kind is {.kind}", "kind is List"),
        ("{['kind']}", "List"),
        ("{.users[0].name}", "myself"),
        ("{.users[-1].name}", "e2e"),
        ("{..name}", "127.0.0.1 127.0.0.2 myself e2e"),
        ("{.items[*].metadata.name}", "127.0.0.1 127.0.0.2"),
        ("{.users[0:2].name}", "myself e2e"),
        ("{.users[::-1].name}", "e2e myself"),
        ("{.items[*]['metadata.name', 'status.capacity']}", '127.0.0.1 {"cpu":4} 127.0.0.2 {"cpu":8}'),
        ('{.users[?(@.name=="e2e")].user.password}', "secret"),
        ("{.items[?(@.status.capacity.cpu > 4)].metadata.name}", "127.0.0.2"),
        ("{.users[?(@.user.password)].name}", "e2e"),
        ("{.users[?(@.name != 'e2e')].name}", "myself"),
        ('{range .items[*]}[{.metadata.name}, {.status.capacity}] {end}',
         '[127.0.0.1, {"cpu":4}] [127.0.0.2, {"cpu":8}] '),
        (r'{range .items[*]}{.metadata.name}{"\t"}{end}', "127.0.0.1\t127.0.0.2\t"),
        (r"{.items[*].metadata.labels.kubernetes\.io/hostname}", "127.0.0.1"),
        (r"{.items[*].metadata.labels['kubernetes\.io/hostname']}", "127.0.0.1"),
        ("{range .items[*]}{range .status.addresses[*]}{.type}={.address};{end}{end}",
         "LegacyHostIP=127.0.0.1;LegacyHostIP=127.0.0.2;another=127.0.0.3;"),
        ("{.users[0,1].name}", "myself e2e"),
        ("{.missing}{.users[7].name}{.kind.name}", ""),
        ("{$.kind}", "List"),
        (".users[1].user.username", "admin"),
        ("users[1].name", "e2e"),
        ("{.users[0]}", '{"name":"myself","user":{}}'),
        ("{@.users[*].*}", 'myself {} e2e {"username":"admin","password":"secret"}'),
    ],
)  # fmt: skip
def test_a_template(text: str, result: str) -> None:
    assert template(text)(TREE) == result


@pytest.mark.parametrize(
    "text",
    ["{.a", "{range .a}", "{end}", "{.a[}", "{.a['b]}", "{.a[?(@.b ~ 1)]}", "{.a[?(@.b == c)]}", "{.a b}", "{.}.{.a.}",
     "{.a[x]}", "{.a[]}", "{.a[::0]}", "{'open}", "{" + "." * 5000 + "}", "{.a[?(@.b == 1 == 2)]}"],
)  # fmt: skip
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        template(text)
    assert refused.value.field == "JSONPath"


@given(st.text(alphabet="{}[]()?@$.*:,'\"\\ ab01=<>!~", max_size=30))
@hypothesis.settings(max_examples=300, deadline=None)
def test_any_text_is_a_template_or_refused(text: str) -> None:
    for read in (template, path):
        try:
            found = read(text)
        except Refused:
            continue
        if read is template:
            assert isinstance(found(TREE), str)  # type: ignore[operator]


def test_a_path_of_one_field() -> None:
    document = {"metadata": {"name": "a"}}
    for text in (".metadata.name", "metadata.name", "{.metadata.name}", "$.metadata.name"):
        assert path(text).of(document, document) == ["a"]
    with pytest.raises(Refused):
        path("")
