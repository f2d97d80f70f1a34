"""Two organisations that were told nothing of each other meet by the chain, and by a third."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from node.errors import KINDS

COMPUTE = """
[compute]
name = "lending-members"
description = "A member of committees \\u001b[31m"
[compute.terms]
operations = ["committee-member"]
counterparties = ["{other}"]
recipients = ["{other}"]
attesters = ["{other}"]
deciders = ["{other}"]
purposes = ["risk"]
valid_for_days = 30
uses = 2
"""


def knows(node: Any, name: str, other: Any, addresses: list[str]) -> None:
    """`node` is configured with the other organisation."""
    with node.config.open("a") as file:
        file.write(
            f'[[organisations]]\nname = "{name}"\naccount = "{other.account}"\n'
            f'peer_id = "{other.peer_id}"\naddresses = {addresses}\n'
        )


@pytest.fixture
def three(chain: Any, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A hub that knows both banks; each bank knows the hub alone."""
    nodes = {name: chain.node(tmp_path / name, name) for name in ("hub", "bank-a", "bank-b")}
    hub = nodes["hub"]
    with ExitStack() as running:
        for name in ("bank-a", "bank-b"):
            knows(hub, name, nodes[name], [])
            chain.give_ether(nodes[name].account)
        with nodes["bank-a"].config.open("a") as file:
            file.write(COMPUTE.format(other=nodes["bank-b"].account))
        running.enter_context(hub.running())
        addresses = hub.call("node_status")["addresses"]
        for name in ("bank-a", "bank-b"):
            knows(nodes[name], "hub", hub, addresses)
            running.enter_context(nodes[name].running())
        yield nodes


@pytest.mark.slow
def test_strangers_meet_by_the_chain(three: dict[str, Any]) -> None:
    a, b, hub = three["bank-a"], three["bank-b"], three["hub"]

    def known() -> dict[str, Any] | None:
        found = b.call("organisation_list")["organisations"]
        return next((each for each in found if each["account"] == a.account), None)

    assert known() is None
    status, _, told = a.command("bind", "--description", "a bank", "--json")
    assert (status, told) == (0, ""), told
    met = b.wait(known)
    assert (met["known_by"], met["operator"], met["peer_id"]) == ("bound on chain", None, a.peer_id)
    assert met["name"] == f"bank-a ({a.account})"
    b.wait(lambda: any(peer["peer_id"] == a.peer_id for peer in b.call("peer_list")) or b.rows(
        f"peer_addresses WHERE peer_id = '{a.peer_id}' AND source = 'chain'"))  # fmt: skip
    published = a.call("compute_publish")["cdt"]

    def listed(node: Any, **filters: Any) -> list[str]:
        return [
            each["cdt"] for each in node.call("cdt_search", text="lending", **filters)["assets"]
        ]

    for node in (b, hub):
        node.wait(lambda node=node: listed(node) == [published])
    assert listed(b, owner=a.account, type="compute") == [published]
    assert listed(b, owner=b.account) == []
    shown = b.command("cdt", "search", "lending", "committees")[1]
    assert "lending-members" in shown
    assert "lending-members" in b.command("cdt", "list")[1]
    assert "\x1b" not in shown + b.command("cdt", "show", published)[1]
    assert a.command("cdt", "withdraw", published)[0] == 0
    for node in (a, b, hub):
        node.wait(lambda node=node: listed(node, state="withdrawn") == [published])
    status, _, told = b.command("cdt", "withdraw", published)
    assert status == KINDS["cdt-unknown"].exit_code
    assert "not this node's" in told
    assert a.command("cdt", "offer", published)[0] == 0
    for node in (b, hub):
        node.wait(lambda node=node: listed(node) == [published])
    assert a.command("cdt", "withdraw", published)[0] == 0
    b.wait(lambda: listed(b) == [])
    assert a.call("compute_publish")["cdt"] == published
    b.wait(lambda: listed(b) == [published])
    assert a.command("bind", "--end")[0] == 0
    b.wait(lambda: known()["known_by"] == "binding ended or past")  # type: ignore[index]
