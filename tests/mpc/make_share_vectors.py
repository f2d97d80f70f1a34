"""Makes tests/vectors/shares.json with MPyC itself: run it by hand, it is not a test.

MPyC draws its coefficients by `secrets.randbelow`; here they are replayed from the file, so that
the polynomials are the same and the shares can be compared.
"""

import json
import random
import sys
from pathlib import Path

sys.argv = ["vectors", "--no-log"]

import numpy as np  # noqa: E402  (MPyC reads sys.argv when it is imported)
from mpyc import finfields, thresha  # noqa: E402

SIZES = ((1, 3), (1, 4), (2, 5), (3, 7))


def vector(name: str, modulus: int, threshold: int, members: int) -> dict[str, object]:
    draw = random.Random(f"{name} {threshold} {members}")
    secret = [0, 1, modulus - 1, modulus // 2] + [draw.randrange(modulus) for _ in range(4)]
    coefficients = [draw.randrange(modulus) for _ in range(threshold * len(secret))]
    replay = iter(coefficients)
    thresha.secrets.randbelow = lambda _: next(replay)
    field = finfields.GF(modulus)
    shares = thresha.np_random_split(field, np.array(secret, object), threshold, members)
    return {
        "field": name,
        "threshold": threshold,
        "members": members,
        "secret": [str(x) for x in secret],
        "coefficients": [
            [str(x) for x in coefficients[i * len(secret) : (i + 1) * len(secret)]]
            for i in range(threshold)
        ],
        "shares": [[str(int(x)) for x in share] for share in shares],
        "recombined": [
            str(int(x))
            for x in thresha.np_recombine(
                field, [(i + 1, shares[i]) for i in range(threshold + 1)]
            ).value
        ],
    }


def main() -> None:
    fields = (("m61", 2**61 - 1), ("m31", 2**31 - 1))
    vectors = [vector(name, p, t, m) for name, p in fields for t, m in SIZES]
    path = Path(__file__).parent.parent / "vectors" / "shares.json"
    path.write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
