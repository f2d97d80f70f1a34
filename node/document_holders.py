"""Whom to ask for a document, and asking: the silent and the busy are left alone for a while.

Adversary: peers that connect, are asked and say nothing, each time for as long as a deadline. They
must not hold up the documents that honest holders have.
"""

from collections import OrderedDict
from collections.abc import Iterable

import trio

from node.directory import Directory
from node.document_transfer import Transfer
from node.errors import Fault
from node.host import Host
from node.log import get_logger
from node.peers import PeerTimeout
from protocol import codec, documents
from protocol.errors import RemoteProtocolError
from protocol.ids import PeerId
from protocol.messages import DOCUMENT_PROTOCOL, MAX_PART_BYTES, DocumentAnswer, DocumentRequest

log = get_logger("documents")

PART_TIMEOUT_S = 10.0
HOLDERS_MOST = 16
ASKED_MOST = 3
PATIENCE_S = 3.0
BUSY_MOST_S = 600.0
SILENCE_S = 60.0
PAUSES_MOST = 1_000
ANSWER_LIMIT = MAX_PART_BYTES + 128


class _Pauses:
    """Which peers are not to be asked for a while: those of whom nothing came, those over quota.

    Silent peers would hold up every document that nobody named has. Beyond PAUSES_MOST the oldest
    is forgotten.
    """

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def left_s(self, peer_id: str) -> float:
        return max(0.0, self._until.get(peer_id, 0.0) - trio.current_time())

    def set(self, peer_id: str, pause_s: float) -> None:
        self._until[peer_id] = trio.current_time() + pause_s
        self._until.move_to_end(peer_id)
        if len(self._until) > PAUSES_MOST:
            self._until.popitem(last=False)


class Holders:
    """The peers that may have documents."""

    def __init__(self, host: Host, directory: Directory) -> None:
        self._host = host
        self._directory = directory
        self._silent = _Pauses()
        self._busy = _Pauses()

    def candidates(self, named: Iterable[str]) -> list[str]:
        """The `named` ones, then who is connected: organisations first, nobody that was silent."""
        connected = [peer.peer_id for peer in self._host.peers() if peer.connected]
        everybody = [each.peer_id for each in self._directory.everybody]
        known = [peer_id for peer_id in everybody if peer_id in connected]
        others = [peer for peer in (*known, *connected) if not self._silent.left_s(peer)]
        asked = dict.fromkeys([*filter(None, named), *others])
        asked.pop(self._directory.own.peer_id, None)
        return list(asked)[:HOLDERS_MOST]

    async def ask(self, peer_id: PeerId, transfer: Transfer) -> DocumentAnswer | None:
        """The next part, or None if the peer gives none. RemoteProtocolError if it is not one."""
        request = DocumentRequest(cid=documents.cid_of(transfer.proof), offset=transfer.offset)
        payload = codec.encode(request)
        for _ in range(ASKED_MOST):
            pause_s = self._busy.left_s(peer_id)
            if pause_s > PATIENCE_S:
                return None
            await trio.sleep(pause_s)
            try:
                data = await self._host.request(
                    peer_id, DOCUMENT_PROTOCOL, payload, timeout_s=PART_TIMEOUT_S
                )
            except (Fault, RemoteProtocolError) as error:  # the host has counted what broke a rule
                log.debug("document not given", peer=peer_id, why=str(error))
                if isinstance(error, PeerTimeout):
                    self._silent.set(peer_id, SILENCE_S)
                return None
            answer = codec.decode(data, DocumentAnswer, limit=ANSWER_LIMIT)
            if answer.total or not answer.wait_s:
                return answer if answer.total else None
            self._busy.set(peer_id, min(answer.wait_s, BUSY_MOST_S))
        return None
