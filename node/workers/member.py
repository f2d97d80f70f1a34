"""A committee member's worker: it adds shares, and one member serves the alignment as helper."""

from mpc.lane import Adder, Adding, adding
from mpc.programs import MpycCommittee
from mpc.setting import PATIENCE_S
from node.workers import messages as m
from node.workers.alignment import help_align
from node.workers.session import Session, serve


def main() -> None:
    """Entry point of the worker process."""
    serve("member", play)


def play(session: Session, proceed: m.Proceed) -> m.MemberSummary:
    """The member's part of one session."""
    del proceed  # a member brings nothing of its own
    if session.me == session.roster.helper:
        help_align(session)
    session.stage = "connect"
    _, manifest = session.agreed_rows(None, None)
    engines = _engines(session)
    setting = session.setting(manifest)
    setting.begin()
    adder = Adder(setting)
    rounds = 0
    wait_s = float(session.roster.alignment_deadline_s)
    while True:
        own, header = adder.next_header(wait_s)
        wait_s = session.round_deadline_s + 2 * PATIENCE_S
        session.stage = header.stage
        if header.stage == "close":
            return m.MemberSummary(
                rounds=rounds,
                numbers=adder.numbers,
                engines=tuple(sorted({session.parameters.engine, _evaluating(session)})),
                seconds=session.seconds,
            )
        adder.add_round(own, header, engines[header.stage])
        rounds += 1
        session.progress(header.stage, rounds, rounds)


def _evaluating(session: Session) -> str:
    return session.parameters.evaluation_engine


def _engines(session: Session) -> dict[str, Adding]:
    """How the sums of each stage are made; MPyC is started only where a stage asks for it."""
    chosen = {"train": session.parameters.engine, "evaluate": _evaluating(session)}
    made: dict[str, Adding] = {"lane": adding(session.field)}
    if "mpyc" in chosen.values():
        computing = MpycCommittee(
            session.mesh,
            session.committee,
            session.field,
            link_within_s=session.alignment_left_s(),
            within_s=session.round_deadline_s,
        )
        made["mpyc"] = computing.add
    return {stage: made[engine] for stage, engine in chosen.items()}


if __name__ == "__main__":
    main()
