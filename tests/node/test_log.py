import io
import json
import logging
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node import log
from node.keys import Password, PeerKey


@pytest.fixture(autouse=True)
def _quiet_afterwards() -> Iterator[None]:
    yield
    log.configure("warning", console="none")


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_each_record_is_one_json_line_in_the_private_file(tmp_path: Path) -> None:
    file, stream = tmp_path / "northbund.log", io.StringIO()
    log.configure("info", console="auto", file=file, stream=stream)
    log.get_logger("there").info("two\nlines", number=3)
    log.get_logger("there").debug("not this")
    logging.getLogger("a.library").warning("from %s", "outside")
    records = lines(file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [(r["event"], r["logger"], r["level"]) for r in records] == [
        ("two\nlines", "there", "info"),
        ("from outside", "a.library", "warning"),
    ]
    assert records[0]["number"] == 3
    assert lines(stream.getvalue()) == records


def test_readable_lines_and_levels_that_change_while_running() -> None:
    stream = io.StringIO()
    log.configure("error", console="readable", stream=stream)
    log.get_logger("there").info("too low")
    log.set_level("debug")
    log.get_logger("there").debug("now heard", peer="x")
    assert "too low" not in stream.getvalue()
    assert "now heard" in stream.getvalue()


def test_a_library_that_talks_much_is_heard_from_warnings_on() -> None:
    stream = io.StringIO()
    log.configure("info", console="json", stream=stream)
    logging.getLogger("hypercorn.error").info("chatter")
    logging.getLogger("hypercorn.error").warning("news")
    assert [record["event"] for record in lines(stream.getvalue())] == ["news"]


def test_no_secret_reaches_a_line_not_even_by_a_trace() -> None:
    stream = io.StringIO()
    log.configure("info", console="json", stream=stream)
    key, seed = PeerKey(bytes(range(32))), bytes(range(32))
    word = "correct horse"
    try:
        raise ValueError(repr(Password(word)))
    except ValueError:
        log.get_logger("there").exception(
            "oops", password=word, key=key, signing_key=key.signing_key, peer_seed=seed, Cookie="x1"
        )
    text = stream.getvalue()
    assert "Traceback" in text
    for secret in (word, seed.hex(), repr(seed), str(key.signing_key), "x1"):
        assert secret not in text


def test_bytes_come_out_short() -> None:
    stream = io.StringIO()
    log.configure("info", console="json", stream=stream)
    log.get_logger("there").info("bytes", small=b"\x01", large=b"\x02" * 100)
    (record,) = lines(stream.getvalue())
    assert record["small"] == "0x01"
    assert record["large"] == "0x" + "02" * 32 + "… (100 bytes)"


def test_what_is_bound_follows_every_record() -> None:
    stream = io.StringIO()
    log.configure("info", console="json", stream=stream)
    with log.bound(session="0x01"):
        log.get_logger("there").info("inside")
    log.get_logger("there").info("outside")
    inside, outside = lines(stream.getvalue())
    assert inside["session"] == "0x01"
    assert "session" not in outside


def test_before_any_configuration_stdout_stays_clean_and_traces_show_no_variables() -> None:
    program = (
        "from node import log\n"
        "def f():\n    hidden = 'correct' + ' horse'\n    raise ValueError\n"
        "try: f()\nexcept ValueError: log.get_logger('there').exception('early')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert "correct horse" not in done.stderr
    assert json.loads(done.stderr)["event"] == "early"
