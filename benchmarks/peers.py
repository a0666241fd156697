"""Peers on the same texts, the same model and the same llama.cpp server, in the same run.

Every peer is a process in a virtual environment of its own (`peer_clients.py`, `peer_environments.py`), and every one
that can speak to a server speaks to the one of `peer_server.py`, which counts tokens. They take turns, ten rows of a set
each, so that ratios are those of the same stretch of time. Then the same texts otherwise written, texts with attacks
(`peer_texts.py`), and more and more requests in flight. What cannot run here is in the result with its error.

With --keep an interrupted run goes on; ratios are then still those of turns that were taken together. Needs the sets of
`six_sets.py` and PYTHONPATH=tests/unit_tests for the embedding model. Hours on a busy machine, most of it the peers'
256 tokens a row.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peer_figures
from baselines import mini_lm
from client_overhead import original_module
from kept import Kept
from peer_environments import ENVIRONMENTS, python_of, version_of
from peer_server import counts, peer_server
from peer_texts import ATTACKS, VARIANTS, attacked, ordered
from record import write
from six_sets import SEED, SHOTS, TASKS, Rows, few, load, split

from langchain_stormtrooper.llms.embedded import embedded_model_path

N_PARALLEL, IN_FLIGHT, TURN = 8, 16, 10
TEXTS, FEWER = 60, 20
LEVELS, SCALED_ROWS = (1, 2, 4, 8, 16, 32, 64, 128), 128
SLOW_LEVELS, SLOW_ROWS = (1, 8, 32), 32

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

SCALED = {"ours": (LEVELS, SCALED_ROWS), "outlines": (SLOW_LEVELS, SLOW_ROWS), "endpoint": (SLOW_LEVELS, SLOW_ROWS)}
ATTACKED = ("original", "endpoint", "outlines", "ours", "ours, unlabelled", "cosine", "regression")


class Unable(Exception):
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
            raise Unable(answer["error"])
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
    """

    def __init__(self, data: Path, texts: int, kept: Kept, url: str) -> None:
        self.sets: dict[str, tuple[list[str], Rows, Rows, Rows]] = {
            task.data: load(task, data, texts) for task in TASKS
        }
        self.peers: dict[str, Any] = {}
        self.unable: dict[str, str] = kept.content.setdefault("unable", {})
        self._kept, self._url = kept, url
        self._jobs: dict[str, Any] = kept.content.setdefault("jobs", {})
        self._warm: set[str] = set()

    def arms(self) -> list[str]:
        """Those that can be measured."""
        return [name for name, peer in ARMS.items() if peer not in self.unable and peer in self.peers]

    def job(self, arm: str, name: str, what: str, texts: Sequence[str], **others: Any) -> dict[str, Any] | None:
        """What one arm makes of texts; None if it turns out to be unable.

        Args:
            arm: The arm.
            name: The set.
            what: What this is, for keeping it.
            texts: The texts.
            **others: What is different in the job.
        """
        key = f"{arm} | {name} | {what}"
        if key not in self._jobs:
            task = next(task for task in TASKS if task.data == name)
            labels, train, *_ = self.sets[name]
            job = {
                "labels": labels,
                "text_kind": task.text_kind,
                "label_kind": task.label_kind,
                "in_flight": None if ARMS[arm] == "ours" else IN_FLIGHT,
                "unlabelled": split(train)[0] if arm.endswith("unlabelled") else [],
                "labelled": few(train, labels, SHOTS) if arm in {"ours, labelled", "regression"} else [],
                **others,
            }
            try:
                if what.startswith("texts"):
                    self._warm_up(arm, name, {**job, "texts": [train[0][0]]})
                self._jobs[key] = self._measured(arm, {**job, "texts": [*texts]})
            except Unable as error:
                self.unable[ARMS[arm]] = str(error)
                print(arm, "cannot:", error, flush=True)
                return None
            finally:
                self._kept.save()
        answer: dict[str, Any] = self._jobs[key]
        return answer

    def _warm_up(self, arm: str, name: str, job: dict[str, Any]) -> None:
        """Have it learn the task before its speed is measured, and keep what that took."""
        key = f"{arm} | {name} | warm up"
        if key not in self._warm:
            self._jobs.setdefault(key, self._measured(arm, job))
            self._warm.add(key)

    def _measured(self, arm: str, job: dict[str, Any]) -> dict[str, Any]:
        before = counts(self._url)
        answer: dict[str, Any] = self.peers[ARMS[arm]](job)
        after = counts(self._url)
        return {**answer, "tokens": {name: after[name] - before[name] for name in after}}


def turns(bench: Bench, texts: int) -> None:
    """The sets themselves, ten rows of each arm in turn."""
    for start in range(0, texts, TURN):
        for name, (_, _, test, _) in bench.sets.items():
            part = split(test[start : min(start + TURN, texts)])[0]
            took = {}
            for arm in bench.arms():
                if (got := bench.job(arm, name, f"texts {start}", part)) is not None:
                    took[arm] = round(got["seconds"], 1)
            print(start, name, took, flush=True)


def variants(bench: Bench, texts: int) -> None:
    """The first texts otherwise written, or the labels in another order."""
    for name, (labels, _, test, _) in bench.sets.items():
        for variant, change in VARIANTS.items():
            changed = [change(text) for text, _ in test[:texts]]
            for arm in bench.arms():
                bench.job(arm, name, variant, changed, labels=ordered(variant, labels))
        print("variants", name, flush=True)


def injections(bench: Bench, texts: int) -> None:
    """The first texts with attacks in them."""
    for name, (labels, _, test, _) in bench.sets.items():
        for kind in ATTACKS:
            attacks = [attacked(kind, text, truth, labels)[0] for text, truth in test[:texts]]
            for arm in bench.arms():
                if arm in ATTACKED:
                    bench.job(arm, name, kind, attacks)
        print("attacks", name, flush=True)


