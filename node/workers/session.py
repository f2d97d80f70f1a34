"""What contributor, member and recipient have in common: keys, connections, and how they end.

A worker makes its TLS and session keys itself and keeps them in memory; it checks the manifest
that its daemon hands it, and names whoever a session ends by, first to its daemon and then to
the other workers.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from socket import socket
from time import monotonic, sleep

from nacl.signing import SigningKey

from mpc import topology
from mpc.committee import Committee
from mpc.field import PrimeField, field_named
from mpc.fixedpoint import Grid, grid_for
from mpc.mesh import Mesh, Peer
from mpc.setting import Setting
from mpc.transport import Identity, listen
from mpc.watch import SessionError
from node.errors import Fault
from node.workers import messages as m
from node.workers.desk import EXIT_FAILED, EXIT_FINISHED, Desk, leave, log_to_stderr
from protocol.codec import decode, digest
from protocol.errors import RemoteProtocolError
from protocol.manifest import Parameters, Role, Roster, RowSet, check_roster

log = logging.getLogger("worker")

MIN_CONTRIBUTORS = 2
WAIT_WORTH_TELLING_S = 0.5
GLANCE_S = 0.2
_ROSTER_LIMIT_BYTES = 1 << 20

Summary = m.ContributorSummary | m.MemberSummary | m.RecipientSummary


@dataclass(slots=True)
class Session:
    """One session as this worker sees it."""

    desk: Desk
    roster: Roster
    roster_digest: bytes
    me: str
    session_key: SigningKey
    mesh: Mesh
    started: float
    stage: m.Stage = "connect"
    _done: tuple[int, int] = (0, 0)
    _last_report: float = 0.0

    @property
    def parameters(self) -> Parameters:
        """The parameters of the operation."""
        return self.roster.parameters

    @property
    def contributors(self) -> tuple[str, ...]:
        """Names in the roster's order."""
        return tuple(party.name for party in self.roster.by_role("contributor"))

    @property
    def recipient(self) -> str:
        """The recipient's name."""
        return self.roster.by_role("recipient")[0].name

    @property
    def recipient_key(self) -> bytes:
        """The Ed25519 key that signs round headers."""
        return self.roster.by_role("recipient")[0].session_key

    @property
    def committee(self) -> Committee:
        """The members at their points."""
        names = tuple(party.name for party in self.roster.by_role("member"))
        return Committee(names, self.roster.threshold)

    @property
    def field(self) -> PrimeField:
        """The field of the shares."""
        return field_named(self.parameters.field)

    @property
    def grid(self) -> Grid:
        """The grid that every party derives alike."""
        noisy = self.parameters.noise > 0
        return grid_for(self.field, self.parameters.clip, len(self.contributors), noisy=noisy)

    def setting(self, manifest: bytes) -> Setting:
        """What this worker knows of the rounds under that manifest."""
        keys = {party.name: party.session_key for party in self.roster.parties}
        return Setting(
            mesh=self.mesh,
            key=self.session_key,
            recipient=self.recipient,
            recipient_key=self.recipient_key,
            contributors={name: keys[name] for name in self.contributors},
            members={name: keys[name] for name in self.committee.members},
            threshold=self.roster.threshold,
            field=self.field,
            width=self.parameters.width,
            manifest=manifest,
            attempt=self.roster.attempt,
            check_every=self.parameters.check_every,
            deadline_s=self.round_deadline_s,
            answers_needed=self.answers_needed,
        )

    @property
    def answers_needed(self) -> int:
        """How few members the rounds can go on with."""
        parameters = self.parameters
        if "mpyc" in (parameters.engine, parameters.evaluation_engine):
            return len(self.committee.members)
        return self.roster.threshold + (1 if parameters.prefer == "availability" else 2)

    @property
    def round_deadline_s(self) -> float:
        """How long a party may keep its neighbours waiting within a round."""
        return float(self.roster.round_deadline_s)

    @property
    def seconds(self) -> float:
        """Since the roster arrived."""
        return monotonic() - self.started

    def alignment_left_s(self) -> float:
        """What is left of the alignment's deadline."""
        return max(0.1, self.roster.alignment_deadline_s - self.seconds)

    def agreed_rows(self, rows_hash: bytes | None, rows: int | None) -> tuple[RowSet, bytes]:
        """The signed row set, once the daemon hands it over, and the manifest's digest.

        SessionError if it is of another roster or of other rows than this worker aligned.
        """
        run = self.desk.receive(m.Run, glance=self.mesh.check)
        try:
            row_set = decode(run.row_set, RowSet)
        except RemoteProtocolError as error:
            raise SessionError(f"the row set is malformed: {error}") from error
        same = rows_hash in (None, row_set.rows_hash) and rows in (None, row_set.rows)
        if row_set.roster != self.roster_digest or not same:
            raise SessionError("the row set is not that of this roster and these rows")
        return row_set, digest(row_set)

    def progress(self, stage: m.Stage, done: int, total: int, *, loss: float | None = None) -> None:
        """Tell the daemon how far this is, five times a second at most."""
        self.stage, self._done = stage, (done, total)
        now = monotonic()
        if now - self._last_report >= 0.2 or done == total:
            self._last_report = now
            self.desk.report(m.Progress(stage=stage, done=done, total=total, loss=loss))

    def report_waits(self) -> None:
        """From now on a thread tells the daemon whom this worker waits for, when it takes long."""
        threading.Thread(target=self._report_waits, name="waits", daemon=True).start()

    def _report_waits(self) -> None:
        told: tuple[str, ...] = ()
        while self.mesh.watch.cause is None:
            awaited = self.mesh.watch.awaited(WAIT_WORTH_TELLING_S)
            if awaited != told:
                told, (done, total) = awaited, self._done
                self.desk.report(
                    m.Progress(stage=self.stage, done=done, total=total, awaited=awaited)
                )
            sleep(GLANCE_S)


