"""Bytes between two workers: mutual TLS 1.3, pinned to the certificates of one session.

Every worker makes a key of its own in memory and reports only its certificate; the manifest
carries all certificates, and a connection counts only if the certificate at its other end is
exactly the one that the manifest names for that party. A certificate issued by a party's leaf,
an expired one, one of another session or none at all end the handshake.

Adversary: anybody on the network, and parties that pretend to be each other. TLS hides the
frames; it does not hide their number and sizes.

A connection carries frames in ONE direction, from the client that opened it to the server:
reading and writing one SSLSocket from two threads is unsafe. The server says a single byte after
the handshake, since a TLS 1.3 client believes itself connected before the server has refused it.
"""

import errno
import os
import socket
import ssl
import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocol.errors import RemoteProtocolError

Buffer: TypeAlias = bytes | bytearray | memoryview

LENGTH: Final = struct.Struct("<Q")
TUNNEL_LENGTH: Final = struct.Struct("<H")
CONFIRMATION: Final = b"\x01"
CERTIFICATE_LIFE: Final = timedelta(days=2)
_RECORD_BYTES: Final = 1 << 14  # the most of one TLS record (RFC 8446, 5.1)
_CLOCK_SKEW: Final = timedelta(hours=1)


class Identity:
    """A fresh key and its self-signed certificate, for one worker and one session."""

    __slots__ = ("_pem", "certificate")

    certificate: bytes
    """DER, the only part that leaves the process."""

    def __init__(self, now: datetime | None = None) -> None:
        moment = now or datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        signed = _certificate(key, moment - _CLOCK_SKEW, moment + CERTIFICATE_LIFE)
        self.certificate = signed.public_bytes(serialization.Encoding.DER)
        self._pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ) + signed.public_bytes(serialization.Encoding.PEM)

    def context(self, *, server: bool, peers: Iterable[bytes]) -> ssl.SSLContext:
        """A TLS 1.3 context that shows this identity and trusts exactly the `peers` (DER)."""
        side = ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the certificate itself is the name
        if server:
            context.num_tickets = 0
        self._load(context)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        for certificate in peers:
            context.load_verify_locations(cadata=certificate)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        # OpenSSL reads keys from files only: an anonymous one keeps the key off every disk.
        descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, self._pem)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)

    def __repr__(self) -> str:
        return "Identity()"


def _certificate(
    key: ec.EllipticCurvePrivateKey, start: datetime, end: datetime
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "northbund session")])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def check_certificate(tls: ssl.SSLSocket, expected: bytes) -> None:
    """ssl.SSLCertVerificationError unless the other end showed exactly `expected` (DER).

    A chain that verifies is not enough: any leaf of the session could stand at its top.
    """
    if tls.getpeercert(binary_form=True) != expected:
        raise ssl.SSLCertVerificationError("the certificate is another party's")


def listen(host: str, first: int = 0, last: int = 0) -> socket.socket:
    """A listening TCP socket on a free port of `host`, within `first` to `last` unless they are 0.

    OSError if all of those ports are taken, or `host` is no address of this machine.
    """
    for port in range(first, last):
        try:
            return _listen(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return _listen(host, last)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port of a session that has just ended may be taken again at once.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(256)
    except OSError:
        listener.close()
        raise
    return listener


def dial(address: str, timeout_s: float) -> socket.socket:
    """A TCP connection to `host:port` without Nagle's delay. OSError if nobody answers."""
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Frame:
    """A frame that is filled in place and sent without a copy: its length, then its payload."""

    __slots__ = ("_whole", "payload")

    payload: memoryview

    def __init__(self, size: int) -> None:
        self._whole = bytearray(LENGTH.size + size)
        LENGTH.pack_into(self._whole, 0, size)
        self.payload = memoryview(self._whole)[LENGTH.size :]

    def prefix(self, size: int) -> memoryview:
        """The frame cut down to its first `size` bytes of payload."""
        LENGTH.pack_into(self._whole, 0, size)
        return memoryview(self._whole)[: LENGTH.size + size]

    @property
    def whole(self) -> memoryview:
        """The frame as it was made, ready for the wire."""
        return self.prefix(len(self.payload))


def transmit(tls: ssl.SSLSocket, peer: str, label: str, data: Buffer) -> None:
    """Hand `data` to TLS: the one place through which a worker's bytes leave.

    `peer` and `label` say to which party and over which channel. Blocks until the kernel has it.
    """
    del peer, label  # for whoever stands between a worker and its TLS
    if len(data) <= _RECORD_BYTES or tls.family == socket.AF_UNIX:
        tls.sendall(data)
        return
    # OpenSSL writes record by record: uncorked, each is a segment and a wake-up of its own.
    tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    tls.sendall(data)
    tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)


def receive_exactly(tls: ssl.SSLSocket, target: memoryview) -> None:
    """Fill `target`. EOFError if the other end closes first."""
    filled, size = 0, len(target)
    while filled < size:
        count = tls.recv_into(target[filled:])
        if not count:
            raise EOFError
        filled += count


def receive_length(tls: ssl.SSLSocket, limit: int) -> int:
    """The length of the next frame. RemoteProtocolError if it passes `limit`."""
    head = bytearray(LENGTH.size)
    receive_exactly(tls, memoryview(head))
    (length,) = LENGTH.unpack(head)
    if length > limit:
        raise RemoteProtocolError(f"a frame of {length} bytes, at most {limit} are allowed")
    return int(length)
