"""What a node tells of itself stands in another's northbund.toml as it is."""

from pathlib import Path

import pytest

from node.cli.initialise import NewNode, initialise
from node.cli.introduction import introduction
from node.config import changed_beside_terms, parse
from node.keys import Password

OWN = 'name = "me"\nnetwork = "test"\n'


@pytest.mark.parametrize(
    ("listen", "told"),
    [
        ("/ip4/127.0.0.1/tcp/4001", ("/ip4/127.0.0.1/tcp/4001",)),
        ("/ip4/0.0.0.0/tcp/4001", ()),
        ("/ip4/127.0.0.1/tcp/0", ()),
    ],
)
def test_another_node_reads_it(tmp_path: Path, listen: str, told: tuple[str, ...]) -> None:
    node = tmp_path / "node"
    new = NewNode("bank-a", "test", listen, "127.0.0.1", 0, None, light_kdf=True, closed=False)
    made = initialise(node, new, Password("a long password"))
    (known,) = parse(OWN + introduction(node), tmp_path, "another").organisations
    assert (known.name, known.peer_id, known.addresses) == ("bank-a", made["peer_id"], told)
    assert "0x" + known.account.hex() == made["account"]


def test_what_a_reload_of_terms_leaves_to_the_next_start_is_named() -> None:
    sample = Path(__file__).parents[2] / "configs" / "bank-b.toml"

    def changed(old: str, new: str) -> tuple[str, ...]:
        texts = sample.read_text("utf-8"), sample.read_text("utf-8").replace(old, new)
        before, after = (parse(text, Path("/node"), "northbund.toml") for text in texts)
        assert before != after
        return changed_beside_terms(before, after)

    assert changed("uses = 5", "uses = 4") == ()
    assert changed("tcp/4003", "tcp/4005") == ("organisations",)
    assert changed('name = "Job"', 'name = "Profession"') == ("datasets",)
