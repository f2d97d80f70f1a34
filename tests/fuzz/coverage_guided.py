"""One group under atheris until its time is over: `python -m tests.fuzz.coverage_guided GROUP S`.

libFuzzer ends the process: with status 0 after S seconds, else with the input in a file.
"""

import random
import sys
from pathlib import Path

import atheris

BUILD = Path("build/fuzz")
PACKAGES = ["protocol", "mpc", "chain", "node"]
LONGEST_INPUT = 8192
LONGEST_S = 10
MOST_MB = 2048
FROM_SEED = 0.3


def main(name: str, seconds: int) -> None:
    """Never returns."""
    with atheris.instrument_imports(include=PACKAGES):
        from tests.fuzz import groups  # noqa: PLC0415
    corpus = BUILD / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    if name in groups.DECODERS:
        fuzz(groups.decoders(name), corpus, name, seconds)
    with (
        atheris.instrument_imports(include=PACKAGES),
        groups.handlers(BUILD / f"node-{seconds}") as group,
    ):
        fuzz(group, corpus, name, seconds)


def fuzz(group: "groups.Group", corpus: Path, name: str, seconds: int) -> None:  # noqa: F821
    for number, seed in enumerate(group.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST_INPUT}",
        f"-timeout={LONGEST_S}",
        f"-rss_limit_mb={MOST_MB}",
        f"-artifact_prefix={BUILD}/{name}-",
        "-print_final_stats=1",
        str(corpus),
    ]

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        """Now and then from a seed again: what is decoded in C shows the fuzzer no coverage."""
        dice = random.Random(seed)
        start = dice.choice(group.seeds)[:most] if dice.random() < FROM_SEED else data
        return bytes(atheris.Mutate(start, most))

    atheris.Setup([sys.argv[0], *options], group.run, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
