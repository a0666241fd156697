"""Write the tables of README, cookbook and documentation from the result files.

`test_documents.py` (the README) and `test_figures.py` (the other pages) compare them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import peer_tables
from record import takes_no_arguments

ROOT = Path(__file__).parent.parent


def figures(name: str) -> Any:
    """The figures of one result file."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))["figures"]


def embedded() -> str:
    """Accuracy and seconds per text of the embedded model."""
    lines = [
        "| texts | examples a label | prompt | method | accuracy | without label | seconds a text |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for f in figures("embedded"):
        prompt = f["prompt"] if f["prompt"] != "kinds" else f"kinds: {f['text_kind']}, {f['label_kind']}"
        method = f["method"] + (f", prior={f['prior']!r}" if f["method"] == "score" else "")
        lines.append(
            f"| {f['texts']} of {f['data']}, {f['labels']} labels | {f['examples_per_label']} | {prompt} | {method} | "
            f"{f['accuracy']:.2f} | {f['without_label']} | {f['seconds_per_text']:.2f} |"
        )
    return "\n".join(lines)


def concurrency() -> str:
    """Concurrent against sequential requests."""
    f = figures("concurrency")
    return (
        "| 200 prompts, a TGI server that takes 50 ms each | seconds | ratio |\n| --- | --- | --- |\n"
        f"| one after another | {f['sequential_seconds']:.2f} | 1 |\n"
        f"| `TextGenerationInference().abatch`, 64 in flight | {f['llm_abatch_seconds']:.2f} | {f['llm_ratio']:.0f} |\n"
        f"| `ZeroShotClassifier.abatch`, 64 in flight | {f['classifier_abatch_seconds']:.2f} | "
        f"{f['classifier_ratio']:.0f} |"
    )


def foreign() -> str:
    """Another package's LLM as a classifier's against its own batch."""
    f = figures("foreign")
    return (
        "| 200 rows of 50 ms each, `HuggingFaceEndpoint` | seconds | ratio |\n| --- | --- | --- |\n"
        f"| its own `abatch` | {f['own_abatch_seconds']:.2f} | 1 |\n"
        f"| `ZeroShotClassifier(llm=HuggingFaceEndpoint(...)).abatch`, 16 in flight | "
        f"{f['classifier_abatch_seconds']:.2f} | {f['ratio']:.0f} |"
    )


def permits() -> str:
    """A server with few permits against a loop that knows them."""
    f = figures("permits")
    return (
        "| 2,000 rows, a TGI server with 8 permits | rows per second | ratio |\n| --- | --- | --- |\n"
        f"| a bare aiohttp loop that knows the 8 | {f['bare_rows_per_second']} | 1 |\n"
        f"| `ZeroShotClassifier.abatch`, which finds out | {f['classifier_rows_per_second']} | {f['ratio']:.2f} |"
    )


_CLIENTS = {
    "bare": "a bare aiohttp loop that posts the same bodies",
    "classifier": "`ZeroShotClassifier.abatch`",
    "traced": "the same with a callback handler",
    "chain": "`prompt \\| TextGenerationInference() \\| LabelOutputParser`, `abatch`",
    "original": "the original stormtrooper's `predict`",
    "endpoint": "`HuggingFaceEndpoint.abatch`",
}


def client_overhead() -> str:
    """What clients cost when the server costs nothing."""
    f = figures("client_overhead")
    lines = [
        "| a server that answers at once | in flight | rows per second | ratio | CPU µs a row |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, what in _CLIENTS.items():
        c = f["clients"][name]
        lines.append(
            f"| {what} | {c['requests_in_flight']} | {c['rows_per_second']:,} | {c['ratio_to_bare']:.2f} | "
            f"{c['cpu_microseconds_per_row']:.0f} |"
        )
    lines += [
        "",
        "Each is the median of the rounds, ratios too, so that they are not the quotients of the columns beside them.",
        "How cost and memory grow was measured apart, in processes of their own:",
        "",
        "| `ZeroShotClassifier.abatch` of | CPU µs a row | bytes a row at the peak |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| {g['rows']:,} rows | {g['cpu_microseconds_per_row']:.0f} | {g['peak_bytes_per_row']:,} |"
        for g in f["growth"]
    ]
    slow = figures("slow_server")
    lines += [
        "",
        f"With {slow['server_seconds'] * 1000:.0f} ms an answer and 64 in flight, {slow['rows']:,} rows take "
        f"{slow['classifier_to_ideal']:.2f} of the ideal {slow['ideal_seconds']:.1f} s, in the fastest of the rounds.",
    ]
    return "\n".join(lines)


_ARMS = {
    "original": "the original's way: its prompt, 256 tokens, nearest label",
    "no prior": '`method="score"`, `prior=None`',
    "score": '`method="score"`, the default',
    "unlabelled": "`calibrate(texts)`",
    "labelled": "`calibrate(texts, labels)`, 8 texts a label",
}


def six_sets() -> str:
    """The original's way against scores and calibrated scores, on six sets."""
    f = figures("six_sets")
    summary, sets = f["summary"], f["sets"]
    lines = [
        f"| | mean | {' | '.join(one['data'] for one in sets)} | above the original | tokens generated a text |",
        "| --- | --- |" + " --- |" * (len(sets) + 2),
    ]
    texts = sum(one["texts"] for one in sets)
    for name, what in _ARMS.items():
        arm = summary["arms"][name]
        low, high = (100 * end for end in arm["above_original_interval"])
        above = f"{100 * arm['above_original']:.0f} points ({low:.0f} to {high:.0f})" if name != "original" else ""
        each = " | ".join(f"{one['arms'][name]['accuracy']:.2f}" for one in sets)
        tokens = arm["generated_tokens"] / texts
        lines.append(f"| {what} | {arm['macro_accuracy']:.2f} | {each} | {above} | {tokens:.1f} |")
    lines += [
        "",
        f"With 50 labelled texts the calibration error (ECE) falls to at most half of the raw one on "
        f"{summary['sets_with_ece_halved']} of {len(sets)} sets:",
        "",
        f"| | {' | '.join(one['data'] for one in sets)} |",
        "| --- |" + " --- |" * len(sets),
    ]
    for kind, what in (("raw", "ECE, raw"), ("words", "ECE, the default"), ("calibrated", "ECE, 50 labelled texts")):
        each = " | ".join(f"{one['calibration'][kind]['ece']:.3f}" for one in sets)
        lines.append(f"| {what} | {each} |")
    for index, target in enumerate(summary["promises_held"]):
        each = " | ".join(
            f"{one['promises'][index]['held']} of {one['promises'][index]['splits']} "
            f"({100 * one['promises'][index]['mean_share_decided']:.0f} %)"
            for one in sets
        )
        lines.append(f"| `target_error={target}` kept on held-out halves (share decided) | {each} |")
    return "\n".join(lines)


def serving() -> str:
    """The HTTP app beside its bare back end."""
    f = figures("serving")
    lines = [
        f"| {f['requests']:,} requests, {f['in_flight']} at once | requests per second | p50 | p99 |",
        "| --- | --- | --- | --- |",
    ]
    for name, what in (("bare", "the back end itself, which answers at once"), ("app", "`serve` in front of it")):
        one = f[name]
        lines.append(
            f"| {what} | {one['requests_per_second']:,.0f} | {one['p50_milliseconds']:.0f} ms | "
            f"{one['p99_milliseconds']:.0f} ms |"
        )
    many, memory = f["many"], f["app_megabytes"]
    return "\n".join(
        [
            *lines,
            "",
            f"A request costs {f['app_cpu_microseconds_per_request']:,} µs of CPU. Memory is {memory[0]:.0f} MB after "
            f"the first thousand, and {memory[-1]:.0f} MB after all of them. With {many['texts_per_request']:,} texts "
            f"a request it answers {many['rows_per_second']:,} texts a second.",
        ]
    )


def long_runs() -> str:
    """What a ledger costs, and how much memory a long run takes."""
    f = figures("ledger")
    return "\n".join(
        [
            f"| {f['rows']:,} rows, a server that answers at once | rows per second | ratio | CPU µs a row |",
            "| --- | --- | --- | --- |",
            f"| `abatch`, no ledger | {f['abatch_rows_per_second']:,} | 1 | "
            f"{f['abatch_cpu_microseconds_per_row']:.0f} |",
            f"| `astream_rows` with a ledger | {f['rows_per_second']:,} | {f['ratio_to_abatch']:.2f} | "
            f"{f['cpu_microseconds_per_row']:.0f} |",
            "",
            f"{f['different_rows']:,} of the rows are different. The process grew by "
            f"{f['peak_megabytes_above_start']:.0f} MB at its peak, and the ledger has {f['ledger_megabytes']:.0f} MB.",
        ]
    )


def cascade() -> str:
    """What stays with a cheap stage, and how good the whole is."""
    lines = [
        "| set | cheap stage | alone | strong alone | target | stays | of it wrong | splits within the target | "
        "accuracy |",
        "| --- |" + " --- |" * 8,
    ]
    for one in figures("cascade"):
        for p in one["promises"]:
            if p["compared_with"] == "strong":
                continue
            error = "–" if p["error_of_kept"] is None else f"{100 * p['error_of_kept']:.1f} %"
            lines.append(
                f"| {one['data']} | {one['cheap']} | {one['cheap_accuracy']:.2f} | {one['strong_accuracy']:.2f} | "
                f"{100 * p['target_error']:.0f} % | {100 * p['mean_share_kept']:.0f} % | {error} | "
                f"{p['splits_within_the_target']} of {len(p['kept_wrong_and_unseen'])} | {p['accuracy']:.2f} |"
            )
    return "\n".join(lines)


def examples() -> str:
    """What fixed and chosen examples bring and cost."""
    lines = ["| examples | tokens of a prompt | CPU a row | right |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {f['examples']} | {f['prompt_tokens']} | {f['cpu_seconds_per_row']:.2f} s | {100 * f['accuracy']:.0f} % |"
        for f in figures("examples")
    ]
    return "\n".join(lines)


_MANY = {
    "all labels": "all labels scored, none listed",
    "all labels, listed": "all labels scored, all listed",
    "shortlist by words": "ten of them, by words",
    "shortlist by MiniLM": "ten of them, by MiniLM",
    "all labels, examples by words": "all labels scored, five examples by words",
    "shortlist and examples by words": "ten of them and five examples, by words",
    "shortlist and examples by MiniLM": "ten of them and five examples, by MiniLM",
    "MiniLM, cosine to label sentences": "no LLM: MiniLM, cosine to a sentence with the label",
    "MiniLM, logistic regression": "no LLM: MiniLM, logistic regression on the examples",
}


_LISTS = {
    "shortlist by words": ("names", '`"bm25"`'),
    "shortlist by MiniLM": ("names", "all-MiniLM-L6-v2"),
    "shortlist and examples by words": ("names and examples", '`"bm25"`'),
    "shortlist and examples by MiniLM": ("names and examples", "all-MiniLM-L6-v2"),
}


def shortlist_recall() -> str:
    """How often the right label is on shortlists of some sizes."""
    found = figures("many_labels")
    sizes = [*found[0]["recall"]["shortlist by words"]]
    heads = [f"{f['data']}, recall of {size}" for f in found for size in sizes]
    lines = [f"| compared with | by | {' | '.join(heads)} |", "| --- |" + " --- |" * (len(heads) + 1)]
    for name, (what, by) in _LISTS.items():
        cells = [f"{100 * f['recall'][name][size]:.0f} %" for f in found for size in sizes]
        lines.append(f"| {what} | {by} | {' | '.join(cells)} |")
    return "\n".join(lines)


def many_labels() -> str:
    """Scoring all labels against shortlists, nearest examples and embeddings alone."""
    parts = []
    for f in figures("many_labels"):
        lines = [
            f"| {f['data']}, {f['labels']} labels, {f['texts_with_a_label']} texts | right | above zero-shot | "
            "recall of the shortlist | tokens | CPU a row |",
            "| --- |" + " --- |" * 5,
        ]
        for name, what in _MANY.items():
            arm = f["arms"][name]
            low, high = (100 * end for end in arm["above_zero_shot_interval"])
            above = "" if name == f["zero_shot"] else f"{100 * arm['above_zero_shot']:+.0f} ({low:+.0f} to {high:+.0f})"
            recall = f"{100 * f['recall'][name]['10']:.0f} %" if name in f["recall"] else ""
            tokens = f"{arm['prompt_tokens_per_row']:.0f}" if "prompt_tokens_per_row" in arm else ""
            lines.append(
                f"| {what} | {100 * arm['accuracy']:.0f} % | {above} | {recall} | {tokens} | "
                f"{arm['cpu_seconds_per_row']:.2f} s |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


_COUNTED = {
    "0": "zero-shot",
    "1": "1 example a label",
    "2": "2 examples a label",
    "4": "4 examples a label",
    "8": "8 examples a label",
    "nearest": "of 8 a label the 4 nearest, by MiniLM",
    "tuned": "what `tune` chose, with 100 labelled texts",
    "0, calibrated with 4": "zero-shot, 4 texts a label to calibrate with",
    "0, calibrated with 8": "zero-shot, 8 texts a label to calibrate with",
    "MiniLM, cosine": "no LLM: MiniLM, cosine to a sentence with the label",
    "MiniLM, regression on 1": "no LLM: MiniLM, logistic regression on 1 text a label",
    "MiniLM, regression on 2": "the same on 2",
    "MiniLM, regression on 4": "on 4",
    "MiniLM, regression on 8": "on 8",
}


def example_counts() -> str:
    """Zero-shot against some numbers of examples, on six sets."""
    f = figures("example_counts")
    sets = f["sets"]
    lines = [f"| | mean | {' | '.join(one['data'] for one in sets)} |", "| --- |" + " --- |" * (len(sets) + 1)]
    for name, what in _COUNTED.items():
        each = " | ".join(f"{one['arms'][name]['accuracy']:.2f}" for one in sets)
        lines.append(f"| {what} | {f['means'][name]:.2f} | {each} |")
    chosen = " | ".join(str(_chosen(one)) for one in sets)
    lines.append(f"| examples a label that `tune` chose | | {chosen} |")
    return "\n".join(lines)


def _chosen(one: Any) -> int:
    evidence = one["tuning"]
    return int(evidence["candidates"][evidence["chosen"]]["n_examples"])


def races() -> str:
    """How often a search takes examples that help, and ones that do not."""
    found = figures("races")
    rows = (
        ("one of the four makes .60 into .72: it was taken", "helpful", "took_the_best"),
        ("none helps: one of them was taken", "useless", "took_examples"),
    )
    lines = [
        f"| simulated searches, five candidates, texts to compare on | {' | '.join(str(f['texts']) for f in found)} |",
        "| --- |" + " --- |" * len(found),
    ]
    for what, kind, share in rows:
        lines.append(f"| {what} | {' | '.join(f'{100 * f[kind][share]:.0f} %' for f in found)} |")
    return "\n".join(lines)


def languages() -> str:
    """Texts in four languages with English labels."""
    found = figures("languages")
    names = {"en": "English", "de": "German", "ar": "Arabic", "zh": "Chinese"}
    lines = [
        f"| sib200, 7 topics, 204 sentences | {' | '.join(names[one['language']] for one in found)} |",
        "| --- |" + " --- |" * len(found),
    ]
    for name in found[0]["arms"]:
        cells = []
        for one in found:
            low, high = one["arms"][name]["interval"]
            cells.append(f"{one['arms'][name]['accuracy']:.2f} ({low:.2f} to {high:.2f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


_SCOPED = {
    "shortlist": "no option, no threshold",
    "shortlist, threshold": "a threshold of confidence",
    "shortlist and option": "the option",
    "shortlist and option, threshold": "the option, and a threshold of its probability",
    "shortlist and option, shown": "the option, with examples out of scope",
    "shortlist and option, shown, threshold": "the same, and a threshold of its probability",
    "all labels": "all labels scored, examples by words; no option, no threshold",
    "all labels, threshold": "the same, a threshold of confidence",
    "regression": "no LLM: MiniLM, logistic regression",
    "regression, threshold": "the same, a threshold of confidence",
}


def out_of_scope() -> str:
    """An option for texts out of scope, beside a threshold."""
    f = figures("out_of_scope")
    lines = [
        f"| {f['texts']} texts, {f['texts_out_of_scope']} of them out of scope | right | of those in scope | "
        "out of scope found | of what is found, right | area under the curve |",
        "| --- |" + " --- |" * 5,
    ]
    for name, what in _SCOPED.items():
        arm = f["arms"][name]
        precision = arm["precision_out_of_scope"]
        lines.append(
            f"| {what} | {100 * arm['accuracy']:.0f} % | {100 * arm['accuracy_in_scope']:.0f} % | "
            f"{100 * arm['recall_out_of_scope']:.0f} % | {'–' if precision is None else f'{100 * precision:.0f} %'} | "
            f"{arm['area_under_curve']:.2f} |"
        )
    return "\n".join(lines)


_WAYS = {
    "constant": "the best constant answer",
    "original": "the original's way: its prompt, 256 tokens, nearest label",
    "each default": '`ask="each"`, threshold 0.5',
    "each": '`ask="each"`, calibrated',
    "each centred": "the same, each text's mean log-odds taken out",
    "once default": '`ask="once"`, default threshold',
    "once": '`ask="once"`, calibrated',
    "cosine": "MiniLM, cosine to a sentence with the label",
    "regression": "MiniLM, a logistic regression for each label",
}


def multi_label() -> str:
    """Ways to find several labels for a text."""
    f = figures("multi_label")
    averages = ("micro", "macro")
    lines = [
        "| | micro-F1 | above constant | macro-F1 | above constant | AUC | prompt tokens | CPU a text |",
        "| --- |" + " --- |" * 7,
    ]
    for name, what in _WAYS.items():
        arm = f["arms"][name]
        cells = []
        for average in averages:
            value = arm[average]
            low, high = value["interval"]
            cells.append(f"{value['f1']:.3f} ({low:.2f} to {high:.2f})")
            above = value.get("above_constant")
            low, high = above["interval"] if above else (0, 0)
            cells.append(f"{above['f1']:+.3f} ({low:+.2f} to {high:+.2f})" if above else "")
        cells.append(f"{arm['auc']:.2f}" if "auc" in arm else "")
        cost = arm["cost"]
        cells.append(f"{cost['prompt_tokens']:,.0f}" if "prompt_tokens" in cost else "")
        cells.append(f"{cost['seconds']:.2f} s" if cost else "")
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ways() -> str:
    """What ways to find a label write, and how long they take, over all texts of the six sets."""
    f = figures("six_sets")
    texts = sum(one["texts"] for one in f["sets"])
    lines = [
        "| | tokens written a text | seconds a text | seconds to learn, once | accuracy |",
        "| --- |" + " --- |" * 4,
    ]
    for name, what in _ARMS.items():
        arm = f["summary"]["arms"][name]
        learnt = [one["arms"][name].get("seconds_to_learn", 0) for one in f["sets"]]
        lines.append(
            f"| {what} | {arm['generated_tokens'] / texts:.1f} | {arm['seconds'] / texts:.2f} | "
            f"{sum(learnt) / len(learnt):.0f} | {arm['macro_accuracy']:.2f} |"
        )
    return "\n".join(lines)


def peers() -> str:
    """Peers on the same server: how right and how quick."""
    return peer_tables.compared(figures("peers"))


def peers_sets() -> str:
    """Peers' accuracy set by set, and their confidences."""
    return peer_tables.sets(figures("peers"))


def peers_changed() -> str:
    """What changes peers' answers though it should not."""
    return peer_tables.changed(figures("peers"))


def peers_in_flight() -> str:
    """Peers with more and more requests in flight."""
    return peer_tables.in_flight(figures("peers"))


def peers_unable() -> str:
    """Peers that could not be measured, and why."""
    return peer_tables.unable(figures("peers"))


PAGES = {
    "docs/costs": (ways, examples, client_overhead),
    "docs/peers": (peers, peers_sets, peers_changed, peers_in_flight, peers_unable),
    "cascade": (cascade,),
    "examples": (examples, example_counts),
    "languages": (languages,),
    "long_runs": (long_runs,),
    "many_labels": (shortlist_recall, many_labels),
    "multi_label": (multi_label,),
    "out_of_scope": (out_of_scope,),
    "serving": (serving,),
    "tuning": (races,),
}
"""The pages that have tables, and what makes these; a table's name is its function's."""


def page_path(name: str) -> Path:
    """Where a page of `PAGES` is: in the cookbook, unless its name begins with another folder's."""
    return ROOT / (f"{name}.md" if "/" in name else f"cookbook/{name}.md")


def render_page(name: str, text: str) -> str:
    """A page with its tables."""
    for table in PAGES[name]:
        text = _replaced(text, table.__name__, table())
    return text


README = (embedded, six_sets, concurrency, foreign, permits, client_overhead)
"""What makes the tables of the README."""


def render(text: str) -> str:
    """A document with its tables replaced by what the result files say."""
    for table in README:
        text = _replaced(text, table.__name__, table())
    return text


def _replaced(text: str, name: str, table: str) -> str:
    before, mark, rest = text.partition(f"<!-- figures: {name} -->\n")
    old, end, after = rest.partition("<!-- end of figures -->")
    if not mark or not end or "<!-- figures:" in old:
        raise ValueError(f"The table {name} has no `<!-- figures: {name} -->`, or that has no end of its own.")
    return f"{before}{mark}{table}\n{end}{after}"


def main() -> None:
    """Render the README and the pages that have tables in place: all of them, or none."""
    takes_no_arguments(__doc__)
    readme = ROOT / "README.md"
    rendered = {readme: render(readme.read_text(encoding="utf-8"))}
    for name in PAGES:
        page = page_path(name)
        try:
            rendered[page] = render_page(name, page.read_text(encoding="utf-8"))
        except ValueError as error:
            sys.exit(f"{page}: {error}")
    for page, text in rendered.items():
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
