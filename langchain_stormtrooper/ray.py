"""Ray Data: a dataset with a column of texts in, the same dataset with columns of labels out.

`classify_dataset` gives `tables.batches.ClassifyBatches` to Ray's `map_batches`. Reading, writing, scheduling and
starting again are Ray's. What a server may be asked at once is shared out among the actors, since each is a process of
its own and knows nothing of the others. Needs the extra `ray`, which is imported only when a dataset is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import override

from langchain_stormtrooper.arguments import check_count
from langchain_stormtrooper.detailed_classifier import DetailedClassifier
from langchain_stormtrooper.errors import ConfigurationError, MissingExtraError
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.llms.remote import RemoteLLM
from langchain_stormtrooper.tables.batches import ClassifyBatches, without_details
from langchain_stormtrooper.tables.columns import FIELDS, check_fields
from langchain_stormtrooper.text_classifier import TextClassifier

if TYPE_CHECKING:
    from ray.data import Dataset

_OURS = frozenset(
    (
        "batch_format",
        "compute",
        "concurrency",
        "fn",
        "fn_args",
        "fn_kwargs",
        "fn_constructor_args",
        "fn_constructor_kwargs",
    )
)
"""Arguments of `map_batches` that `classify_dataset` sets."""


class _Dealer:
    """Deals shares of a server's places out to actors; an actor of Ray itself.

    Args:
        shares: One for each actor.
    """

    def __init__(self, shares: Sequence[int]) -> None:
        self._shares = shares
        self._turns: dict[str, int] = {}

    def deal(self, actor: str) -> int:
        """The share of an actor: the same for one that Ray has started again."""
        return self._shares[self._turns.setdefault(actor, len(self._turns)) % len(self._shares)]


class _DealtBatches(ClassifyBatches):
    """As its base, where shares differ.

    Args:
        dealer: The handle of a `_Dealer`.
        **kwargs: As in `ClassifyBatches`.
    """

    def __init__(self, *, dealer: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._dealer = dealer

    @override
    async def aget_places(self) -> int | None:
        from ray import get_runtime_context

        # Not when it is made: one that cannot be made is replaced by another, which would get the next share.
        return cast("int", await self._dealer.deal.remote(get_runtime_context().get_actor_id()))


def classify_dataset(
    dataset: Dataset,
    classifier: TextClassifier | DetailedClassifier,
    *,
    text_column: str = "text",
    columns: Iterable[str] = FIELDS,
    prefix: str = "",
    actors: int = 2,
    batch_size: int = 1024,
    **options: Any,
) -> Dataset:
    """A dataset of Ray Data with the classifier's answers as further columns.

    Nothing is asked until the dataset is read or written. The LLM's `max_concurrency` is shared out among the actors:
    together they have no more requests in flight than the classifier would have by itself. The address of the server
    must be one that the actors' machines reach, and its key be in their environment (TGI_API_KEY).

    A row that cannot be answered has a reason and its neighbours go on. What is wrong for every row (a wrong key, no
    server, no such column) ends the run with Ray's error, which has ours in its message.

    Args:
        dataset: The dataset.
        classifier: What answers, with an LLM of this package and without headers: see `ClassifyBatches` for others.
        text_column: As in `ClassifyBatches`.
        columns: As in `ClassifyBatches`.
        prefix: As in `ClassifyBatches`.
        actors: Processes that ask. One keeps a server busy until its own CPU is.
        batch_size: Rows of a batch, of which an actor works on some at once. Equal texts of a batch share one request.
        **options: Further arguments of `map_batches`, such as `num_cpus`, `memory` or `runtime_env`.

    Returns:
        The dataset with the columns of the answers.

    Raises:
        ConfigurationError: An argument makes no sense, or there are more actors than places.
        MissingExtraError: The extra `ray` is not installed.
    """
    ray = _ray()
    if not isinstance(dataset, ray.data.Dataset):
        raise ConfigurationError(f"`dataset=` must be a ray.data.Dataset, not a {type(dataset).__name__}.")
    if refused := sorted(_OURS.intersection(options)):
        raise ConfigurationError(f"{refused} are not for you to set: call `map_batches` with ClassifyBatches yourself.")
    check_count("`actors=`", actors)
    check_count("`batch_size=`", batch_size)
    classifier = without_details(classifier)
    # Of what may be gone through once only.
    fields = check_fields(columns, has_option=classifier.out_of_scope is not None)
    settings: dict[str, Any] = {"text_column": text_column, "columns": fields, "prefix": prefix}
    known = dataset.columns(fetch_if_missing=False)
    checked = ClassifyBatches(classifier, **settings)
    if known is not None:
        checked.check_columns(known)
    shares = _shares(_sendable(classifier), actors)
    settings |= {"classifier": classifier}
    worker: type[ClassifyBatches] = ClassifyBatches
    if len(set(shares)) == 1:
        settings |= {"places": shares[0]}
    else:
        worker = _DealtBatches
        settings |= {"dealer": ray.remote(num_cpus=0)(_Dealer).remote(shares)}
    return cast(
        "Dataset",
        dataset.map_batches(
            worker,
            fn_constructor_kwargs=settings,
            compute=ray.data.ActorPoolStrategy(size=actors),
            batch_format="pyarrow",
            batch_size=batch_size,
            **options,
        ),
    )


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("classify_dataset()", "ray") from None
    return ray


def _sendable(classifier: TextClassifier) -> SelfHostedLLM:
    """The LLM of a classifier that works where it is unpickled, and whose pickle holds no key.

    Raises:
        ConfigurationError: It is none.
    """
    llm = classifier.llm
    if not isinstance(llm, SelfHostedLLM):
        why = f"A {type(llm).__name__} may have a key in its pickle"
    elif isinstance(llm, RemoteLLM) and llm.headers:
        why = "Headers are in no pickle, so that the actors would send none"
    else:
        return llm
    raise ConfigurationError(
        f"{why}: write a subclass of ClassifyBatches that creates the classifier in its `__init__`, and give it to "
        "`map_batches`."
    )


def _shares(llm: SelfHostedLLM, actors: int) -> list[int | None]:
    """How many requests each actor may have in flight; together as many as the LLM.

    Raises:
        ConfigurationError: There are not enough for all.
    """
    if not isinstance(llm, RemoteLLM):
        # In the process of the actor: there is nothing to share.
        return [None] * actors
    places = llm.max_concurrency
    if actors > places:
        raise ConfigurationError(
            f"{actors} actors cannot share {places} requests in flight, the most that the LLM may have: use fewer, or "
            "raise `max_concurrency=`."
        )
    return [places // actors + (number < places % actors) for number in range(actors)]


__all__ = ["ClassifyBatches", "classify_dataset"]
