"""The LLM's run as callbacks see it, where a row is not answered through LangChain's own `agenerate`.

Scores and constrained generations have no counterpart in LangChain's interface, yet tracers want to see the prompt,
what came of it and the tokens. Used by `score` and `constrain`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from langchain_core.callbacks import AsyncCallbackManager, Callbacks
from langchain_core.outputs import Generation, LLMResult

from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.llms.generations import counted, token_usage
from langchain_stormtrooper.prompts import Prompt

T = TypeVar("T")


async def observed(
    llm: SelfHostedLLM,
    prompt: Prompt,
    callbacks: Callbacks,
    ask: Callable[[], Awaitable[T]],
    tell: Callable[[T], Generation],
) -> T:
    """Ask an LLM about one prompt, and report it as a run of the LLM if anybody listens.

    Args:
        llm: The LLM.
        prompt: The prompt.
        callbacks: Those of the row's run; None if nobody listens.
        ask: Asks.
        tell: What to report of the answer; its `generation_info` holds the counts of tokens.
    """
    if callbacks is None and not llm.callbacks:
        return await ask()
    manager = AsyncCallbackManager.configure(callbacks, llm.callbacks, llm.verbose, None, llm.tags, None, llm.metadata)
    runs = await manager.on_llm_start(
        llm._serialized, [str(prompt)], invocation_params=llm._identifying_params, batch_size=1
    )
    run = runs[0]
    try:
        answer = await ask()
    except BaseException as error:
        await run.on_llm_error(error, response=LLMResult(generations=[]))
        raise
    generation = tell(answer)
    await run.on_llm_end(
        LLMResult(generations=[[counted(generation, llm.get_name())]], llm_output=token_usage([generation]))
    )
    return answer
