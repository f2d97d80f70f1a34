"""Commands: what each asks of the daemon, what a person sees, how each wrong input ends."""

import json
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from node.api import table
from node.cli import calls, nodes, output, program
from node.errors import KINDS, Fault
from node.keys import Password, unlock

if TYPE_CHECKING:
    from node.api.rooms import Rooms

CDT = "0x" + "ab" * 32


class Daemon:
    """Stands where the client stands: hears calls, gives `result`, or raises it."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.result: Any = {"state": "fine"}

    def client(self, folder: Path, *, timeout_s: float) -> "Daemon":
        self.folder, self.timeout_s = folder, timeout_s
        return self

    def call(self, method: str, /, **parameters: Any) -> Any:
        self.heard.append((method, parameters))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    fake = Daemon()
    monkeypatch.setattr(calls, "Client", fake.client)
    return fake


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.delenv("NORTHBUND_PASSWORD", raising=False)

    def run_command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["northbund", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            program.run()
        told = capfd.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run_command


COMMANDS: list[tuple[str, str, dict[str, Any]]] = [
    ("status", "node_status", {}),
    ("peers", "peer_list", {}),
    ("dataset check rows", "dataset_check", {"name": "rows"}),
    ("dataset publish rows", "dataset_publish", {"name": "rows"}),
    ("compute publish", "compute_publish", {}),
    ("cdt list", "cdt_list", {}),
    (
        "cdt list --type data --owner bank-a --state all --limit 9 --after cursor",
        "cdt_list",
        {"type": "data", "owner": "bank-a", "state": "all", "limit": 9, "after": "cursor"},
    ),
    (
        "cdt search credit facts --meetable --purpose risk",
        "cdt_search",
        {"text": "credit facts", "meetable": True, "purpose": "risk"},
    ),
    (f"cdt withdraw {CDT}", "cdt_withdraw", {"cdt": CDT}),
    (f"cdt offer {CDT}", "cdt_offer", {"cdt": CDT}),
    ("organisations", "organisation_list", {}),
    ("organisations --after 0x01 --limit 5", "organisation_list", {"after": "0x01", "limit": 5}),
    ("bind", "organisation_publish", {}),
    (
        "bind --valid-days 30 --address /ip4/192.0.2.1/tcp/4001 --description bank",
        "organisation_publish",
        {"valid_days": 30, "description": "bank", "addresses": ["/ip4/192.0.2.1/tcp/4001"]},
    ),
    ("bind --end", "organisation_end", {}),
    (f"cdt show {CDT}", "cdt_show", {"cdt": CDT}),
    (f"cdt tree {CDT}", "cdt_tree", {"cdt": CDT}),
    (f"negotiate {CDT}", "negotiation_start", {"algorithm": CDT}),
    (
        f"negotiate {CDT} --child {CDT} --child 0x01 --uses 2 --valid 60",
        "negotiation_start",
        {"algorithm": CDT, "children": [CDT, "0x01"], "uses": 2, "valid_s": 60},
    ),
    (
        f"negotiate {CDT} --pay-most 7 --uses-least 1 --valid-least 60",
        "negotiation_start",
        {"algorithm": CDT, "pay_most": "7", "uses_least": 1, "valid_least_s": 60},
    ),
    ("negotiations list", "negotiation_list", {}),
    (
        "negotiations list --state OFFERED --limit 5 --after n1",
        "negotiation_list",
        {"state": "OFFERED", "limit": 5, "after": "n1"},
    ),
    ("negotiations show n1", "negotiation_show", {"id": "n1"}),
    ("negotiations accept n1", "negotiation_accept", {"id": "n1"}),
    ("negotiations withdraw n1", "negotiation_withdraw", {"id": "n1"}),
    ("requests list", "request_list", {}),
    ("requests list --all", "request_list", {"decided": True}),
    ("requests show n1", "request_show", {"id": "n1"}),
    ("requests approve n1 --by ann", "request_approve", {"id": "n1", "by": "ann"}),
    (
        "requests refuse n1 --by ann --remark rival",
        "request_refuse",
        {"id": "n1", "by": "ann", "remark": "rival"},
    ),
    ("grants list", "grant_list", {}),
    (f"grants revoke {CDT} {CDT}", "grant_revoke", {"child": CDT, "parent": CDT}),
    ("grants revoke --failing", "grant_revoke_failing", {}),
    ("grants review", "grant_review", {}),
    ("terms reload", "terms_reload", {}),
    (f"terms explain {CDT}", "terms_explain", {"request": CDT}),
    (f"terms explain {CDT} {CDT}", "terms_explain", {"request": CDT, "child": CDT}),
    (
        f"task open {CDT} --budget 100 --deadline 60",
        "task_open",
        {"algorithm": CDT, "budget": "100", "deadline_s": 60},
    ),
    (f"task attest {CDT}", "task_attest", {"task": CDT}),
    ("task list", "task_list", {}),
    (f"task show {CDT}", "task_show", {"task": CDT}),
    (f"task claim {CDT}", "task_claim", {"task": CDT}),
    (f"task settle {CDT}", "task_settle", {"task": CDT}),
    (f"session start {CDT}", "session_start", {"task": CDT}),
    (f"session start {CDT} --seed 7", "session_start", {"task": CDT, "seed": 7}),
    ("session list", "session_list", {}),
    (f"session show {CDT}", "session_show", {"session": CDT}),
    (f"session stop {CDT}", "session_stop", {"session": CDT}),
    (f"trace {CDT}", "trace_asset", {"cdt": CDT}),
    ("prices", "price_list", {}),
    ("budget rows", "budget_show", {"dataset": "rows"}),
    ("subject applicant-00001", "subject_uses", {"id": "applicant-00001"}),
    ("chain status", "chain_status", {}),
    ("chain gas", "chain_gas", {}),
    ("payments list", "payment_list", {}),
    ("payments withdraw", "payment_withdraw", {}),
]


@pytest.mark.parametrize(("words", "method", "parameters"), COMMANDS)
def test_a_command_asks_its_method_and_shows_the_answer(
    run: Run, daemon: Daemon, words: str, method: str, parameters: dict[str, Any]
) -> None:
    daemon.result = {"state": "fine", "story": ["fine"], "children": [{"cdt": "0x01"}]}
    status, out, err = run(*words.split())
    assert (status, err) == (0, "")
    assert "fine" in out
    status, out, err = run(*words.split(), "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == daemon.result
    assert daemon.heard == [(method, parameters)] * 2


FROM_FILES = {"algorithm_compose"}


def test_the_daemon_has_exactly_these_methods_with_these_parameters() -> None:
    methods = {method.name: method for method in table(cast("Rooms", None))}
    assert {method for _, method, _ in COMMANDS} | FROM_FILES == set(methods)
    for _, method, parameters in COMMANDS:
        msgspec.convert(parameters, methods[method].parameters)


def test_every_method_explains_itself_by_a_summary_and_an_example_that_fits() -> None:
    for method in table(cast("Rooms", None)):
        assert method.summary, method.name
        msgspec.convert(dict(method.example), method.parameters)


@pytest.mark.parametrize("command", ["compose"])
@pytest.mark.parametrize(("name", "text"), [("a.toml", 'name = "x"'), ("a.json", '{"name": "x"}')])
def test_requests_that_are_long_come_from_a_file(
    run: Run, daemon: Daemon, tmp_path: Path, command: str, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    assert run(*command.split(), tmp_path / name, "--json")[0] == 0
    assert daemon.heard[0][1] == {"name": "x"}
    assert run(*command.split(), tmp_path / name, "--check")[0] == 0
    assert daemon.heard[1][1] == {"name": "x", "check_only": True}


@pytest.mark.parametrize("text", [None, b"\xff", b"{", b"[1]"])
def test_a_file_that_is_no_request_is_told(
    run: Run, daemon: Daemon, tmp_path: Path, text: bytes | None
) -> None:
    file = tmp_path / "a.json"
    if text is not None:
        file.write_bytes(text)
    status, out, err = run("compose", file)
    assert (status, out) == (KINDS["input-invalid"].exit_code, "")
    assert str(file) in err
    assert daemon.heard == []


def test_rpc_hands_on_an_object_and_prints_json(run: Run, daemon: Daemon) -> None:
    assert run("rpc", "cdt_show", '{"cdt": "0x01"}')[:2] == (0, '{\n  "state": "fine"\n}\n')
    assert daemon.heard == [("cdt_show", {"cdt": "0x01"})]
    for wrong in ("{", "[1]", "1"):
        assert run("rpc", "cdt_show", wrong)[0] == KINDS["input-invalid"].exit_code


def test_the_folder_comes_from_the_option_then_the_environment_then_home(
    run: Run, daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(program.FOLDER_VARIABLE, raising=False)
    run("status")
    assert daemon.folder == tmp_path / ".northbund"
    monkeypatch.setenv(program.FOLDER_VARIABLE, str(tmp_path / "other"))
    run("status")
    assert daemon.folder == tmp_path / "other"
    run("-d", tmp_path / "third", "--timeout", "5", "status")
    assert (daemon.folder, daemon.timeout_s) == (tmp_path / "third", 5.0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fault_is_a_sentence_a_remedy_and_its_exit_code(
    run: Run, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(calls, "STARTING_S", 0)
    daemon.result = Fault(kind, "it went wrong", detail=1)
    status, out, err = run("status")
    assert (status, out) == (KINDS[kind].exit_code, "")
    assert err == f"northbund: it went wrong\n  {KINDS[kind].remedy}\n"
    status, out, err = run("status", "--json")
    assert (status, out) == (KINDS[kind].exit_code, "")
    assert json.loads(err)["error"] == {
        "kind": kind,
        "sentence": "it went wrong",
        "remedy": KINDS[kind].remedy,
        "data": {"detail": 1},
    }


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (ExceptionGroup("", [ExceptionGroup("", [Fault("port-in-use", "taken")])]), 15),
        (BaseExceptionGroup("", [KeyboardInterrupt()]), 130),
        (ExceptionGroup("", [Fault("port-in-use", "taken"), ValueError("a bug")]), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_nurseries_raise_ends_as_it_would_alone(
    run: Run, monkeypatch: pytest.MonkeyPatch, raised: BaseException, status: int
) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise raised

    monkeypatch.setattr(calls, "Client", fail)
    assert run("status")[0] == status


@pytest.mark.parametrize(
    "words", [["statsu"], ["cdt", "show"], ["status", "--jsn"], ["task", "open", "x"]]
)
def test_a_misspelt_command_is_usage(run: Run, daemon: Daemon, words: list[str]) -> None:
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert "Error" in err


def test_no_daemon_is_told(run: Run, tmp_path: Path) -> None:
    status, out, err = run("-d", tmp_path, "status")
    assert (status, out) == (KINDS["daemon-not-running"].exit_code, "")
    assert str(tmp_path) in err


# what a person sees


def shown(capsys: pytest.CaptureFixture[str], value: Any) -> str:
    output.print_value(value)
    return capsys.readouterr().out


def test_values_as_tables(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": "a", "ok": True, "void": None, "inner": {"x": 1, "deep": {"y": ""}}}
    assert shown(capsys, value) == (
        "name          a\nok            yes\nvoid          -\ninner x       1\ninner deep y  -\n"
    )
    text = shown(capsys, {"rows": [{"x": 1, "y": [1, 2]}, {"z": {"k": "v"}}]})
    assert text == "\nrows\nx  y     z\n1  1, 2  -\n-  -     k v\n"
    for empty in ([], {}):
        assert shown(capsys, empty) == "none\n"
    assert shown(capsys, ["b", "c"]) == "b\nc\n"
    assert shown(capsys, None) == "-\n"
    assert CDT in shown(capsys, [{"cdt": CDT, "owner": CDT}])


def test_alike_objects_are_a_table_times_are_dates_and_long_lists_are_short(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gas = {"open": {"count": 1, "gas": 7}, "settle": {"count": 2, "gas": 9}}
    table_of_gas = "        count  gas\nopen    1      7\nsettle  2      9\n"
    assert shown(capsys, gas) == table_of_gas
    assert shown(capsys, {"gas": gas, "n": 1}) == "n  1\n\ngas\n" + table_of_gas
    times = {"expires": 1796051555, "opened_at": 1796051555.5, "uptime_s": 33.1094567, "at": 3}
    assert shown(capsys, times) == (
        "expires    2026-11-30 15:12:35 UTC\nopened_at  2026-11-30 15:12:35 UTC\n"
        "uptime_s   33.1095\nat         3\n"
    )
    assert shown(capsys, {"losses": [0.5 + n / 7 for n in range(99)]}) == (
        "losses  0.5 … 14.5 (99 values)\n"
    )
    findings = [{"operand": "x", "asked": "y", "passed": True}] * 3
    assert shown(capsys, [{"id": 1, "findings": findings}]).endswith("1   3 entries\n")
    many = [{f"column {n}": "x" * 66 for n in range(9)}]
    assert len(shown(capsys, many).splitlines()) == 2


def test_a_strangers_name_is_neither_markup_nor_an_escape_sequence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hostile = "[red]x[/red]\x1b[2J\x07\u202e:smile:\n"
    for value in (hostile, [hostile], {hostile: hostile}, [{hostile: hostile}]):
        text = shown(capsys, value)
        assert "[red]x[/red]" in text
        assert ":smile:" in text
        assert not set("\x1b\x07\u202e") & set(text)
    output.print_tree({"name": hostile, "children": [{"name": hostile}]})
    assert "\x1b" not in capsys.readouterr().out


# init, config, run


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("correct horse\n")
    return file


def init(run: Run, folder: Path, password: Path, *more: object) -> tuple[int, str, str]:
    words = ("--name", "bank-a", "--light-kdf", "--password-file", password)
    return run("-d", folder, "init", *words, *more)


def test_init_makes_a_private_node_that_config_check_accepts(
    run: Run, tmp_path: Path, password: Path
) -> None:
    folder = tmp_path / "node"
    deployment = tmp_path / "deployment.json"
    chain = {"url": "http://127.0.0.1:8545", "chain_id": 31337, "block": 3}
    chain |= dict.fromkeys(("registry", "market", "token"), "0x" + "ab" * 20)
    deployment.write_text(json.dumps(chain))
    more = ("--network", "trial", "--rpc-port", 7001, "--deployment", deployment, "--json")
    status, out, err = init(run, folder, password, *more)
    assert (status, err) == (0, "")
    made = json.loads(out)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in [folder, *folder.iterdir()]}
    assert modes == {
        "node": 0o700,
        "northbund.toml": 0o600,
        "peer.key": 0o600,
        "keystore.json": 0o600,
    }
    account = unlock(folder / "keystore.json", Password("correct horse"))
    assert account.address.lower() == made["account"]
    status, out, _ = run("-d", folder, "config", "check", "--json")
    assert status == 0
    assert (json.loads(out)["peer_id"], json.loads(out)["account"]) == (
        made["peer_id"],
        made["account"],
    )
    config = json.loads(run("-d", folder, "config", "show", "--json")[1])
    defaults = {"confirmations": 0, "poll_s": 1.0, "urls": [], "fee_cap_gwei": 500}
    assert config["chain"] == chain | defaults
    assert (config["network"], config["rpc"]) == ("trial", {"port": 7001})


def test_init_never_touches_an_existing_node(run: Run, tmp_path: Path, password: Path) -> None:
    assert init(run, tmp_path / "node", password)[0] == 0
    before = {file: file.read_bytes() for file in (tmp_path / "node").iterdir()}
    assert init(run, tmp_path / "node", password)[0] == KINDS["folder-exists"].exit_code
    assert {file: file.read_bytes() for file in (tmp_path / "node").iterdir()} == before


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        (("--listen", "nowhere"), "config-invalid"),
        (("--network", "A B"), "config-invalid"),
        (("--rpc-port", "70000"), "config-invalid"),
        (("--data-host", 'x"\ny'), "input-invalid"),
        (("--deployment", "/nowhere"), "deployment-invalid"),
        (("--deployment", "/dev/null"), "deployment-invalid"),
    ],
)
def test_a_wrong_init_leaves_nothing(
    run: Run, tmp_path: Path, password: Path, more: tuple[str, ...], kind: str
) -> None:
    status, out, _ = init(run, tmp_path / "node", password, *more)
    assert (status, out) == (KINDS[kind].exit_code, "")
    assert not (tmp_path / "node").exists()


def test_an_init_that_fails_in_the_middle_leaves_nothing(
    run: Run, tmp_path: Path, password: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from node.cli import initialise  # noqa: PLC0415

    def full(*_arguments: object, **_options: object) -> None:
        raise Fault("disk-full", "the disk is full")

    monkeypatch.setattr(initialise, "create_keystore", full)
    assert init(run, tmp_path / "node", password)[0] == KINDS["disk-full"].exit_code
    assert not (tmp_path / "node").exists()


NORTHBUND = [sys.executable, "-c", "from node.cli import main; main()"]


def test_without_a_password_or_a_terminal_nothing_is_made(tmp_path: Path) -> None:
    done = subprocess.run(
        [*NORTHBUND, "-d", str(tmp_path / "node"), "init", "--name", "bank-a"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={name: value for name, value in os.environ.items() if name != "NORTHBUND_PASSWORD"},
        text=True,
        check=False,
    )
    assert done.returncode == KINDS["password-missing"].exit_code
    assert not (tmp_path / "node").exists()


def typed(folder: Path, *lines: bytes) -> tuple[int, bytes]:
    """Exit code and screen of an `init` on a terminal where a person types `lines`."""
    ours, theirs = pty.openpty()
    command = [*NORTHBUND, "-d", str(folder), "init", "--name", "bank-a", "--light-kdf"]
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if name != "NORTHBUND_PASSWORD"},
    ) as process:
        os.close(theirs)
        screen, answers = b"", list(lines)
        try:
            while part := os.read(ours, 1024):
                screen += part
                if screen.endswith(b": ") and answers:  # the echo is off once a prompt is whole
                    os.write(ours, answers.pop(0))
        except OSError:  # how a terminal says that the other side has closed it
            pass
        finally:
            os.close(ours)
        return process.wait(30), screen


def test_a_terminal_is_asked_twice_and_shows_nothing(tmp_path: Path) -> None:
    status, screen = typed(tmp_path / "node", b"correct horse\n", b"correct horse\n")
    assert status == 0
    assert b"horse" not in screen
    assert unlock(tmp_path / "node" / "keystore.json", Password("correct horse")).address


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((b"one\n", b"two\n"), KINDS["password-missing"].exit_code),
        ((b"\n", b"\n"), KINDS["password-missing"].exit_code),
        ((b"\x04",), KINDS["password-missing"].exit_code),
    ],
)
def test_a_slip_on_the_terminal_makes_nothing(
    tmp_path: Path, lines: tuple[bytes, ...], status: int
) -> None:
    assert typed(tmp_path / "node", *lines)[0] == status
    assert not (tmp_path / "node").exists()


def test_run_refuses_before_it_imports_the_daemon(run: Run, tmp_path: Path, password: Path) -> None:
    command = ("run", "--password-file", password)
    assert run("-d", tmp_path / "none", *command)[0] == KINDS["config-missing"].exit_code
    init(run, tmp_path / "node", password)
    (tmp_path / "node").chmod(0o755)
    assert run("-d", tmp_path / "node", *command)[0] == KINDS["folder-unsafe"].exit_code
    (tmp_path / "node").chmod(0o700)
    absent = ("run", "--password-file", tmp_path / "absent")
    assert run("-d", tmp_path / "node", *absent)[0] == KINDS["password-missing"].exit_code


def test_the_password_is_never_an_argument() -> None:
    options = {option for command in (nodes.init, nodes.run) for option in command.__annotations__}
    assert "password" not in options


HEAVY = ("rich", "trio", "structlog", "starlette", "hypercorn", "web3", "libp2p", "eth_account")
HEAVY += ("numpy", "msgspec", "duckdb", "nacl", "asyncio")


@pytest.mark.parametrize("words", [["--help"], ["cdt", "--help"], ["status"], ["status", "--json"]])
def test_help_and_status_load_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    program_text = (
        "import sys\nfrom node.cli import main\n"
        "try: main()\n"
        f"finally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program_text, "-d", str(tmp_path), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_command_waits_for_a_daemon_that_is_starting(
    run: Run, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(_: float) -> None:
        daemon.result = {"name": "bank-a"}

    daemon.result = Fault("daemon-starting", "the chain is being connected")
    monkeypatch.setattr(calls.time, "sleep", started)
    status, out, err = run("status")
    assert (status, "bank-a" in out) == (0, True)
    assert err == "northbund: the chain is being connected; waiting for it …\n"
