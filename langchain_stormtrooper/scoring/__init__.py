"""From next-token probabilities to a distribution over labels: one module per way of getting them.

Pure and sans-IO; engines of `llms` ask what these modules say must be asked. Labels are token sequences and together
form a trie (`trie`). What a branch of it costs depends on the server: a list of the likeliest next tokens
(`alternatives`), several such lists with a common anchor (`groups`), one constrained generation that shows its
alternatives (`path`), or the scores of prompts that end with a label (`prefill`).
"""

from langchain_stormtrooper.scoring.alternatives import Shares, read_shares
from langchain_stormtrooper.scoring.groups import Chained, anchored_groups, chain_groups
from langchain_stormtrooper.scoring.path import PathScores, path_scores
from langchain_stormtrooper.scoring.prefill import PrefillScores, prefill_scores
from langchain_stormtrooper.scoring.trie import END, Branch, LabelScores, end_where_needed, starting_pairs, walk

__all__ = [
    "END",
    "Branch",
    "Chained",
    "LabelScores",
    "PathScores",
    "PrefillScores",
    "Shares",
    "anchored_groups",
    "chain_groups",
    "end_where_needed",
    "path_scores",
    "prefill_scores",
    "read_shares",
    "starting_pairs",
    "walk",
]
