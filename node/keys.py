"""The node's two keys: Ed25519 for its peers, secp256k1 for its chain account.

Adversary: whoever reads logs, tracebacks, process lists or another user's files. The peer key is a
32-byte seed in a file of mode 0600; the account key stands encrypted (scrypt) in a keystore file
of the kind that Ethereum wallets read. A password comes from a file, the environment or a
terminal, never from a process argument. Whoever is root or reads the process's memory has both.
"""

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chain.recursion import restore_limit
from node.errors import Fault
from node.folder import write_private
from protocol.ids import Account, PeerId
from protocol.peers import peer_id_of

if TYPE_CHECKING:
    from eth_account import Account as Accounts
    from eth_account.signers.local import LocalAccount
    from nacl.signing import SigningKey

PASSWORD_VARIABLE = "NORTHBUND_PASSWORD"  # noqa: S105  a name, not a password
SEED_BYTES = 32
NETWORK_KEY_BYTES = 32
LIGHT_KDF_ITERATIONS = 2**14
"""scrypt's n of `--light-kdf`: 16 MiB and 30 ms, for demonstrations; the default takes 256 MiB."""


class Password:
    """A password that no log, traceback or repr shows; `reveal` is the one way to its text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The password itself."""
        return self._text

    def __repr__(self) -> str:
        return "Password(hidden)"

    def __reduce__(self) -> str:
        raise TypeError("a password is not written anywhere")


class PeerKey:
    """The node's Ed25519 key; only its public half shows."""

    __slots__ = ("_seed",)

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"an Ed25519 seed has {SEED_BYTES} bytes, not {len(seed)}")
        self._seed = seed

    @property
    def seed(self) -> bytes:
        """The secret seed, 32 bytes."""
        return self._seed

    @property
    def signing_key(self) -> "SigningKey":
        """The key as PyNaCl signs with it. Its `str` shows the secret: never format it."""
        from nacl.signing import SigningKey  # noqa: PLC0415  40 ms for those who sign

        return SigningKey(self._seed)

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return bytes(self.signing_key.verify_key)

    @property
    def peer_id(self) -> PeerId:
        """The libp2p peer id of this key."""
        return peer_id_of(self.public)

    def __repr__(self) -> str:
        return f"PeerKey({self.peer_id})"

    def __reduce__(self) -> str:
        raise TypeError("a key is not written anywhere but to its file")


def create_peer_key(path: Path) -> PeerKey:
    """A fresh key stands in `path`, mode 0600; FileExistsError if a file is there."""
    key = PeerKey(os.urandom(SEED_BYTES))
    write_private(path, key.seed)
    return key


def load_peer_key(path: Path) -> PeerKey:
    """The key in `path`; Fault `key-missing`, `key-unsafe`, `key-damaged`."""
    seed = read_private(path)
    if len(seed) != SEED_BYTES:
        raise Fault("key-damaged", f"{path} has {len(seed)} bytes; {SEED_BYTES} would be right")
    return PeerKey(seed)


def load_network_key(path: Path | None) -> bytes | None:
    """The 32 bytes in the file, which holds them as they are or as hexadecimal digits.

    They keep strangers out and hide that this is libp2p; secrecy is Noise's. py-libp2p's cipher
    has a nonce of 8 bytes where the specification has 24, so members of other libraries cannot be.
    Fault "key-missing", "key-unsafe", "key-damaged".
    """
    if path is None:
        return None
    held = read_private(path)
    if len(held) == NETWORK_KEY_BYTES:
        return held
    try:
        key = bytes.fromhex(held.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != NETWORK_KEY_BYTES:
        raise Fault(
            "key-damaged",
            f"{path} holds neither {NETWORK_KEY_BYTES} bytes nor twice as many hexadecimal digits",
        )
    return key


def create_keystore(path: Path, password: Password, *, light: bool = False) -> Account:
    """A fresh account's key stands encrypted in `path`, mode 0600; the account's address.

    FileExistsError if a file is there. `light` weakens the key derivation for demonstrations.
    """
    secret = os.urandom(32)
    encrypted = _accounts().encrypt(
        secret, password.reveal(), iterations=LIGHT_KDF_ITERATIONS if light else None
    )
    account = Account(bytes.fromhex(encrypted["address"].removeprefix("0x")))
    encrypted["address"] = account.hex()
    write_private(path, json.dumps(encrypted, indent=2).encode("ascii") + b"\n")
    return account


def keystore_account(path: Path) -> Account:
    """Whose key `path` holds, without its password; Fault as `unlock`, but for the password."""
    try:
        address = bytes.fromhex(str(_keystore(path)["address"]).removeprefix("0x"))
    except (KeyError, ValueError):
        address = b""
    if len(address) != 20:
        raise Fault("key-damaged", f"{path} names no account")
    return Account(address)


def unlock(path: Path, password: Password) -> "LocalAccount":
    """The account in `path`, able to sign. Takes half a second and 256 MiB unless made light.

    Fault `key-missing`, `key-unsafe`, `key-damaged`, `password-wrong`.
    """
    accounts = _accounts()
    keystore = _keystore(path)
    try:
        secret = accounts.decrypt(keystore, password.reveal())
    except ValueError as error:
        if "MAC mismatch" in str(error):
            raise Fault("password-wrong", f"the password does not open {path}") from None
        raise Fault("key-damaged", f"{path} is no keystore: {error}") from None
    except (KeyError, TypeError) as error:
        raise Fault("key-damaged", f"{path} is no keystore: {error!r}") from None
    account: LocalAccount = accounts.from_key(secret)
    if account.address.lower() != "0x" + keystore_account(path).hex():
        raise Fault("key-damaged", f"{path} names another account than the one whose key it holds")
    return account


def read_password(password_file: Path | None, environment: Mapping[str, str]) -> Password | None:
    """The password from the file, else from NORTHBUND_PASSWORD, else None.

    One line feed at the end of the file is not part of it. Fault `password-missing` if the file
    cannot be read or is empty.
    """
    if password_file is None:
        text = environment.get(PASSWORD_VARIABLE, "")
        return Password(text) if text else None
    try:
        text = password_file.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise Fault("password-missing", f"{password_file} cannot be read: {reason}") from None
    if not text:
        raise Fault("password-missing", f"{password_file} is empty")
    return Password(text)


def _accounts() -> "type[Accounts]":
    """eth-account, imported late: it takes half a second, and raises the recursion limit."""
    from eth_account import Account  # noqa: PLC0415

    restore_limit()
    return Account


def _keystore(path: Path) -> dict[str, Any]:
    try:
        keystore = json.loads(read_private(path))
    except ValueError:
        keystore = None
    if not isinstance(keystore, dict):
        raise Fault("key-damaged", f"{path} is no keystore: it is not a JSON object")
    return keystore


def read_private(path: Path) -> bytes:
    """What the file holds; Fault `key-missing`, `key-unsafe` if other users can read it.

    A pipe is not waited for: nobody may ever write to it.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(found):
                raise Fault("key-missing", f"{path} is no regular file")
            mode = stat.S_IMODE(found)
            if mode & 0o077:
                raise Fault(
                    "key-unsafe",
                    f"{path} has mode {mode:04o}, so that other users can read it; 0600 would be"
                    " right",
                )
            return file.read()
    except FileNotFoundError:
        raise Fault("key-missing", f"{path} is not there") from None
    except OSError as error:
        raise Fault("key-missing", f"{path} cannot be read: {error.strerror}") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
