"""What a server tells without asking its model: models, versions, tokens, templates.

Called by `front`; llama.cpp's own routes are here too, as far as they are modelled.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.openai.fields import Fields, check_ids
from langchain_stormtrooper.testing.openai.options import Flavour
from langchain_stormtrooper.testing.openai.refusals import mistyped

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_stormtrooper.testing.openai.bodies import Reader
    from langchain_stormtrooper.testing.openai.options import Options

Json = dict[str, Any]

_CREATED = 1_790_000_000
_PERMISSION = {
    "id": "modelperm-0",
    "object": "model_permission",
    "created": _CREATED,
    "allow_create_engine": False,
    "allow_sampling": True,
    "allow_logprobs": True,
    "allow_search_indices": False,
    "allow_view": True,
    "allow_fine_tuning": False,
    "organization": "*",
    "group": None,
    "is_blocking": False,
}


class Facts:
    """The facts about one server.

    Args:
        options: The server's settings.
        reader: What makes prompts.
        piece: Gives the text of a token.
    """

    def __init__(self, options: Options, reader: Reader, piece: Callable[[int], str]) -> None:
        self._options = options
        self._reader = reader
        self._piece = piece

    def models(self, raw: Any) -> Json:
        """Answer `/v1/models`."""
        options, flavour = self._options, self._options.flavour
        owners = {Flavour.LLAMA_CPP: "llamacpp", Flavour.GENERIC: "gateway"}
        card: Json = {
            "id": options.model_id,
            "object": "model",
            "created": _CREATED if flavour is Flavour.GENERIC else int(time.time()),
            "owned_by": owners.get(flavour, str(flavour)),
        }
        if flavour in (Flavour.VLLM, Flavour.SGLANG):
            card |= {"root": options.model_id, "parent": None, "max_model_len": options.max_model_len}
        if flavour is Flavour.VLLM:
            card["permission"] = [_PERMISSION]
        if flavour is Flavour.LLAMA_CPP:
            card["meta"] = {"n_vocab": len(options.engine.vocabulary), "n_ctx_train": options.max_model_len}
        return {"object": "list", "data": [card]}

    def version(self, raw: Any) -> Json:
        """Answer vLLM's `/version`."""
        return {"version": self._options.version}

    def model_info(self, raw: Any) -> Json:
        """Answer SGLang's `/get_model_info`."""
        name = self._options.model_id
        return {
            "model_path": name,
            "tokenizer_path": name,
            "is_generation": True,
            "preferred_sampling_params": None,
            "weight_version": "default",
        }

    # --- tokens ---

    def tokenize(self, raw: Any) -> Json:
        """Answer `/tokenize`.

        Raises:
            ApiError: If the body is refused.
        """
        fields, options = Fields(raw, self._options), self._options
        if options.flavour is Flavour.LLAMA_CPP:
            return self._llama_tokens(fields)
        self._reader.model(fields)
        if "messages" in fields.raw and options.renders_chats:
            text, special = self._reader.rendered(fields), fields.get("add_special_tokens", bool, False)
        else:
            text, special = fields.need("prompt"), fields.get("add_special_tokens", bool, True)
        if isinstance(text, list) and options.flavour is Flavour.SGLANG:
            several = [list(self._reader.prompt(item, special=special).ids) for item in text]
            counts = [len(ids) for ids in several]
            return {"tokens": several, "count": counts, "max_model_len": options.max_model_len}
        if not isinstance(text, str):
            raise mistyped("prompt", "string_type", "Input should be a valid string", text, options)
        ids = list(self._reader.prompt(text, special=special).ids)
        answer: Json = {"count": len(ids), "max_model_len": options.max_model_len, "tokens": ids}
        if options.flavour is Flavour.VLLM:
            named = fields.get("return_token_strs", bool, False)
            answer["token_strs"] = [self._piece(token) for token in ids] if named else None
        return answer

    def detokenize(self, raw: Any) -> Json:
        """Answer `/detokenize`.

        Raises:
            ApiError: If the body is refused.
        """
        fields = Fields(raw, self._options)
        self._reader.model(fields)
        fields.need("tokens")
        ids = fields.get("tokens", list, [])
        if self._options.flavour is Flavour.VLLM:
            # vLLM leaves out what is no token of its model.
            size = len(self._options.engine.vocabulary)
            ids = [token for token in ids if isinstance(token, int) and token < size]
        check_ids(ids, "tokens", self._options)
        skips = self._options.flavour is Flavour.SGLANG and fields.get("skip_special_tokens", bool, True)
        text = self._reader.written(ids, special=not skips)
        names = {Flavour.SGLANG: "text", Flavour.LLAMA_CPP: "content"}
        return {names.get(self._options.flavour, "prompt"): text}

    def _llama_tokens(self, fields: Fields) -> Json:
        """Answer llama.cpp's `/tokenize`, which adds no special token unless told to."""
        special = fields.get("add_special", bool, False)
        ids = self._reader.prompt(fields.get("content", str, ""), special=special).ids
        if fields.get("with_pieces", bool, False):
            return {"tokens": [{"id": token, "piece": self._piece(token)} for token in ids]}
        return {"tokens": list(ids)}

    # --- llama.cpp ---

    def props(self, raw: Any) -> Json:
        """Answer llama.cpp's `/props`, with the few properties that a client may need."""
        options = self._options
        engine = options.engine
        return {
            "default_generation_settings": {"n_ctx": options.max_model_len, "params": {"n_probs": 0}},
            "total_slots": 1,
            "model_path": options.model_id,
            "chat_template": "" if options.chat_template is None else "{{ messages }}",
            "bos_token": "" if engine.bos is None else engine.name(engine.bos),
            "eos_token": engine.name(engine.eos),
            "build_info": options.version,
        }

    def apply_template(self, raw: Any) -> Json:
        """Answer llama.cpp's `/apply-template`.

        Raises:
            ApiError: If the messages cannot be rendered.
        """
        return {"prompt": self._reader.rendered(Fields(raw, self._options))}
