"""Peers on the same texts, the same model and the same llama.cpp server, in the same run.

Every peer is a process in a virtual environment of its own (`peer_clients.py`, `peer_environments.py`), and every one
that can speak to a server speaks to the one of `peer_server.py`, which counts tokens. They take turns, eight rows of a
set each, so that ratios are those of the same stretch of time. Then the same texts otherwise written, with attacks in
them (`peer_texts.py`), and more and more requests in flight. What cannot run here is in the result with its error.

With --keep an interrupted run goes on; rows a second are compared within a turn of one run alone. It needs the sets of
`six_sets.py`, and PYTHONPATH=tests/unit_tests for the embedding model. Hours, most of it the 256 tokens a row of peers.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peer_clients
import peer_figures
from baselines import mini_lm
from client_overhead import original_module
from kept import Kept
from peer_environments import ENVIRONMENTS, python_of, version_of
from peer_server import counts, peer_server
from peer_texts import changed_texts
from record import write
from six_sets import SEED, SHOTS, TASKS, Rows, few, load, split

from langchain_stormtrooper.llms.embedded import embedded_model_path

N_PARALLEL, IN_FLIGHT, TURN = 8, 16, 8
TEXTS, SLOW_TEXTS, FEWER = 64, 32, 16
LEVELS, SLOW_LEVELS, FEWEST_ROWS = (1, 8, 32, 128), (1, 8, 32), 32

EVERY = [*ENVIRONMENTS, "ours", "embedding"]

ARMS = {
    "original": "original",
    "endpoint": "endpoint",
    "scikit-llm": "scikit-llm",
    "dspy": "dspy",
    "outlines": "outlines",
    "skorch": "skorch",
    "cappr": "cappr",
    "ours": "ours",
    "ours, unlabelled": "ours",
    "ours, labelled": "ours",
    "cosine": "embedding",
    "regression": "embedding",
}
"""What is measured, and the peer that does it."""

SLOW = {"scikit-llm", "dspy", "skorch", "cappr"}
"""Arms that get fewer texts, since a row of theirs takes seconds."""

SAME_SPEED = {"ours, unlabelled", "ours, labelled"}
"""Arms that ask what another one asks."""

SCALED = {"ours": LEVELS, "outlines": SLOW_LEVELS, "endpoint": SLOW_LEVELS}
"""How many are in flight, for peers that leave that to the caller."""

CHANGED = ("original", "endpoint", "outlines", "ours", "cosine", "regression")
"""Arms whose texts are changed: those for which that takes little time, and the original."""

NO_ADDRESS = {
    "peer": "skorch over the server",
    "tried": "`skorch.llm.ZeroShotClassifier`",
    "error": "it takes a model's name or a transformers object, and no address of a server",
}


class UnableError(Exception):
    """A peer cannot do this, and says why."""


class Peer:
    """A peer's process.

    Args:
        name: Its name.
        command: What starts it.
        log: Where it may write what it likes.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        with log.open("w") as errors:
            self._process = subprocess.Popen(  # noqa: S603  # ours
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def __call__(self, job: dict[str, Any]) -> dict[str, Any]:
        """What it makes of a job."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has said why
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "it ended without a word"}
        if "error" in answer:
            raise UnableError(answer["error"])
        return answer

    def close(self) -> None:
        """End it."""
        self._process.communicate()


class Embedding:
    """The embedding baseline, in this process: no server is asked."""

    def __init__(self) -> None:
        self._model = mini_lm()

    def __call__(self, job: dict[str, Any]) -> dict[str, Any]:
        """What it makes of a job: a regression if there are labelled texts."""
        started = time.perf_counter()
        if job["labelled"]:
            answers, sure = self._model.by_regression_with_confidence(job["labelled"], job["texts"])
            rows = [[answer, True, one] for answer, one in zip(answers, sure, strict=True)]
        else:
            rows = [[answer, True, None] for answer in self._model.by_label_sentences(job["labels"], job["texts"])]
        seconds = time.perf_counter() - started
        return {"rows": rows, "seconds": seconds, "first": seconds}

    def close(self) -> None:
        """There is nothing to end."""


class Bench:
    """Everything that is asked, each thing once.

    Args:
        data: Where the sets are.
        texts: Test texts a set.
        kept: What was answered already.
        url: The server.

    Attributes:
        ends: From when on nothing more is asked.
    """

    def __init__(self, data: Path, texts: int, kept: Kept, url: str) -> None:
        self.sets: dict[str, tuple[list[str], Rows, Rows, Rows]] = {
            task.data: load(task, data, texts) for task in TASKS
        }
        self.peers: dict[str, Any] = {}
        self.unable: dict[str, str] = kept.content.setdefault("unable", {})
        self._run = kept.content["runs"] = kept.content.get("runs", 0) + 1
        self.tried: list[dict[str, str]] = kept.content.setdefault("tried", [])
        self._kept, self._url = kept, url
        self.ends = math.inf
        self.kept_jobs: dict[str, Any] = kept.content.setdefault("jobs", {})
        self._warm: set[str] = set()

    def arms(self) -> list[str]:
        """Those that can be measured."""
        return [name for name, peer in ARMS.items() if peer not in self.unable and peer in self.peers]

    def job(
        self, arm: str, name: str, what: str, texts: Sequence[str], *, ready: bool = False, **others: Any
    ) -> dict[str, Any] | None:
        """What one arm makes of texts; None if it is unable, or it is too late.

        Args:
            arm: The arm.
            name: The set.
            what: What this is, for keeping it.
            texts: The texts.
            ready: Whether its speed is of interest, so that it has to know its task before.
            **others: What is different in the job.
        """
        key = f"{arm} | {name} | {what}"
        if key not in self.kept_jobs and time.monotonic() > self.ends:
            return None
        if key not in self.kept_jobs:
            task = next(task for task in TASKS if task.data == name)
            labels, train, *_ = self.sets[name]
            job = {
                "labels": labels,
                "text_kind": task.text_kind,
                "label_kind": task.label_kind,
                "in_flight": None if ARMS[arm] == "ours" else IN_FLIGHT,
                "unlabelled": split(few(train, labels, SHOTS))[0] if arm.endswith("unlabelled") else [],
                "labelled": few(train, labels, SHOTS) if arm in {"ours, labelled", "regression"} else [],
                "remember": True,
                **others,
            }
            try:
                if ready:
                    self._warm_up(arm, {**job, "texts": [train[0][0]]})
                self.kept_jobs[key] = self._measured(arm, {**job, "texts": [*texts]})
            except UnableError as error:
                self.unable[ARMS[arm]] = str(error)
                print(arm, "cannot:", error, flush=True)
                return None
            finally:
                self._kept.save()
        answer: dict[str, Any] = self.kept_jobs[key]
        return answer

    def _warm_up(self, arm: str, job: dict[str, Any]) -> None:
        """Have it answer a text before it is measured: each peer once, and ours once a task, whose labels it learns."""
        key = json.dumps([arm, job["labels"], job["in_flight"], job["remember"]]) if ARMS[arm] == "ours" else ARMS[arm]
        if key not in self._warm:
            self.peers[ARMS[arm]](job)
            self._warm.add(key)

    def _measured(self, arm: str, job: dict[str, Any]) -> dict[str, Any]:
        before = counts(self._url)
        answer: dict[str, Any] = self.peers[ARMS[arm]](job)
        after = counts(self._url)
        return {**answer, "run": self._run, "tokens": {name: after[name] - before[name] for name in after}}


def turns(bench: Bench, texts: int, slow: int) -> None:
    """The sets themselves, eight rows of each arm in turn."""
    for start in range(0, texts, TURN):
        for name, (_, _, test, _) in bench.sets.items():
            took = {}
            for arm in bench.arms():
                part = split(test[start : min(start + TURN, slow if arm in SLOW else texts)])[0]
                if part and (got := bench.job(arm, name, f"texts {start}", part, ready=True)) is not None:
                    took[arm] = round(got["seconds"] / len(part), 2)
            print(start, name, took, flush=True)


def changes(bench: Bench, texts: int) -> None:
    """The first texts otherwise written, with attacks in them, or with the labels in another order."""
    for name, (labels, _, test, _) in bench.sets.items():
        changed = [text for _, text, _ in changed_texts(test[:texts], labels)]
        for arm in bench.arms():
            if arm in CHANGED:
                bench.job(arm, name, "changed", changed)
                bench.job(arm, name, "order", split(test[:texts])[0], labels=[*reversed(labels)])
        print("changed", name, flush=True)


def scaling(bench: Bench) -> None:
    """More and more requests in flight, each time for texts that the server has not seen."""
    *_, rest = bench.sets["snips"]
    *_, more = bench.sets["clinc150_oos"]
    for arm, levels in SCALED.items():
        if arm in bench.arms():
            fresh = iter(split(rest)[0] + split(more)[0])
            for level in levels:
                texts = [next(fresh) for _ in range(max(level, FEWEST_ROWS))]
                bench.job(arm, "snips", f"in flight {level}", texts, ready=True, in_flight=level, remember=False)


def tries(bench: Bench, url: str, pythons: dict[str, str]) -> None:
    """Other ways of peers to the server, and what comes of them."""
    known = [one["peer"] for one in bench.tried]
    for name, (peer, tried, _) in peer_clients.TRIES.items():
        if peer in pythons and name not in known:
            command = [pythons[peer], peer_clients.__file__, name, url, ""]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603  # ours
            bench.tried.append({"peer": name, "tried": tried, "error": json.loads(said.splitlines()[-1])})


class Answers:
    """What was kept of one arm, by set.

    Args:
        bench: What was asked.
        arm: The arm.
        texts: Test texts a set.
    """

    def __init__(self, bench: Bench, arm: str, texts: int) -> None:
        self._jobs, self._arm = bench.kept_jobs, arm
        self.rows = {name: self._turns(name, texts) for name in bench.sets}

    def _turns(self, name: str, texts: int) -> list[Any]:
        rows: list[Any] = []
        while len(rows) < texts and (job := self._job(name, f"texts {len(rows)}")):
            rows += job["rows"]
        return rows[:texts]

    def _job(self, name: str, what: str) -> Any:
        return self._jobs.get(f"{self._arm} | {name} | {what}")

    def of(self, what: str) -> dict[str, list[Any]]:
        """Its answers to what it was asked besides, in those sets in which it was."""
        jobs = {name: self._job(name, what) for name in self.rows}
        return {name: job["rows"] for name, job in jobs.items() if job}

    def measured(self) -> dict[tuple[str, int], Any]:
        """What was measured in each turn."""
        return {
            (name, start): job
            for name, rows in self.rows.items()
            for start in range(0, len(rows), TURN)
            if (job := self._job(name, f"texts {start}"))
        }

    def in_flight(self, levels: Sequence[int]) -> dict[str, dict[str, float]]:
        """Rows a second with more and more in flight, by that with one, and prompt tokens evaluated for a row."""
        jobs = {level: job for level in levels if (job := self._job("snips", f"in flight {level}"))}
        rates = {level: len(job["rows"]) / job["seconds"] for level, job in jobs.items()}
        return {
            str(level): {
                "rate_to_one": rates[level] / rates[1],
                "evaluated_per_row": job["tokens"]["evaluated"] / len(job["rows"]),
            }
            for level, job in jobs.items()
            if 1 in rates
        }


def summarize(bench: Bench, texts: int, fewer: int) -> dict[str, Any]:
    """All figures of what was answered."""
    every = {arm: Answers(bench, arm, texts) for arm in ARMS}
    every = {arm: answers for arm, answers in every.items() if all(answers.rows.values())}
    right: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    for arm, answers in every.items():
        truths = {
            name: (labels, split(test[: len(answers.rows[name])])[1])
            for name, (labels, _, test, _) in bench.sets.items()
        }
        figures[arm] = {"texts": sum(map(len, answers.rows.values())), **peer_figures.quality(answers.rows, truths)}
        if arm not in SAME_SPEED:
            figures[arm]["speed"] = peer_figures.speed(answers.measured(), every["original"].measured())
        right[arm] = figures[arm]["right"]
    made = {name: changed_texts(test[:fewer], labels) for name, (labels, _, test, _) in bench.sets.items()}
    for arm, answers in every.items():
        figures[arm]["above_original"] = peer_figures.above(right[arm], right["original"])
        figures[arm]["above_ours"] = peer_figures.above(right[arm], right["ours"])
        if changed := answers.of("changed"):
            figures[arm]["changed"] = peer_figures.changed(answers.rows, changed, made)
            figures[arm]["changed"]["order"] = peer_figures.flips(answers.rows, answers.of("order"))
    in_flight = {arm: every[arm].in_flight(levels) for arm, levels in SCALED.items() if arm in every}
    left_out = [
        {"peer": peer, "tried": "nothing", "error": "left out of this run"}
        for peer in EVERY
        if peer not in bench.unable and not any(ARMS[arm] == peer for arm in every)
    ]
    unable = [{"peer": peer, "tried": "as in its table row", "error": error} for peer, error in bench.unable.items()]
    return {"arms": figures, "unable": [NO_ADDRESS, *bench.tried, *unable, *left_out], "in_flight": in_flight}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with the six .jsonl files")
    parser.add_argument("--environments", type=Path, required=True, help="directory for the peers' environments")
    parser.add_argument("--model", type=Path, help="a GGUF file instead of the embedded model")
    parser.add_argument("--texts", type=int, default=TEXTS, help="test texts a set")
    parser.add_argument("--slow-texts", type=int, default=SLOW_TEXTS, help="the same for peers that take seconds a row")
    parser.add_argument("--fewer", type=int, default=FEWER, help="texts a set that are changed")
    parser.add_argument("--keep", type=Path, help="file for what was answered, to go on from after an interruption")
    parser.add_argument("--only", nargs="+", default=EVERY, help="peers, others are left out")
    parser.add_argument("--minutes", type=float, default=math.inf, help="after them no more is asked; 0: what is kept")
    parser.add_argument("--trial", action="store_true", help="record nothing")
    given = parser.parse_args()
    kept = Kept(given.keep)
    model = given.model or embedded_model_path()
    with original_module() as module, peer_server(str(given.model or ""), N_PARALLEL) as url:
        bench = Bench(given.data, max(given.texts, given.fewer), kept, url)
        pythons: dict[str, str] = {}
        versions: dict[str, str] = kept.content.setdefault("versions", {})
        script = str(Path(__file__).parent / "peer_clients.py")
        logs = given.environments
        for name in given.only:
            if name == "embedding":
                bench.peers[name] = Embedding()
                continue
            python = sys.executable if name == "ours" else python_of(name, given.environments)
            if name != "ours":
                versions[name], pythons[name] = version_of(name, python), python
            file = {"original": module, "ours": f"{given.keep}.scores" if given.keep else ""}.get(name, str(model))
            command = [python, script, name, url, file]
            bench.peers[name] = Peer(name, command, logs / f"{name}.log")
        tries(bench, url, pythons)
        if given.minutes:
            kept.content.setdefault("asked", []).append(given.only)
        bench.ends = time.monotonic() + 60 * given.minutes
        turns(bench, given.texts, given.slow_texts)
        scaling(bench)
        changes(bench, given.fewer)
        for peer in bench.peers.values():
            peer.close()
    figures = summarize(bench, given.texts, given.fewer)
    print(json.dumps(figures, indent=1))
    if not given.trial:
        write(
            "peers" if given.model is None else f"peers_{given.model.stem}",
            figures,
            seed=SEED,
            model=model.name,
            n_parallel=N_PARALLEL,
            n_threads=1,
            peers=versions,
            peers_of_each_run=kept.content.get("asked"),
            environments=ENVIRONMENTS,
            texts_a_set=given.texts,
            texts_a_set_of_slow_peers=given.slow_texts,
            texts_a_set_changed=given.fewer,
            rows_in_a_turn=TURN,
            labelled_texts_a_label=SHOTS,
            in_flight={"original": "all of a call", "scikit-llm": 1, "ours": "the default", "others": IN_FLIGHT},
            resamples=peer_figures.RESAMPLES,
        )


if __name__ == "__main__":
    main()
