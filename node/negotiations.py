"""Contract negotiations of one node, on both sides: which message belongs to which.

The table is `protocol.negotiation`; `negotiation_consumer` asks, `negotiation_provider` answers,
`negotiation_records` keeps. `own_grants` answers for this node's own assets.
"""

from node import assets
from node import negotiation_records as records
from node.directory import Directory
from node.document_exchange import DocumentExchange
from node.engine import Engine, Owed
from node.grants import Grants
from node.host import Host
from node.judging import Judging
from node.negotiation_consumer import UNASKED, Consumer
from node.negotiation_provider import MESSAGES, Provider
from node.own_grants import OwnGrants
from protocol import codec
from protocol.codec import Wire
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId
from protocol.messages import NEGOTIATION_PROTOCOL, ContractReceived, ContractRequest
from protocol.negotiation_consumer import Limits

KINDS: tuple[type[Wire], ...] = tuple(dict.fromkeys((*MESSAGES, *UNASKED)))


class Negotiations:
    """Both sides of the table, for one node."""

    def __init__(
        self,
        engine: Engine,
        host: Host,
        directory: Directory,
        exchange: DocumentExchange,
        judging: Judging,
        grants: Grants,
    ) -> None:
        self._engine = engine
        self._own = directory.own.account
        self._own_grants = OwnGrants(engine, host, judging, grants)
        self.consumer = Consumer(engine, host, directory, grants)
        self.provider = Provider(engine, host, directory, exchange, judging, grants)
        engine.perform(records.EXPIRE, self._expire)
        host.serve(NEGOTIATION_PROTOCOL, self._serve, limit=codec.MAX_MESSAGE_BYTES)

    def start(self, request: ContractRequest, limits: Limits | None = None) -> None:
        """As `Consumer.start`; about an asset of this node's own, the process is over afterwards.

        Raises as `Judging.judge` besides, for an own asset.
        """
        child = assets.find(self._engine.db, request.child)
        if child is not None and child.owner == self._own:
            self._own_grants.decide(request, self._own)
        else:
            self.consumer.start(request, limits)

    async def _serve(self, peer_id: PeerId, data: bytes) -> bytes:
        message = codec.decode(data, *KINDS)
        known = records.find(self._engine.db, message.process)  # type: ignore[attr-defined]
        if known is not None and known.peer_id != peer_id:
            raise RemoteProtocolError("this process belongs to somebody else")
        if known is not None and known.side == "consumer":
            if not isinstance(message, UNASKED):
                raise RemoteProtocolError("this node began the process: it is not asked")
            self.consumer.hear(known, message, data)
            return codec.encode(ContractReceived(process=known.process))
        if not isinstance(message, MESSAGES):
            raise RemoteProtocolError("this process is not known here")
        return codec.encode(await self.provider.answer(peer_id, message))

    async def _expire(self, owed: Owed) -> None:
        negotiation = records.find(self._engine.db, owed.key)
        if negotiation is None:
            return
        side = self.consumer if negotiation.side == "consumer" else self.provider
        side.expire(negotiation)
