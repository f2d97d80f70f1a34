"""Pinned connections: who gets in, who is named when it leaves, is silent or says why."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from mpc.channels import Channel
from mpc.mesh import Mesh, Peer
from mpc.transport import Identity, check_certificate, dial, listen
from mpc.watch import CONTROL, AbortedError, PeerLostError, PeerSilentError, SessionError

SESSION = bytes(32)


class Party:
    def __init__(self, name: str) -> None:
        self.name = name
        self.identity = Identity()
        self.listener = listen("127.0.0.1")
        port = self.listener.getsockname()[1]
        self.peer = Peer(name, self.identity.certificate, f"127.0.0.1:{port}")


def topology(names: list[str]) -> list[Channel]:
    controls = [Channel(a, b, CONTROL) for a in names for b in names if a < b]
    return controls + [Channel(a, b, "data") for a in names for b in names if a != b]


def joiner(parties: list[Party], silence_s: float = 5.0, within_s: float = 5.0):
    names = [party.name for party in parties]
    peers = {party.name: party.peer for party in parties}

    def join(party: Party) -> Mesh:
        others = {name: peer for name, peer in peers.items() if name != party.name}
        return Mesh.open(
            party.identity,
            party.listener,
            party.name,
            others,
            topology(names),
            SESSION,
            within_s=within_s,
            silence_s=silence_s,
        )

    return join


def together(actions: list[Callable[[], object]]) -> list[object]:
    with ThreadPoolExecutor(len(actions)) as pool:
        return [future.result(timeout=20) for future in [pool.submit(a) for a in actions]]


def joined(names: str, silence_s: float = 5.0) -> list[Mesh]:
    parties = [Party(name) for name in names]
    join = joiner(parties, silence_s)
    return together([lambda p=party: join(p) for party in parties])


@pytest.fixture
def three() -> Iterator[list[Mesh]]:
    meshes = joined("abc")
    yield meshes
    together([mesh.finish for mesh in meshes])


def test_frames_arrive_whole_and_in_order(three):
    a, b, _ = three
    big = bytes(range(256)) * 8192
    sending = threading.Thread(
        target=lambda: [a.to("b", "data").send(data, 5) for data in (b"", b"one", big)]
    )
    sending.start()
    inbound = b.of("a", "data")
    assert inbound.receive(5, limit=10) == b""
    assert inbound.receive(5, limit=10) == b"one"
    target = bytearray(len(big) + 5)
    assert inbound.receive_into(memoryview(target), 5) == len(big)
    assert target[:-5] == big
    sending.join()


def test_a_frame_beyond_the_limit_ends_the_session_by_name(three):
    a, b, _ = three
    a.to("b", "data").send(bytes(100), 5)
    with pytest.raises(SessionError, match="a broke the protocol") as caught:
        b.of("a", "data").receive(5, limit=99)
    assert caught.value.blamed == ("a",)


def test_a_reason_reaches_everybody_in_the_middle_of_a_wait():
    a, b, c = joined("abc")

    def wait(mesh: Mesh) -> SessionError:
        with pytest.raises(AbortedError) as caught:
            mesh.of("a", "data").receive(20, limit=10)
        mesh.abort(caught.value)
        return caught.value

    with ThreadPoolExecutor(2) as pool:
        waits = [pool.submit(wait, mesh) for mesh in (b, c)]
        started = time.monotonic()
        a.abort(SessionError("the sky fell", ("c",)))
        for waiting in waits:
            error = waiting.result(timeout=5)
            assert "a ended the session: the sky fell" in error.reason
            assert error.blamed == ("c",)
    assert time.monotonic() - started < 3


def test_who_lets_a_deadline_pass_is_named(three):
    _, b, _ = three
    with pytest.raises(PeerSilentError, match="a let the deadline for the sum pass") as caught:
        b.of("a", "data").receive(0.2, limit=10, what="the sum")
    assert caught.value.blamed == ("a",)


def test_a_send_that_nobody_reads_ends_at_its_deadline(three):
    a, _, _ = three
    with pytest.raises(PeerSilentError) as caught:
        a.to("b", "data").send(bytes(1 << 26), 0.3)
    assert caught.value.blamed == ("b",)


def test_one_who_never_comes_is_named():
    a, b, c = (Party(name) for name in "abc")
    join = joiner([a, b, c], within_s=0.5)
    with closing(c.listener):

        def refused(party: Party) -> SessionError:
            with pytest.raises(SessionError) as caught:
                join(party)
            return caught.value

        for error in together([lambda: refused(a), lambda: refused(b)]):
            assert "c" in error.blamed


def test_one_whose_process_is_gone_is_named():
    a, b, c = (Party(name) for name in "abc")
    c.listener.close()
    join = joiner([a, b, c], within_s=5)

    def refused(party: Party) -> SessionError:
        with pytest.raises(SessionError) as caught:
            join(party)
        return caught.value

    started = time.monotonic()
    for error in together([lambda: refused(a), lambda: refused(b)]):
        assert error.blamed == ("c",)
    assert time.monotonic() - started < 4


def test_a_certificate_of_another_key_is_refused_by_name():
    a, b = Party("a"), Party("b")
    b.identity = Identity()  # not the one that the manifest names
    join = joiner([a, b], within_s=2)

    def refused(party: Party) -> SessionError:
        with pytest.raises(SessionError) as caught:
            join(party)
        return caught.value

    error, _ = together([lambda: refused(a), lambda: refused(b)])
    assert isinstance(error, PeerLostError)
    assert error.blamed == ("b",)
    assert "certificate" in error.reason


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    """What the client reads after its handshake; raises what the client or the server met."""
    with closing(listen("127.0.0.1")) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def serve() -> None:
            plain, _ = listener.accept()
            plain.settimeout(5)
            with closing(server.wrap_socket(plain, server_side=True)) as tls:
                tls.sendall(b"\x01")

        with ThreadPoolExecutor(1) as pool:
            serving = pool.submit(serve)
            with closing(client.wrap_socket(dial(address, 5))) as tls:
                got = tls.recv(1)
            serving.result(timeout=5)
            return got


def test_only_pinned_certificates_pass():
    server, client, stranger = Identity(), Identity(), Identity()
    old = Identity(datetime.now(UTC) - timedelta(days=30))
    at_server = server.context(server=True, peers=[client.certificate, old.certificate])
    at_client = client.context(server=False, peers=[server.certificate])
    assert handshake(at_server, at_client) == b"\x01"
    for bad in (
        stranger.context(server=False, peers=[server.certificate]),
        old.context(server=False, peers=[server.certificate]),
        client.context(server=False, peers=[stranger.certificate]),
        bare(server.certificate),
    ):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(at_server, bad)


def bare(trusted: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=trusted)
    return context


def test_one_partys_certificate_does_not_pass_for_anothers():
    server, client = Identity(), Identity()
    other = Identity()
    at_server = server.context(server=True, peers=[client.certificate])
    at_client = client.context(server=False, peers=[server.certificate, other.certificate])
    with closing(listen("127.0.0.1")) as listener, ThreadPoolExecutor(1) as pool:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        accepting = pool.submit(lambda: at_server.wrap_socket(listener.accept()[0], True))
        with closing(at_client.wrap_socket(dial(address, 5))) as tls:
            check_certificate(tls, server.certificate)
            with pytest.raises(ssl.SSLCertVerificationError, match="another party"):
                check_certificate(tls, other.certificate)
        accepting.result(timeout=5).close()


def test_a_party_cannot_take_a_channel_that_is_not_its_own():
    a, b, c = (Party(name) for name in "abc")
    join = joiner([a, b, c], within_s=1.5)

    def impostor() -> bytes:
        context = c.identity.context(server=False, peers=[a.identity.certificate])
        with closing(context.wrap_socket(dial(a.peer.address, 5))) as tls:
            tls.sendall(bytes(32) + b"secret".ljust(32, b"\0"))
            return tls.recv(1)

    def refused(party: Party) -> SessionError:
        with pytest.raises(SessionError) as caught:
            join(party)
        return caught.value

    with closing(c.listener):
        results = together([impostor, lambda: refused(a), lambda: refused(b)])
    assert results[0] == b""


def test_identity_shows_no_key():
    assert repr(Identity()) == "Identity()"
    assert b"PRIVATE" not in Identity().certificate


def test_strangers_who_only_connect_do_not_keep_a_session_from_starting():
    parties = [Party(name) for name in "ab"]
    idle = [socket.create_connection(p.listener.getsockname()) for p in parties for _ in range(20)]
    join = joiner(parties)
    meshes = together([lambda p=party: join(p) for party in parties])
    together([mesh.finish for mesh in meshes])
    for connection in idle:
        connection.close()


def test_listeners_take_the_ports_that_they_are_given_and_no_other() -> None:
    with closing(listen("127.0.0.1")) as found:
        first = found.getsockname()[1]
    with closing(listen("127.0.0.1", first, first + 1)) as one:
        assert one.getsockname()[1] == first
        with pytest.raises(OSError, match="in use"):
            listen("127.0.0.1", first, first)
