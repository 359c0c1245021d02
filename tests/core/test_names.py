"""Names of edges that are made from names of nodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.core.names import edge_of_node, is_label


def test_a_node_whose_name_is_a_label_keeps_it() -> None:
    assert edge_of_node("hall", "node-3") == "hall-node-3"


@pytest.mark.parametrize("node", ["node.3", "Node-3", "node_3", "-node-3", "node-3." + "a" * 60, "ö3"])
def test_another_name_gets_a_mark_so_that_two_nodes_have_two_names(node: str) -> None:
    name = edge_of_node("hall", node)
    assert is_label(name) and name.startswith("hall-") and name != edge_of_node("hall", "node-3")


@given(group=st.from_regex(r"[a-z0-9]([-a-z0-9]{0,43}[a-z0-9])?", fullmatch=True),
       nodes=st.lists(st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,200}[a-z0-9])?", fullmatch=True), min_size=2, max_size=2,
                      unique=True))  # fmt: skip
def test_each_node_of_kubernetes_has_a_name_of_its_own_in_its_group(group: str, nodes: list[str]) -> None:
    first, second = (edge_of_node(group, node) for node in nodes)
    assert first != second
    assert all(is_label(each) and each.startswith(f"{group}-") for each in (first, second))


@pytest.mark.parametrize(("group", "node"), [("hall", ""), ("hall", "..."), ("h" * 46, "node")])
def test_what_makes_no_name_is_refused(group: str, node: str) -> None:
    with pytest.raises(ValueError, match="expected the name of a node"):
        edge_of_node(group, node)