def scaling(bench: Bench) -> None:
    """More and more requests in flight, each time for texts that the server has not seen."""
    *_, rest = bench.sets["snips"]
    *_, more = bench.sets["clinc150_oos"]
    for arm, (levels, rows) in SCALED.items():
        if arm in bench.arms():
            fresh = iter(split(rest)[0] + split(more)[0])
            for level in levels:
                texts = [next(fresh) for _ in range(rows)]
                bench.job(arm, "snips", f"in flight {level}", texts, in_flight=level)


def summarize(bench: Bench, texts: int, fewer: int) -> dict[str, Any]:
    """All figures of what was answered."""
    jobs = bench._jobs
    starts = range(0, texts, TURN)
    arms = [arm for arm in bench.arms() if all(f"{arm} | {t.data} | texts {s}" in jobs for t in TASKS for s in starts)]

    def base(arm: str) -> list[dict[str, Any]]:
        return [jobs[f"{arm} | {task.data} | texts {start}"] for start in starts for task in TASKS]

    def answers(arm: str, what: Sequence[str]) -> dict[str, Any]:
        return {
            task.data: [row for one in what for row in jobs[f"{arm} | {task.data} | {one}"]["rows"]] for task in TASKS
        }

    truths = {name: (labels, split(test[:texts])[1]) for name, (labels, _, test, _) in bench.sets.items()}
    plain = {arm: answers(arm, [f"texts {start}" for start in starts]) for arm in arms}
    figures: dict[str, Any] = {
        arm: {**peer_figures.quality(plain[arm], truths), "speed": peer_figures.speed(base(arm), base("original"))}
        for arm in arms
    }
    right = {arm: [*figures[arm]["right"].values()] for arm in arms}
    targets = {
        name: [attacked("bait", text, truth, labels)[1] for text, truth in test[:fewer]]
        for name, (labels, _, test, _) in bench.sets.items()
    }
    for arm in arms:
        figures[arm]["above_original"] = peer_figures.macro(right[arm], right["original"])
        figures[arm]["below_ours"] = peer_figures.macro(right["ours"], right[arm])
        figures[arm]["flips"] = {
            variant: peer_figures.flips(plain[arm], answers(arm, [variant]))
            for variant in VARIANTS
            if f"{arm} | {TASKS[-1].data} | {variant}" in jobs
        }
        figures[arm]["attacks"] = {
            kind: peer_figures.attacks(plain[arm], answers(arm, [kind]), targets)
            for kind in ATTACKS
            if f"{arm} | {TASKS[-1].data} | {kind}" in jobs
        }
        learning = [jobs[key] for key in jobs if key.startswith(f"{arm} | ") and key.endswith(" | warm up")]
        figures[arm]["requests_to_learn"] = sum(one["tokens"]["requests"] for one in learning)
    scaled = {
        arm: {
            level: len(job["rows"]) / job["seconds"]
            for level in levels
            if (job := jobs.get(f"{arm} | snips | in flight {level}"))
        }
        for arm, (levels, _) in SCALED.items()
    }
    relative = {
        arm: {str(level): rate / rates[1] for level, rate in rates.items()} for arm, rates in scaled.items() if rates
    }
    return {"arms": figures, "unable": bench.unable, "in_flight": relative}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with the six .jsonl files")
    parser.add_argument("--environments", type=Path, required=True, help="directory for the peers' environments")
    parser.add_argument("--model", type=Path, help="a GGUF file instead of the embedded model")
    parser.add_argument("--texts", type=int, default=TEXTS, help="test texts a set")
    parser.add_argument("--fewer", type=int, default=FEWER, help="texts a set that are written otherwise, and attacked")
    parser.add_argument("--keep", type=Path, help="file for what was answered, to go on from after an interruption")
    parser.add_argument("--only", nargs="+", default=[*ENVIRONMENTS, "ours", "embedding"], help="peers; records nothing")
    given = parser.parse_args()
    kept = Kept(given.keep)
    model = given.model or embedded_model_path()
    with original_module() as module, peer_server(str(given.model or ""), N_PARALLEL) as url:
        bench = Bench(given.data, max(given.texts, given.fewer), kept, url)
        versions = {}
        script = str(Path(__file__).parent / "peer_clients.py")
        logs = given.environments
        for name in given.only:
            if name == "embedding":
                bench.peers[name] = Embedding()
                continue
            python = sys.executable if name == "ours" else python_of(name, given.environments)
            if name != "ours":
                versions[name] = version_of(name, python)
            command = [python, script, name, url, module if name == "original" else str(model)]
            bench.peers[name] = Peer(name, command, logs / f"{name}.log")
        turns(bench, given.texts)
        variants(bench, given.fewer)
        injections(bench, given.fewer)
        scaling(bench)
        for peer in bench.peers.values():
            peer.close()
    figures = summarize(bench, given.texts, given.fewer)
    print(json.dumps(figures, indent=1))
    if len(given.only) == len(ENVIRONMENTS) + 2:
        write(
            "peers" if given.model is None else f"peers_{given.model.stem}",
            figures,
            seed=SEED,
            model=model.name,
            n_parallel=N_PARALLEL,
            n_threads=1,
            peers=versions,
            environments=ENVIRONMENTS,
            texts_a_set=given.texts,
            texts_a_set_varied_and_attacked=given.fewer,
            rows_in_a_turn=TURN,
            labelled_texts_a_label=SHOTS,
            in_flight={"original": "all of a call", "scikit-llm": 1, "ours": "the default", "others": IN_FLIGHT},
            resamples=peer_figures.RESAMPLES,
        )


if __name__ == "__main__":
    main()