Play = Callable[[Session, m.Proceed], Summary]


def serve(role: Role, play: Play) -> None:
    """Run one worker process of `role` from its first message to its exit; it never returns."""
    desk = Desk(m.Start, m.Proceed, m.Mask, m.Run)
    start = desk.receive(m.Start)
    log_to_stderr(start.log_level)
    identity, session_key = Identity(), SigningKey.generate()
    try:
        listener = listen(start.listen_host, *start.ports)
    except OSError as error:
        _fail(desk, "start", SessionError(f"cannot listen on {start.listen_host}: {error}"))
        return
    desk.report(
        m.Ready(
            certificate=identity.certificate,
            session_key=bytes(session_key.verify_key),
            port=listener.getsockname()[1],
        )
    )
    proceed = desk.receive(m.Proceed)
    try:
        roster = _checked_roster(proceed, role, identity, session_key)
        session = _connected(desk, proceed, roster, identity, session_key, listener)
    except (SessionError, RemoteProtocolError) as error:
        _fail(desk, "connect", error)
    except Exception:  # noqa: BLE001  the outermost boundary: logged and reported there
        _fail_by_bug(desk, "connect", proceed.me)
    else:
        session.report_waits()
        _play(session, proceed, play)


def _play(session: Session, proceed: m.Proceed, play: Play) -> None:
    try:
        summary = play(session, proceed)
    except SessionError as error:
        _fail(session.desk, session.stage, error, session.mesh)
    except Fault as fault:
        log.warning("%s", fault.sentence)
        own = SessionError(f"{session.me} cannot use its own data")
        session.desk.report_last(_failed(session.stage, fault.sentence, (), fault.kind))
        session.mesh.abort(own)
        leave(EXIT_FAILED)
    except RemoteProtocolError as error:
        _fail(session.desk, session.stage, error, session.mesh)
    except Exception:  # noqa: BLE001  the outermost boundary: logged and reported there
        _fail_by_bug(session.desk, session.stage, session.me, session.mesh)
    else:
        session.mesh.finish()
        session.desk.report_last(m.Finished(summary=summary))
        leave(EXIT_FINISHED)


def _fail(desk: Desk, stage: m.Stage, error: Exception, mesh: Mesh | None = None) -> None:
    """Report first: the daemon hears it within the second, whatever the other workers do."""
    cause = error if isinstance(error, SessionError) else SessionError(str(error))
    log.error("the session ended: %s (blamed: %s)", cause.reason, ", ".join(cause.blamed))
    desk.report_last(_failed(stage, cause.reason, cause.blamed, "session-failed"))
    if mesh is not None:
        mesh.abort(cause)
    leave(EXIT_FAILED)


def _fail_by_bug(desk: Desk, stage: m.Stage, me: str, mesh: Mesh | None = None) -> None:
    log.exception("a bug ended the session")
    _fail(desk, stage, SessionError(f"{me} met an error of its own program"), mesh)


def _failed(stage: m.Stage, reason: str, blamed: tuple[str, ...], kind: str) -> m.Failed:
    return m.Failed(stage=stage, reason=reason[:1024], blamed=blamed, kind=kind)


def _checked_roster(
    proceed: m.Proceed, role: Role, identity: Identity, session_key: SigningKey
) -> Roster:
    """The roster, if it is sound and names this very worker.

    RemoteProtocolError says what is wrong with it.
    """
    roster = decode(proceed.roster, Roster, limit=_ROSTER_LIMIT_BYTES)
    check_roster(roster)
    mine = roster.party(proceed.me)
    own = (mine.role, mine.certificate, mine.session_key)
    if own != (role, identity.certificate, bytes(session_key.verify_key)):
        raise RemoteProtocolError("the roster names other keys for this worker than its own")
    recipient = roster.by_role("recipient")[0].organisation
    owners = {party.organisation for party in roster.by_role("contributor")} - {recipient}
    if len(owners) < MIN_CONTRIBUTORS:
        raise RemoteProtocolError(
            f"{len(owners)} contributors beside the recipient, at least {MIN_CONTRIBUTORS}"
        )
    return roster


def _connected(
    desk: Desk,
    proceed: m.Proceed,
    roster: Roster,
    identity: Identity,
    session_key: SigningKey,
    listener: socket,
) -> Session:
    names = [party.name for party in roster.parties]
    owners = [party.name for party in roster.by_role("contributor")]
    members = [party.name for party in roster.by_role("member")]
    recipient = roster.by_role("recipient")[0].name
    engines = (roster.parameters.engine, roster.parameters.evaluation_engine)
    channels = topology.control_channels(names)
    channels += topology.alignment_channels([*owners, recipient], roster.helper)
    channels += topology.round_channels(owners, members, recipient, mpyc="mpyc" in engines)
    roster_digest = digest(roster)
    started = monotonic()
    mesh = Mesh.open(
        identity,
        listener,
        proceed.me,
        {
            party.name: Peer(party.name, party.certificate, party.address)
            for party in roster.parties
            if party.name != proceed.me
        },
        channels,
        roster_digest,
        within_s=roster.alignment_deadline_s,
        silence_s=roster.round_deadline_s,
        entrance=proceed.entrance,
    )
    return Session(desk, roster, roster_digest, proceed.me, session_key, mesh, started)
