"""The check of sharings over the network: the contributor proves, members witness.

All words go through the recipient, who cannot change a signed one (`mpc.check_board`); only the
masks go the way of the shares. A contributor and a member keep what they dealt and were dealt
since the last stretch ended: of a round that nobody checks its one chunk, which stands in their
buffers anyhow until the next round; so a round can still be checked when its opening has failed.
"""

from collections.abc import Sequence
from hashlib import sha256
from time import monotonic, sleep
from typing import Final, TypeVar

import numpy as np

from mpc import topology
from mpc.channels import Inbound
from mpc.check_board import (
    Board,
    Reveals,
    SaidWrongError,
    Settled,
    StreamsCommitted,
    Witness,
    packed_sums,
    read_sums,
    sent,
)
from mpc.field import Elements
from mpc.setting import PATIENCE_S, Setting, broke
from mpc.sharing_check import combine, extended, fresh_masks, repeats
from mpc.transport import Frame
from mpc.watch import SessionError
from protocol.codec import MAX_MESSAGE_BYTES, Wire, decode
from protocol.envelope import seal
from protocol.errors import RemoteProtocolError

W = TypeVar("W", bound=Wire)

_GLANCE_S: Final = 0.02


class Prover:
    """A contributor's side: what it has dealt since the last check, and its proof."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        mesh = setting.mesh
        self._masks = {member: mesh.to(member, topology.SHARES) for member in setting.members}
        self._proofs = mesh.to(setting.recipient, topology.PROOFS)
        self._board = mesh.of(setting.recipient, topology.ORDERS)
        self._number = self._segment = 0
        self._keys: list[bytes] = []
        self._base: list[list[Elements]] = []
        self._unhashed: Sequence[Elements] = ()
        self._hashes = [sha256() for _ in setting.members]

    def begin(self, number: int, keys: list[bytes]) -> None:
        """A round begins; `keys` are those that members 1 to t were sent."""
        self._number, self._segment, self._keys = number, 0, keys
        self._forget()

    def _forget(self) -> None:
        self._base, self._unhashed = [], ()
        self._hashes = [sha256(key) for key in self._keys]
        self._hashes += [sha256() for _ in range(len(self._keys), len(self._masks))]

    def dealt(self, base: list[Elements], outputs: Sequence[Elements], *, checked: bool) -> None:
        """A chunk was dealt: the secret and the drawn shares, and the shares that are sent.

        Outside a `checked` round the last chunk alone is kept, and `outputs` by reference.
        """
        if checked:
            self._base.append(base)
            self._hash(outputs)
        else:
            self._base, self._unhashed = [base], outputs

    def _hash(self, outputs: Sequence[Elements]) -> None:
        for hashed, output in zip(self._hashes[len(self._keys) :], outputs, strict=True):
            hashed.update(output.data)

    def prove(self) -> None:
        """Commit, and open masked sums once all members have named the same board.

        SessionError naming the recipient if what it passes on is not in order.
        """
        setting = self._setting
        table = setting.table(self._number, self._segment)
        if self._unhashed:
            self._hash(self._unhashed)
        masks = fresh_masks(setting.field, setting.threshold)
        all_masks = extended(setting.field, masks, len(setting.members))
        for hashed, (member, channel), mask in zip(
            self._hashes, self._masks.items(), all_masks, strict=True
        ):
            hashed.update(mask.data)
            frame = Frame(mask.nbytes)
            frame.payload[:] = mask.data.cast("B")
            setting.deliver(member, channel, frame.whole)
        streams = tuple(hashed.digest() for hashed in self._hashes)
        commitment = seal(StreamsCommitted(stretch=table.stretch, streams=streams), setting.key)
        self._proofs.send(sent(commitment), setting.deadline_s)
        board = relayed(setting, self._board, Board)
        reveals = relayed(setting, self._board, Reveals)
        try:
            challenge = table.read(board, absent(setting, board)).challenge(reveals)
        except SaidWrongError as error:
            raise _passed_on(setting, error) from error
        if commitment not in board.contributors:
            raise broke(setting.recipient, f"the commitment of {setting.mesh.me} is not its own")
        base = combine(setting.field, challenge, self._base, masks)
        sums = extended(setting.field, base, len(setting.members))
        self._proofs.send(sent(packed_sums(challenge, sums, setting.key)), setting.deadline_s)
        self._segment += 1
        self._forget()


class Witnessing:
    """A member's side: what it was dealt since the last check, and its testimony."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        mesh = setting.mesh
        self._streams = [mesh.of(owner, topology.SHARES) for owner in setting.contributors]
        self._proofs = mesh.to(setting.recipient, topology.PROOFS)
        self._board = mesh.of(setting.recipient, topology.HEADERS)
        self._number = self._segment = 0
        self._keys: list[bytes] = []
        self._chunks: list[list[Elements]] = []

    def begin(self, number: int) -> None:
        """A round begins."""
        self._number, self._segment, self._keys, self._chunks = number, 0, [], []

    def hold(self, keys: list[bytes]) -> None:
        """The keys out of which this member draws its shares of the round."""
        self._keys = keys

    def was_dealt(self, terms: list[Elements], *, checked: bool) -> None:
        """A chunk of every contributor's share; its buffers may be reused in a `checked` round."""
        if not checked:
            self._chunks = [terms]
        else:
            self._chunks.append(terms if self._keys else [term.copy() for term in terms])

    def witness(self) -> None:
        """Commit to a nonce, reveal it for one board, and open the masked sums of every stream.

        SessionError naming the recipient if what it passes on is not in order.
        """
        setting = self._setting
        table = setting.table(self._number, self._segment)
        masks = [self._mask(stream) for stream in self._streams]
        received = tuple(self._digest(place, mask) for place, mask in enumerate(masks))
        said = Witness(table, setting.mesh.me, setting.key, received)
        self._say(sent(said.committed()))
        try:
            board = relayed(setting, self._board, Board)
            self._say(sent(said.reveal(board, absent(setting, board))))
            challenge = said.challenge(relayed(setting, self._board, Reveals))
        except SaidWrongError as error:
            raise _passed_on(setting, error) from error
        sums = combine(setting.field, challenge, self._chunks, masks)
        self._say(sent(packed_sums(challenge, sums, setting.key)))
        settled = relayed(setting, self._board, Settled)
        if settled.claimed is not None:
            self._show(settled, challenge, sums, masks)
        self._segment, self._chunks = self._segment + 1, []

    def _say(self, data: bytes) -> None:
        self._proofs.send(data, self._setting.deadline_s + PATIENCE_S)

    def _mask(self, stream: Inbound) -> Elements:
        field = self._setting.field
        size = repeats(field) * field.word_bytes
        data = stream.receive(self._setting.deadline_s, limit=size, what="the masks of a check")
        mask = np.frombuffer(bytes(data[: len(data) - len(data) % field.word_bytes]), field.dtype)
        if len(data) != size or not field.in_range(mask):
            raise broke(stream.peer, "the masks of a check are not as they should be")
        return mask

    def _digest(self, place: int, mask: Elements) -> bytes:
        hashed = sha256(self._keys[place] if self._keys else b"")
        for chunk in () if self._keys else self._chunks:
            hashed.update(chunk[place].data)
        hashed.update(mask.data)
        return hashed.digest()

    def _show(
        self, settled: Settled, challenge: bytes, sums: list[Elements], masks: list[Elements]
    ) -> None:
        """Show one stream to the recipient, but only of a contributor that has lied about it."""
        setting, place = self._setting, settled.contributor
        if settled.claimed is None or place >= len(sums):
            raise broke(setting.recipient, "it asks for a stream that there is not")
        owner = list(setting.contributors)[place]
        shape = (len(setting.members), repeats(setting.field))
        try:
            claimed = read_sums(
                settled.claimed,
                owner,
                setting.contributors[owner],
                challenge,
                setting.field,
                shape,
            )
        except SaidWrongError as error:
            raise _passed_on(setting, error) from error
        own = list(setting.members).index(setting.mesh.me)
        if np.array_equal(claimed[own], sums[place]):
            raise broke(setting.recipient, "it asks to be shown a stream without a reason")
        parts = self._keys[place : place + 1] or [c[place].tobytes() for c in self._chunks]
        self._say(b"".join([*parts, masks[place].tobytes()]))


def absent(setting: Setting, board: Board) -> frozenset[str]:
    """The members that this worker has lost too, of those that the board leaves out.

    Its own eyes count: else a recipient could show every member a board without the others.
    """
    seats = zip(setting.members, board.members, strict=False)
    missing = [member for member, said in seats if said is None]
    until = monotonic() + 2 * PATIENCE_S
    while not all(map(setting.has_lost, missing)) and monotonic() < until:
        sleep(_GLANCE_S)
    return frozenset(filter(setting.has_lost, missing))


def relayed(setting: Setting, channel: Inbound, kind: type[W]) -> W:
    """What the recipient passes on in a check. SessionError naming it if it is no `kind`."""
    wait_s = setting.deadline_s + 2 * PATIENCE_S
    data = channel.receive(wait_s, limit=MAX_MESSAGE_BYTES, what="the others' words in a check")
    try:
        return decode(bytes(data), kind)
    except RemoteProtocolError as error:
        raise broke(setting.recipient, str(error)) from error


def _passed_on(setting: Setting, error: SaidWrongError) -> SessionError:
    """The recipient reads everything before it passes it on: it should have ended the session."""
    return broke(setting.recipient, f"in a check it passes on that {error}")
