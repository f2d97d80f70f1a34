"""One MPyC member for the test of programs: links from the parent, one program, one answer.

argv: place, members, evil (or "honest"), then the file descriptors of the pairs to every member.
"""

import os
import pickle
import socket
import sys
import threading

import numpy as np

from mpc import programs
from mpc.committee import Committee
from mpc.field import M61
from mpc.watch import SessionError
from protocol.errors import RemoteProtocolError


class Pipe:
    """Frames over a socket pair, shaped like the ends of a mesh channel."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._sending = threading.Lock()

    def send(self, payload, _within_s):
        with self._sending:
            self._socket.sendall(len(payload).to_bytes(8, "little") + bytes(payload))

    def receive_or_end(self, _limit):
        head = self._exactly(8)
        return None if head is None else self._exactly(int.from_bytes(head, "little"))

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                return None
            data += more
        return bytearray(data)


class Links:
    """Stands where the mesh is: only what programs asks of it."""

    def __init__(self, me, pipes):
        self.me, self._pipes, self.watch = me, pipes, self

    def to(self, member, _label):
        return self._pipes[member]

    of = to

    def check(self):
        pass

    def explain(self, _member, error):
        return error


class Payload:
    """Unpickling this creates the file that is named in PWNED."""

    def __reduce__(self):
        return (open, (os.environ["PWNED"], "w"))


class EvilCodec(programs.IntegerCodec):
    def dumps(self, _value):
        return pickle.dumps(Payload())


def main() -> None:
    place, count, how, *descriptors = sys.argv[1:]
    names = tuple(f"member-{i}" for i in range(int(count)))
    me = names[int(place)]
    others = [name for name in names if name != me]
    pipes = {name: Pipe(int(fd)) for name, fd in zip(others, descriptors, strict=True)}
    if how == "evil":
        programs.IntegerCodec = EvilCodec
    committee = programs.MpycCommittee(
        Links(me, pipes), Committee(names, 1), M61, link_within_s=5.0, within_s=5.0
    )
    share = np.arange(4, dtype="<u8") * (int(place) + 1) + 7  # of the secret 7, slope 0..3
    if how == "leave":
        os._exit(9)

    async def squared(runtime):
        secret = committee._secure.array(committee._field.array(share.astype(object), check=False))
        return await runtime.output(secret * secret)

    try:
        total = np.empty(4, "<u8")
        committee.add([share, share], total)
        value = committee.run(squared)
        print("sum", total.tolist(), "square", [int(v) for v in value.value], flush=True)  # noqa: T201
    except (SessionError, RemoteProtocolError) as error:
        print("ended:", error, flush=True)  # noqa: T201
        sys.stdin.read()  # who left first is to be named, not who left because of it
        os._exit(3)
    sys.stdin.read()  # others may still need what this member has sent
    os._exit(0)


main()
