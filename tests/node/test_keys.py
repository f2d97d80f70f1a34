import json
import pickle
import stat
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from node.errors import Fault
from node.keys import (
    Password,
    PeerKey,
    create_keystore,
    create_peer_key,
    keystore_account,
    load_peer_key,
    peer_id_of,
    read_password,
    unlock,
)

PASSWORD = Password("correct horse")


def kind_of(action: object, *arguments: object) -> str:
    with pytest.raises(Fault) as caught:
        action(*arguments)  # type: ignore[operator]
    assert PASSWORD.reveal() not in "".join(traceback.format_exception(caught.value))
    return caught.value.kind


def test_peer_id_is_that_of_the_specification() -> None:
    # libp2p specification, peer ids, test vector of an Ed25519 key
    public = bytes.fromhex("1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e")
    assert peer_id_of(public) == "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"


def test_a_peer_key_is_a_private_file_of_32_bytes(tmp_path: Path) -> None:
    file = tmp_path / "peer.key"
    key = create_peer_key(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes() == key.seed
    assert load_peer_key(file).peer_id == key.peer_id
    with pytest.raises(FileExistsError):
        create_peer_key(file)


def test_a_wrong_key_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "peer.key"
    assert kind_of(load_peer_key, file) == "key-missing"
    file.touch(mode=0o600)
    assert kind_of(load_peer_key, file) == "key-damaged"
    file.chmod(0o640)
    assert kind_of(load_peer_key, file) == "key-unsafe"
    assert kind_of(load_peer_key, tmp_path) in {"key-missing", "key-unsafe"}


def test_neither_repr_nor_pickle_shows_a_secret() -> None:
    key = PeerKey(bytes(range(32)))
    for shown in (repr(key), str(key), f"{key}", repr([key]), repr(PASSWORD), f"{PASSWORD}"):
        assert bytes(range(32)).hex() not in shown
        assert "horse" not in shown
    for secret in (key, PASSWORD):
        with pytest.raises(TypeError):
            pickle.dumps(secret)


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keystore.json"
    create_keystore(file, PASSWORD, light=True)
    return file


def test_a_keystore_opens_with_its_password_alone(keystore: Path) -> None:
    assert stat.S_IMODE(keystore.stat().st_mode) == 0o600
    account = keystore_account(keystore)
    assert bytes.fromhex(unlock(keystore, PASSWORD).address[2:]) == account
    assert kind_of(unlock, keystore, Password("wrong")) == "password-wrong"
    assert json.loads(keystore.read_text())["crypto"]["kdfparams"]["n"] == 2**14


def test_unlocking_leaves_the_recursion_limit_that_keeps_decoders_alive(keystore: Path) -> None:
    program = (
        "import json, sys\nfrom pathlib import Path\nfrom node.keys import Password, unlock\n"
        f"unlock(Path({str(keystore)!r}), Password('correct horse'))\n"
        "assert 'py_ecc' in sys.modules\n"
        "try: json.loads('[' * 500_000)\n"
        "except RecursionError: print(sys.getrecursionlimit())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"1000\n"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 3, "crypto": {}}', "\xff"])
def test_a_damaged_keystore_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keystore.json"
    file.touch(mode=0o600)
    file.write_text(text)
    assert kind_of(unlock, file, PASSWORD) == "key-damaged"
    assert kind_of(keystore_account, file) == "key-damaged"


def test_a_keystore_under_another_name_is_told(tmp_path: Path, keystore: Path) -> None:
    file = tmp_path / "keystore.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(json.loads(keystore.read_text()) | {"address": "00" * 20}))
    assert kind_of(unlock, file, PASSWORD) == "key-damaged"


def test_the_password_comes_from_the_file_then_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from file \n")
    environment = {"NORTHBUND_PASSWORD": "from environment"}
    of_file = read_password(file, environment)
    assert of_file is not None
    assert of_file.reveal() == "from file "
    of_environment = read_password(None, environment)
    assert of_environment is not None
    assert of_environment.reveal() == "from environment"
    assert read_password(None, {}) is None
    assert kind_of(read_password, tmp_path / "absent", {}) == "password-missing"
    file.write_text("\n")
    assert kind_of(read_password, file, {}) == "password-missing"
    file.write_bytes(b"\xff\xfe")
    assert kind_of(read_password, file, {}) == "password-missing"
