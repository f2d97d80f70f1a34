"""Expected failures, by kind: the exit code, the JSON-RPC code and the remedy of each.

A `Fault` is what a person is told: one sentence with what is wrong, where, and what would be right.
It is raised where the wrong is found and travels as it is to the command line (exit code) and over
JSON-RPC (code and data). What is not a Fault is a bug and ends with a trace.

Exit codes 0 (done), 1 (a bug), 2 (the command itself was misspelt) and 130 (interrupted) are not
in the table. Ranges: 10 the node's folder and configuration, 20 keys, 30 datasets, 40 the chain,
50 the network, 60 the way to the daemon, 70 assets and terms, 80 tasks and sessions,
90 workers and the demo, 100 the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from protocol.errors import LocalProtocolError

APPLICATION_CODE_BASE = 1000
"""JSON-RPC 2.0 leaves every code outside -32768..-32000 to applications; ours are positive."""

_LONGEST_NAME = 64
"""Comparing takes time in proportion to the product of two lengths, and a stranger chooses one."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell reports it: 128 + SIGINT."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of failure.

    `exit_code` is the status of a command that met it, `rpc_code` the code of a JSON-RPC error,
    `remedy` one sentence that says what a person can do.
    """

    exit_code: int
    rpc_code: int
    remedy: str


def _kind(exit_code: int, remedy: str, rpc_code: int | None = None) -> Kind:
    code = APPLICATION_CODE_BASE + exit_code if rpc_code is None else rpc_code
    return Kind(exit_code, code, remedy)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        # the node's folder and configuration
        "config-missing": _kind(10, "Make the folder with `northbund -d FOLDER init`."),
        "config-invalid": _kind(11, "Correct the named line of northbund.toml."),
        "folder-exists": _kind(12, "Choose another folder; an existing node is never overwritten."),
        "folder-unsafe": _kind(13, "Give the folder to the node's own user with mode 0700."),
        "already-running": _kind(14, "Stop the other daemon, or give this one its own folder."),
        "port-in-use": _kind(15, "Stop what listens there, or configure another port."),
        "address-invalid": _kind(16, "Configure an address of this machine."),
        "database-damaged": _kind(17, "Restore the database from a backup."),
        "database-newer": _kind(18, "Install the release that wrote the database, or a later one."),
        "disk-full": _kind(19, "Make room on the disk that holds the node's folder."),
        # keys
        "password-missing": _kind(20, "Give --password-file FILE or set NORTHBUND_PASSWORD."),
        "password-wrong": _kind(21, "Give the password with which the node was initialised."),
        "key-missing": _kind(22, "Restore the key file from a backup; it cannot be made again."),
        "key-damaged": _kind(23, "Restore the key file from a backup."),
        "key-unsafe": _kind(24, "Make the key file readable by its owner alone (chmod 600)."),
        "signer-failed": _kind(
            25, "Start the signer of [signer], and let it sign for the account."
        ),
        # datasets
        "dataset-unknown": _kind(30, "Name a dataset that stands in northbund.toml."),
        "dataset-file-missing": _kind(31, "Correct the path in northbund.toml, or bring the file."),
        "dataset-file-unreadable": _kind(32, "Give the node a readable CSV or Parquet file."),
        "dataset-column-missing": _kind(33, "Name only columns that the file has."),
        "dataset-id-empty": _kind(34, "Give every row an id."),
        "dataset-id-duplicate": _kind(35, "Keep one row for each id."),
        "dataset-not-numeric": _kind(36, "Correct the values, or declare the column a category."),
        "dataset-not-finite": _kind(37, "Replace infinite values, or leave them empty as missing."),
        "dataset-empty": _kind(38, "Give the node a file with rows."),
        "dataset-label-invalid": _kind(39, "Use a label column that holds only 0 and 1."),
        # the chain
        "chain-unreachable": _kind(40, "Start the chain's node, or correct chain.url."),
        "chain-wrong": _kind(41, "Point chain.url to the chain whose id is chain.chain_id."),
        "contracts-missing": _kind(42, "Correct the contracts' addresses, or deploy them."),
        "transaction-refused": _kind(43, "Read the contract's reason; nothing was changed."),
        "funds-missing": _kind(
            44,
            "Send ether to the account (`northbund devchain --fund` does on a chain of its own).",
        ),
        "anvil-missing": _kind(45, "Install anvil, set ANVIL to it, or install npm and try again."),
        "anvil-failed": _kind(46, "Start anvil by hand on that port to see why."),
        "chain-not-configured": _kind(47, "Fill in the table [chain] of northbund.toml."),
        "chain-timeout": _kind(48, "Wait for the chain, then ask `chain status`."),
        "deployment-invalid": _kind(49, "Name a file that `northbund devchain --deploy` wrote."),
        # the network
        "peer-unknown": _kind(50, "Add the organisation and its addresses to northbund.toml."),
        "peer-unreachable": _kind(51, "Check that the peer runs and that its address is right."),
        "peer-timeout": _kind(52, "Try again; if it stays silent, ask the peer's operator."),
        "peer-refused": _kind(53, "Read the peer's reason."),
        # the way to the daemon
        "daemon-not-running": _kind(60, "Start it with `northbund -d FOLDER run`."),
        "daemon-unauthorised": _kind(61, "Use the secret in rpc.cookie of the running daemon."),
        "daemon-answer-invalid": _kind(62, "Use a client of the daemon's own release."),
        "daemon-timeout": _kind(63, "Ask `northbund status`; the daemon may be busy."),
        "daemon-starting": _kind(64, "Wait a moment and try again."),
        "parse-error": _kind(65, "Send one valid JSON text.", -32700),
        "request-invalid": _kind(66, "Send a JSON-RPC 2.0 request object or batch.", -32600),
        "method-unknown": _kind(67, "Ask `rpc.discover` for the methods.", -32601),
        "parameters-invalid": _kind(
            68, "Correct what the sentence names; `rpc.discover` lists all parameters.", -32602
        ),
        "internal-error": _kind(69, "Read the daemon's log under the request's number.", -32603),
        # assets and terms
        "cdt-unknown": _kind(70, "Ask `northbund cdt list` for what this node knows."),
        "document-invalid": _kind(71, "Publish a document that follows the rules."),
        "document-unavailable": _kind(72, "Wait until its owner, or somebody who has it, is back."),
        "composition-invalid": _kind(73, "Compose only what the children allow."),
        "terms-invalid": _kind(74, "Correct the terms that the sentence names."),
        "terms-refused": _kind(75, "Ask for what the owner's terms permit."),
        "negotiation-unknown": _kind(76, "Ask `northbund negotiations list`."),
        "negotiation-state": _kind(77, "Look with `northbund negotiations show`."),
        "grant-unknown": _kind(78, "Ask `northbund grants list`."),
        "grant-unusable": _kind(79, "Negotiate a new grant."),
        # tasks and sessions
        "task-unknown": _kind(80, "Ask `northbund task list`."),
        "task-state": _kind(81, "Look at the task's state with `northbund task show`."),
        "attestation-refused": _kind(82, "Mend what the check found; nothing was signed."),
        "operation-unknown": _kind(83, "Install the package that brings the operation."),
        "session-unknown": _kind(85, "Ask `northbund session list`."),
        "session-refused": _kind(86, "Read who said no and by which rule."),
        "session-aborted": _kind(87, "Read the stage and the party named, then start again."),
        "budget-exhausted": _kind(88, "Ask for fewer openings, or for other rows."),
        "payment-nothing": _kind(89, "Wait until a task is settled."),
        # workers and the demo
        "worker-failed": _kind(90, "Read the worker's log in the node's folder."),
        "extra-missing": _kind(91, "Install the extra: `pip install 'northbund[demo]'`."),
        "demo-running": _kind(92, "End it with `northbund demo --clean`."),
        "demo-failed": _kind(93, "Read the log that the sentence names."),
        # the rest
        "chain-refused": _kind(100, "Read what the chain's node said."),
        "chain-reorganised": _kind(101, "Run `northbund chain resync`, then start the node."),
        "request-too-large": _kind(103, "Send less at once."),
        "input-invalid": _kind(104, "Correct the argument that the sentence names."),
        "examples-failed": _kind(109, "Correct the policy, or the example that expects too much."),
        "folder-missing": _kind(105, "Name an existing folder."),
        "request-unknown": _kind(106, "Ask `northbund requests list`."),
        "request-decided": _kind(107, "Look with `northbund requests show`."),
    }
)


class Fault(Exception):  # noqa: N818  an expected outcome, not an error of the program
    """An expected failure of one `kind`, told in one `sentence`, with `data` for programs.

    `data` holds plain JSON values and never a secret. LocalProtocolError if the kind is not in
    KINDS: that is a bug of the caller.
    """

    def __init__(self, kind: str, sentence: str, **data: Any) -> None:
        if kind not in KINDS:
            raise LocalProtocolError(f"{kind!r} is no kind of fault")
        super().__init__(sentence)
        self.kind = kind
        self.sentence = sentence
        self.data: dict[str, Any] = data

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (self.kind, self.sentence, self.data))

    @property
    def exit_code(self) -> int:
        """The status with which a command ends."""
        return KINDS[self.kind].exit_code

    @property
    def rpc_code(self) -> int:
        """The code of the JSON-RPC error object."""
        return KINDS[self.kind].rpc_code

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return KINDS[self.kind].remedy


def _restore(kind: str, sentence: str, data: dict[str, Any]) -> Fault:
    return Fault(kind, sentence, **data)


def nearest(word: str, known: list[str]) -> str | None:
    """The member of `known` that `word` was probably meant to be, or None if none is near."""
    from difflib import get_close_matches  # noqa: PLC0415  only when something was misspelt

    matches = get_close_matches(word[:_LONGEST_NAME], known, n=1, cutoff=0.6)
    return matches[0] if matches else None
