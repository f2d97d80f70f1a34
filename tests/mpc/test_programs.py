"""MPyC on injected shares in processes of their own, and a member that sends a pickle."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mpc.programs import IntegerCodec
from protocol.errors import RemoteProtocolError

ENTRY = Path(__file__).parent / "entries" / "mpyc_member.py"


def committee(roles: list[str], pwned: Path) -> list[tuple[int, str]]:
    """(exit code, last line) of each member of one committee."""
    count = len(roles)
    ends: list[dict[int, socket.socket]] = [{} for _ in roles]
    for i in range(count):
        for j in range(i + 1, count):
            ends[i][j], ends[j][i] = socket.socketpair()
    members = []
    for place, role in enumerate(roles):
        descriptors = [ends[place][other].fileno() for other in sorted(ends[place])]
        arguments = [str(place), str(count), role, *map(str, descriptors)]
        members.append(
            subprocess.Popen(
                [sys.executable, str(ENTRY), *arguments],
                pass_fds=descriptors,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=os.environ | {"PWNED": str(pwned)},
            )
        )
    for mine in ends:
        for end in mine.values():
            end.close()
    try:
        said = [member.stdout.readline() for member in members]
        for member in members:
            member.communicate(timeout=30)
    finally:
        for member in members:
            member.kill()
            member.wait()
    return [(m.returncode, s.rstrip()) for m, s in zip(members, said, strict=True)]


def test_sum_and_square_of_injected_shares(tmp_path):
    results = committee(["honest"] * 3, tmp_path / "pwned")
    for place, (code, line) in enumerate(results):
        shares = [2 * (slope * (place + 1) + 7) for slope in range(4)]
        assert (code, line) == (0, f"sum {shares} square [49, 49, 49, 49]")


def test_a_pickle_from_a_member_is_never_loaded(tmp_path):
    pwned = tmp_path / "pwned"
    results = committee(["honest", "evil", "honest"], pwned)
    assert not pwned.exists()
    for place in (0, 2):
        assert results[place][0] == 3
        assert "no array of integers" in results[place][1]


def test_a_member_that_leaves_ends_the_computation_for_all(tmp_path):
    results = committee(["honest", "honest", "leave"], tmp_path / "pwned")
    for place in (0, 1):
        code, line = results[place]
        assert (code, line) == (3, "ended: member-2 left the MPyC computation")


def test_the_codec_knows_integers_and_arrays_of_them():
    codec = IntegerCodec(lambda _reason: None)
    array = np.array([0, 1, 2**64 - 1], object)
    assert codec.loads(codec.dumps(array)).tolist() == array.tolist()
    assert codec.loads(codec.dumps(77)) == 77
    for bad in (b"", b"A123", b"I1", b"Xabcdefgh", b"\x80\x04K\x01."):
        with pytest.raises(RemoteProtocolError):
            codec.loads(bad)
    for bad in (True, "text", [1], np.zeros((2, 2))):
        with pytest.raises(TypeError):
            codec.dumps(bad)
