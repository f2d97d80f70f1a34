"""A node that composes over its own asset: its own terms decide at once, without the network.

The chain wants a signed grant for every edge, those of the composer's own assets too. To talk to
itself over the network was rejected: no host dials itself, and one process cannot be kept for two
sides. Nor is an own yes free: what the terms forbid others they forbid this node as well.
"""

from dataclasses import replace

from node import negotiation_records as records
from node.engine import Engine
from node.grants import Grants
from node.host import Host
from node.judging import Judging
from protocol import codec
from protocol.ids import Account
from protocol.messages import ContractRequest
from protocol.negotiation import Event
from protocol.negotiation_consumer import asked


class OwnGrants:
    """Grants of this node to itself."""

    def __init__(self, engine: Engine, host: Host, judging: Judging, grants: Grants) -> None:
        self._engine = engine
        self._host = host
        self._judging = judging
        self._grants = grants

    def decide(self, request: ContractRequest, own: Account) -> None:
        """Afterwards the process is over: a grant is kept, or each failing constraint is.

        Fault `daemon-starting` while the account is still locked; then there is no process.
        """
        judgement = self._judging.judge(request)
        with self._engine.transaction() as tx:
            standing, _ = asked(tx.now, request.expires)
            begun = records.insert(tx, request, "consumer", own, self._host.peer_id, standing)
            changes: dict[str, object] = {"findings": records.kept(judgement.findings)}
            if judgement.verdict == "permit":
                changes["answer"] = codec.encode(self._grants.give(tx, request))
                ended = standing.after(Event.AGREE, Event.VERIFY, Event.FINALIZE)
            else:
                ended = standing.after(Event.TERMINATE)
                changes["sentence"] = "this node's own terms forbid it"
            moved = records.move(tx, begun, replace(ended, deadline=request.expires), **changes)
            findings = records.plain(judgement.findings)
            tx.note("negotiation", request.process, moved.state, findings=findings)
