"""Six real processes, one session: aligned, trained, evaluated inside MPyC, and gone."""

import hmac
import json
from pathlib import Path

import numpy as np
import pytest

from mpc.features import restore
from mpc.top_model import TopModel
from node.dataset_spec import ColumnSpec, DatasetSpec
from node.demo import applicants
from node.workers import messages as m


def recipient_files(session) -> tuple[dict, list, dict, list]:
    folder = session.plan.folder / "fintech-c-recipient"
    with np.load(folder / "openings.npz") as openings, np.load(folder / "model.npz") as model:
        return (
            dict(openings),
            json.loads((folder / "rows.json").read_text()),
            dict(model),
            json.loads((folder / "predictions.json").read_text()),
        )


def checkpoint(owner: m.ContributorSummary):
    return restore(Path(owner.checkpoint).read_bytes(), bytes(range(32)))


async def test_a_session_from_alignment_to_predictions(harness, small):
    session = await harness.finished(small)
    assert {p: type(session.end_of(p)).__name__ for p in small.parties} == dict.fromkeys(
        small.parties, "Finished"
    )
    aligned = [session.of(p, m.Aligned)[0] for p in (*harness.contributors, harness.recipient)]
    assert {a.rows_hash for a in aligned} == {aligned[0].rows_hash}
    assert {a.rows for a in aligned} == {240}
    openings, ids, model, predictions = recipient_files(session)
    key = b"bank-a".ljust(32, b"k")
    assert aligned[0].row_keys == b"".join(hmac.digest(key, i.encode(), "sha256")[:16] for i in ids)
    recipient = session.summary(harness.recipient)
    assert (recipient.rows_trained, recipient.rows_evaluated) == (168, 72)
    assert recipient.numbers_opened == 2 * (168 * 2 + 72) == 2 * len(openings["row"])
    evaluated = openings["stage"] == 1
    assert not set(openings["row"][evaluated]) & set(openings["row"][~evaluated])
    scores = TopModel.from_arrays(model).predict(openings["z"][evaluated])
    assert [p["score"] for p in predictions] == pytest.approx(scores.tolist())
    assert [p["id"] for p in predictions] == [ids[r] for r in openings["row"][evaluated]]
    assert recipient.auc > 0.6
    for party in harness.contributors:
        owner = session.summary(party)
        assert owner.numbers_opened == recipient.numbers_opened
        assert owner.numbers_per_row == 4
        assert owner.epsilon > 0
        _, weights, updates = checkpoint(owner)
        assert weights.shape[1] == 2
        assert updates == recipient.rounds - 1
    for party in harness.members:
        member = session.summary(party)
        assert member.engines == ("lane", "mpyc")
        assert member.numbers == recipient.numbers_opened


async def test_without_noise_the_opened_numbers_are_the_sum_of_the_features(harness, small):
    """Both engines, both fields: Z = Z_a + Z_b to the last bit of the grid."""
    limits = m.OwnerLimits(noise_floor=0.0, cohort_floor=20)
    for engine, field in (("lane", "m61"), ("mpyc", "m31")):
        parameters = harness.changed(
            noise=0.0, epochs=0, holdout=0.5, evaluation_engine=engine, field=field
        )
        session = await harness.finished(small.replaced(parameters=parameters, limits=limits))
        openings, ids, _, _ = recipient_files(session)
        want = np.zeros_like(openings["z"])
        for party in harness.contributors:
            owner = session.summary(party)
            encoder, weights, _ = checkpoint(owner)
            rows = read_rows(small.datasets[party.split("/")[0]])
            columns = [[rows[ids[r]][c.name] for r in openings["row"]] for c in encoder.codes]
            names = [code.name for code in encoder.codes]
            want += (
                encoder.transform(dict(zip(names, map(np.array, columns), strict=True))) @ weights
            )
            assert owner.epsilon == float("inf")
        assert np.abs(openings["z"] - want).max() < 2e-6


def read_rows(spec: DatasetSpec) -> dict[str, dict[str, float]]:
    lines = Path(spec.path).read_text().splitlines()
    names = lines[0].split(",")[1:]
    split = [line.split(",") for line in lines[1:]]
    return {row[0]: dict(zip(names, map(float, row[1:]), strict=True)) for row in split}


async def test_real_applicants_are_scored_better_together(harness, tmp_path):
    everybody = applicants.load()
    held = applicants.holdings(len(everybody.ids), seed=1)
    datasets = {}
    for holder, rows in held.items():
        path = tmp_path / f"{holder}.csv"
        applicants.write(everybody, holder, rows, path)
        datasets[holder] = DatasetSpec(
            name=holder,
            path=str(path),
            id_column="id",
            columns=tuple(
                ColumnSpec(name=c, kind="category" if c in applicants.CATEGORIES else "number")
                for c in applicants.COLUMNS.get(holder, ())
            ),
            label=applicants.LABEL if holder == applicants.FINTECH_C else "",
        )
    session = await harness.finished(harness.plan(datasets=datasets, folder=tmp_path))
    recipient = session.summary(harness.recipient)
    assert recipient.rows > 3_000
    assert recipient.auc > 0.72
    assert recipient.losses[0] > np.mean(recipient.losses[-20:])


async def test_five_who_align_find_the_same_rows(harness, small):
    """Lists of two hops alone would not show that a third and a fourth are passed on."""
    more = ("bank-c", "bank-d")
    datasets = {**small.datasets, "bank-c": small.datasets["bank-a"]}
    datasets["bank-d"] = small.datasets["bank-b"]
    parties = (*harness.contributors, *(f"{name}/contributor" for name in more))
    parties += (*harness.members, harness.recipient)
    session = await harness.finished(small.replaced(datasets=datasets, parties=parties))
    assert session.summary(harness.recipient).rows == 240
    aligned = [session.of(party, m.Aligned)[0] for party in parties if "member" not in party]
    assert len({each.rows_hash for each in aligned}) == 1
    brought = session.of("bank-d/contributor", m.Sized)[0].brought
    assert {each.party: each.ids for each in brought} == {
        party: 280 for party in parties if "member" not in party
    }
