"""Whom this node's configuration trusts to attest, told to the chain: added and withdrawn.

A change is an intent of its own with a number in its key, so that on, off and on again are three
transactions and a restart in between adds none. An attester that no longer stands in [trust] is
refused by this node itself at once (`attestations`); the chain then refuses it too.
"""

import math
from collections.abc import Set

from chain import contracts
from node.chain_link import ChainLink
from node.engine import Engine
from node.errors import Fault
from node.log import get_logger
from protocol.ids import Account, hexadecimal

log = get_logger("trust")


async def tell_chain(
    engine: Engine, link: ChainLink, registry: Account, own: Account, wanted: Set[Account]
) -> None:
    """Afterwards what the chain lacks of `wanted`, and has too much, is in the outbox."""
    await link.caught_up()
    for attester in sorted(wanted | trusted(engine, own) | _posted(engine)):
        await _finish_latest(engine, link, attester)
        on = attester in wanted
        if on == (attester in trusted(engine, own)):
            continue
        key = f"{_prefix(attester)}{1 + len(_keys(engine, attester))}"
        with engine.transaction() as tx:
            link.enqueue(key, "trust", registry, contracts.trust(attester, on))
            tx.note("trust", attester, "on" if on else "off")


def trusted(engine: Engine, own: Account) -> set[Account]:
    """Whom this account trusts by the followed chain."""
    rows = engine.db.execute("SELECT attester FROM chain_trusts WHERE owner = ?", [own])
    return {Account(attester) for (attester,) in rows.fetchall()}


async def _finish_latest(engine: Engine, link: ChainLink, attester: Account) -> None:
    """Return once the latest change of an earlier start has happened, or was refused."""
    keys = _keys(engine, attester)
    if not keys:
        return
    try:
        await link.confirmed(keys[-1], math.inf)
    except Fault as fault:
        log.warning("trust not told", attester=hexadecimal(attester), why=fault.sentence)


def _prefix(attester: Account) -> str:
    return f"trust:{hexadecimal(attester)}:"


def _keys(engine: Engine, attester: Account) -> list[str]:
    """The keys of all changes that were posted for this attester, in their order."""
    rows = engine.db.execute(
        "SELECT key FROM chain_outbox WHERE key LIKE ? ORDER BY id", [_prefix(attester) + "%"]
    )
    return [key for (key,) in rows.fetchall()]


def _posted(engine: Engine) -> set[Account]:
    """Every attester for whom a change was ever posted: the latest may not have happened yet."""
    rows = engine.db.execute("SELECT key FROM chain_outbox WHERE key LIKE 'trust:0x%:%'")
    return {Account(bytes.fromhex(key.split(":")[1][2:])) for (key,) in rows.fetchall()}
