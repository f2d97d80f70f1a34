"""The recipient's end of the rounds: it orders them, asks all members, and opens what fits."""

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from mpc import rounds, topology
from mpc.channels import Inbound
from mpc.field import Elements
from mpc.fixedpoint import Grid
from mpc.judging import Judge
from mpc.rounds import NO_ROWS, Gradient, Rows
from mpc.setting import PATIENCE_S, Setting, broke
from mpc.shares import InconsistentError, open_shares
from mpc.watch import SessionError, SpareLostError
from protocol.envelope import seal
from protocol.manifest import RoundHeader, Stage


class Opener:
    """The recipient: orders rounds, asks all members, and opens only what fits together."""

    def __init__(self, setting: Setting, grid: Grid) -> None:
        mesh = setting.mesh
        self._setting, self._grid = setting, grid
        self._orders = {owner: mesh.to(owner, topology.ORDERS) for owner in setting.contributors}
        self._headers = {member: mesh.to(member, topology.HEADERS) for member in setting.members}
        self._answers = [mesh.of(member, topology.SUMS) for member in setting.members]
        self._buffers = [memoryview(bytearray(setting.chunk_bytes)) for _ in setting.members]
        self._present = dict(enumerate(zip(self._answers, self._buffers, strict=True), start=1))
        self._judge = Judge(setting)
        self._failed: InconsistentError | None = None
        self._suspects: set[str] = set()
        self.number = 0
        self.corrected: set[str] = set()

    def open(self, stage: Stage, rows: Rows, gradient: Gradient | None) -> NDArray[np.float64]:
        """Z of `rows`, float64 (n, k), after handing every owner the `gradient` of the last round.

        SessionError if a party is lost or late, a contributor's sharing is not of degree t, or
        the answers do not fit together and it cannot be told whose is wrong. A wrong answer that
        could be left out is noted in `corrected`, once no contributor can have caused it.
        """
        opened = np.empty((len(rows), self._setting.width))
        start = 0
        for chunk in self.opening(stage, rows, gradient):
            opened[start : start + len(chunk)] = chunk
            start += len(chunk)
        return opened

    def opening(
        self, stage: Stage, rows: Rows, gradient: Gradient | None
    ) -> Iterator[NDArray[np.float64]]:
        """The same in chunks of whole rows, for more of them than memory holds.

        No chunk counts before the last one has come: until then, an error may still end the round.
        """
        setting = self._setting
        self.number += 1
        self._send_orders(self._orders_for(stage, rows, gradient))
        elements = len(rows) * setting.width
        checked = setting.checked(stage, self.number, elements)
        for place, count in enumerate(setting.chunks(elements)):
            yield self._open_chunk(count).reshape(-1, setting.width)
            if checked and setting.ends_segment(place, elements):
                self._judge.check(self.number, place // setting.segment_chunks, elements)
                self._conclude(checked=True)
        if self._failed or self._suspects:
            self._check_afterwards(stage, elements)

    def _open_chunk(self, count: int) -> NDArray[np.float64]:
        answers = {}
        for point, (inbound, buffer) in list(self._present.items()):
            try:
                answers[point] = self._answer(inbound, buffer, count)
            except SpareLostError:
                del self._present[point]
        return self._grid.reals(self._combine(answers))

    def _check_afterwards(self, stage: Stage, elements: int) -> None:
        """Have the sharings of a round checked whose answers did not fit: was it a contributor?"""
        possible = self._setting.check_every and elements <= self._setting.chunk_elements
        if possible:
            header = self._header(stage, NO_ROWS, None, check=True)
            self._send_orders(self._addressed(header, NO_ROWS, None))
            self._judge.check(self.number, 0, elements)
        self._conclude(checked=bool(possible))

    def _conclude(self, *, checked: bool) -> None:
        """What follows from answers that did not fit, once the contributors' sharings did."""
        if self._failed is not None:
            members = self._setting.committee.named(self._present)
            reason = f"round {self.number}: {self._failed}"
            if checked:
                reason += "; the contributors' sharings are sound, so it is a member"
                raise SessionError(reason, members) from self._failed
            reason += "; it is a member, or a contributor whose shares were of no such polynomial"
            raise SessionError(reason, members) from self._failed
        self.corrected |= self._suspects
        self._suspects = set()

    def _header(
        self, stage: Stage, rows: Rows, gradient: Gradient | None, *, check: bool = False
    ) -> bytes:
        header = RoundHeader(
            manifest=self._setting.manifest,
            number=self.number,
            attempt=self._setting.attempt,
            stage=stage,
            rows=len(rows),
            rows_hash=rounds.rows_digest(rows),
            gradient_hash=rounds.gradient_digest(gradient),
            check=check,
        )
        return rounds.encoded_header(seal(header, self._setting.key))

    def _orders_for(
        self, stage: Stage, rows: Rows, gradient: Gradient | None
    ) -> Mapping[str, bytes]:
        """The bytes for each party: the signed header for members, the order for owners."""
        return self._addressed(self._header(stage, rows, gradient), rows, gradient)

    def _addressed(
        self, header: bytes, rows: Rows, gradient: Gradient | None
    ) -> Mapping[str, bytes]:
        order = rounds.pack_order(header, rows, gradient)
        return dict.fromkeys(self._headers, header) | dict.fromkeys(self._orders, order)

    def _send_orders(self, orders: Mapping[str, bytes]) -> None:
        setting = self._setting
        for name, channel in (*self._headers.items(), *self._orders.items()):
            if not setting.has_lost(name):
                with contextlib.suppress(SpareLostError):
                    channel.send(orders[name], setting.deadline_s)

    def _answer(self, inbound: Inbound, buffer: memoryview, count: int) -> Elements:
        prefix, field = rounds.ANSWER_PREFIX, self._grid.field
        size = inbound.receive_into(buffer, self._setting.deadline_s + PATIENCE_S, what="a sum")
        if size != prefix.size + count * field.word_bytes:
            raise broke(inbound.peer, "a sum has another size than it should")
        (number,) = prefix.unpack_from(buffer)
        elements = np.frombuffer(buffer, field.dtype, count, prefix.size)
        if number != self.number or not field.in_range(elements):
            raise broke(inbound.peer, "a sum of another round, or outside the field")
        return elements

    def _combine(self, answers: Mapping[int, Elements]) -> Elements:
        """The sum of a chunk, or zeros in place of one that the round ends by."""
        committee = self._setting.committee
        try:
            value, wrong = open_shares(
                self._grid.field, tuple(answers), list(answers.values()), committee.threshold
            )
        except InconsistentError as error:
            self._failed = self._failed or error
            return np.zeros_like(next(iter(answers.values())))
        self._suspects |= set(committee.named(wrong)) - self.corrected
        return value
