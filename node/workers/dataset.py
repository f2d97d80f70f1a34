"""The worker process that checks a dataset, so that no row is ever read in the daemon.

One message in, one report out, then it leaves; it leaves at once if its stdin closes. What it
reports are counts or the sentence of a fault, never a value.
"""

import json
import os
import sys
import threading
from typing import BinaryIO

from node.dataset_spec import CheckDataset, DatasetProfile, DatasetRefused
from node.datasets import profile
from node.errors import Fault
from protocol.codec import Wire, decode, encode
from protocol.errors import RemoteProtocolError

LENGTH_BYTES = 4


def main() -> int:
    """Answers the one check that stdin asks for; the exit code."""
    length = int.from_bytes(_exactly(LENGTH_BYTES), "big")
    asked = decode(_exactly(length), CheckDataset)
    threading.Thread(target=_leave_at_end_of_input, daemon=True).start()
    _answer(sys.stdout.buffer, _check(asked))
    return 0


def _check(asked: CheckDataset) -> DatasetProfile | DatasetRefused:
    try:
        return profile(asked.dataset)
    except Fault as fault:
        return DatasetRefused(kind=fault.kind, sentence=fault.sentence, data=json.dumps(fault.data))


def _exactly(count: int) -> bytes:
    # Unbuffered: a lock held by the watching thread would abort the interpreter's shutdown.
    data = b""
    while len(data) < count:
        part = os.read(0, count - len(data))
        if not part:
            raise RemoteProtocolError("stdin closed before the message was whole")
        data += part
    return data


def _answer(stream: BinaryIO, report: Wire) -> None:
    body = encode(report)
    stream.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    stream.flush()


def _leave_at_end_of_input() -> None:
    os.read(0, 1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
