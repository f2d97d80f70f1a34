"""Run a sender and die by SIGKILL at a named step; a program of its own, started by a test.

Reads lines "POINT COUNT DATABASE" from stdin; forks for each a child that runs the sender and
kills itself when it comes to POINT for the COUNTth time ("end": runs until nothing is left).
Prints one line for each child: its exit status.
"""

import os
import signal
import sys
from pathlib import Path

import trio
from eth_account import Account as EthAccount
from sqlite_utils import Database

from chain.outbox import Outbox
from chain.provider import TrioProvider
from chain.sender import Sender

SENDING = b"eth_sendRawTransaction"


def dying(remaining, function, *, after=False):
    """`function`, which dies before (or after) it has run for the last of `remaining` times."""

    def die():
        remaining[0] -= 1
        if remaining[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(*arguments, **named):
        if not after:
            die()
        result = function(*arguments, **named)
        if after:
            die()
        return result

    return wrapped


def arm(point, count, provider_class, account):
    remaining = [count]
    if point == "before signing":
        Sender._sign_and_push = dying(remaining, Sender._sign_and_push)
    elif point == "while storing":
        Outbox.mark = dying(remaining, Outbox.mark, after=True)
    elif point == "after storing":
        Outbox.store = dying(remaining, Outbox.store, after=True)
    elif point in ("before sending", "after sending"):
        post = provider_class._post_to

        async def posting(self, url, content):
            if SENDING not in content:
                return await post(self, url, content)
            if point == "before sending":
                dying(remaining, lambda: None)()
            answer = await post(self, url, content)
            dying(remaining, lambda: None)()
            return answer

        provider_class._post_to = posting
    elif point == "before the receipt is stored":
        Sender._judge = dying(remaining, Sender._judge)


async def send(path, url, key, chain_id):
    db = Database(Path(path))
    db.execute("PRAGMA synchronous = FULL")
    provider = TrioProvider(url)
    sender = Sender(db, provider, key, chain_id, poll_s=0.05)
    while db.execute(
        "SELECT 1 FROM chain_outbox WHERE state IN ('new', 'sent', 'mined')"
    ).fetchone():
        if not await sender.step():
            await trio.sleep(0.01)
    await provider.aclose()


def main(url, secret, chain_id):
    key = EthAccount.from_key(secret)
    for line in sys.stdin:
        point, count, path = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            arm(point, int(count), TrioProvider, key)
            trio.run(send, path, url, key, int(chain_id))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
