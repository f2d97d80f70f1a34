"""A recipient's node that runs a session as it should, and says every message changed as well.

Whatever it says, an owner's node answers, or says no in the protocol's words; and no budget is
spent but by a row set that the owner has signed.
"""

import random
from collections import Counter

import pytest

from node.errors import Fault
from node.sessions import REQUESTS
from protocol import codec
from protocol.errors import RemoteProtocolError
from protocol.messages import SESSION_PROTOCOL, SessionDraw, SessionProposal
from protocol.task import SessionState
from tests.fuzz.mutants import mutant

pytestmark = pytest.mark.usefixtures("autojump_clock")
MUTANTS = 6
OVER = {SessionState.COMPLETED, SessionState.ABORTED}


class Liar:
    """Stands before a node's handler and lets each message be preceded by changed ones.

    Changed beginnings end most sessions early, so every other liar tells the truth until then.
    """

    def __init__(self, host, seed: int) -> None:
        self._handler = host.served[SESSION_PROTOCOL]
        self._dice = random.Random(seed)
        self._truths = (SessionProposal, SessionDraw) if seed % 2 else ()
        self.outcomes: Counter[str] = Counter()
        host.served[SESSION_PROTOCOL] = self.serve

    async def serve(self, peer_id, data: bytes) -> bytes:
        honest = isinstance(codec.decode(data, *REQUESTS, limit=1 << 20), self._truths)
        for _ in range(0 if honest else MUTANTS):
            try:
                await self._handler(peer_id, mutant(self._dice, data, *REQUESTS))
                self.outcomes["answered"] += 1
            except (Fault, RemoteProtocolError) as error:
                self.outcomes[type(error).__name__] += 1
        return await self._handler(peer_id, data)


async def lie(world, seed: int) -> SessionState:
    """How the session of a leader that lies to bank-a ends there."""
    liar = Liar(world.nodes["bank-a"].host, seed)
    session = await world.start()
    ends = await world.ended(session, 30.0, ("bank-a", "fintech-c"))
    assert set(ends.values()) <= OVER
    assert liar.outcomes.total() >= MUTANTS
    assert world.spent() <= {0, 4}
    return ends["bank-a"]


@pytest.mark.parametrize("seed", range(6))
async def test_a_leader_that_says_everything_changed_too(world, seed: int) -> None:
    await lie(world, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
async def test_many_leaders_that_say_everything_changed_too(world, seed: int) -> None:
    await lie(world, seed)
