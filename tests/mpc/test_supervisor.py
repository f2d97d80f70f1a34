"""Worker processes of the daemon: whatever they do, they are reaped."""

import os
from pathlib import Path

import pytest
import trio

from mpc.supervisor import WorkerGoneError, open_worker
from protocol.codec import Wire
from protocol.errors import RemoteProtocolError


class Word(Wire, frozen=True, tag="word"):
    text: str


BODY = """
import os, sys, time
sys.path.insert(0, {root!r})
from protocol.codec import Wire, encode
class Word(Wire, frozen=True, tag="word"):
    text: str
def say(text):
    body = encode(Word(text=text))
    sys.stdout.buffer.write(len(body).to_bytes(4, "big") + body)
    sys.stdout.buffer.flush()
"""
ROOT = str(Path(__file__).parent.parent.parent)


def opened(tmp_path: Path, body: str):
    name = "told_worker"
    (tmp_path / f"{name}.py").write_text(BODY.format(root=ROOT) + body)
    return open_worker(
        name,
        reports=(Word,),
        limit=1000,
        stderr_path=tmp_path / "log",
        environment={"PYTHONPATH": str(tmp_path)},
    )


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_messages_go_both_ways_and_stderr_is_kept(tmp_path):
    echo = """
n = int.from_bytes(sys.stdin.buffer.read(4), "big")
data = sys.stdin.buffer.read(n)
print("heard", len(data), file=sys.stderr)
say(data.decode("latin1")[-3:])
say("end")
"""
    with trio.fail_after(20):
        async with opened(tmp_path, echo) as worker:
            await worker.send(Word(text="abc"))
            assert [report.text async for report in worker.reports()] == ["ord", "end"]
            assert await worker.wait() == 0
    assert (tmp_path / "log").read_text().startswith("heard")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


async def test_a_worker_that_ignores_everything_is_killed(tmp_path):
    stubborn = """
import signal
for name in (signal.SIGTERM, signal.SIGINT): signal.signal(name, signal.SIG_IGN)
say("ready")
while True: time.sleep(1)
"""
    with trio.fail_after(20):
        async with opened(tmp_path, stubborn) as worker:
            assert (await worker.report()).text == "ready"
        assert gone(worker.pid)
        assert worker.returncode == -9


async def test_cancelling_the_daemon_leaves_no_worker(tmp_path):
    with trio.move_on_after(1.5):
        async with opened(tmp_path, "say('ready')\nsys.stdin.read()\n") as worker:
            await worker.report()
            await trio.sleep_forever()
    assert gone(worker.pid)


async def test_a_worker_that_dies_is_an_end_and_not_an_error(tmp_path):
    with trio.fail_after(20):
        async with opened(tmp_path, "os._exit(7)\n") as worker:
            assert await worker.report() is None
            assert await worker.wait() == 7
            with pytest.raises(WorkerGoneError):
                await worker.send(Word(text="x"))


@pytest.mark.parametrize(
    "body",
    [
        "sys.stdout.buffer.write(b'\\x00\\x01\\x00\\x00'); sys.stdout.buffer.flush()",
        "sys.stdout.buffer.write(b'\\x00\\x00\\x00\\x02ab'); sys.stdout.buffer.flush()",
    ],
)
async def test_a_report_that_is_none_is_refused(tmp_path, body):
    with trio.fail_after(20):
        async with opened(tmp_path, body + "\nsys.stdin.read()\n") as worker:
            with pytest.raises(RemoteProtocolError):
                await worker.report()


async def test_a_module_that_does_not_exist_ends_at_once(tmp_path):
    with trio.fail_after(20):
        async with open_worker(
            "no_such_worker", reports=(Word,), limit=10, stderr_path=tmp_path / "log"
        ) as worker:
            assert await worker.report() is None
    assert "no_such_worker" in (tmp_path / "log").read_text()
