"""Wall time of the classifier against a server that takes 50 ms: how near it comes to the ideal.

The fastest of the rounds counts: against a server that sleeps, other work on the machine can only add.
"""

from __future__ import annotations

from client_overhead import IN_FLIGHT, ROUNDS, run
from instant_server import instant_server
from record import takes_no_arguments, write

SECONDS, ROWS = 0.05, 1_280


def main() -> None:
    """Measure and record, next to a bare loop with the same bodies."""
    takes_no_arguments(__doc__)
    ideal = ROWS / IN_FLIGHT * SECONDS
    with instant_server(SECONDS) as url:
        rounds = [(run("bare", url, ROWS)["seconds"], run("classifier", url, ROWS)["seconds"]) for _ in range(ROUNDS)]
    bare, classifier = (min(column) for column in zip(*rounds, strict=True))
    figures = {
        "rows": ROWS,
        "server_seconds": SECONDS,
        "ideal_seconds": ideal,
        "bare_seconds": round(bare, 3),
        "classifier_seconds": round(classifier, 3),
        "classifier_to_ideal": round(classifier / ideal, 3),
        "seconds_of_each_round": [[round(seconds, 3) for seconds in pair] for pair in rounds],
    }
    write("slow_server", figures, rounds=ROUNDS, in_flight=IN_FLIGHT)


if __name__ == "__main__":
    main()
