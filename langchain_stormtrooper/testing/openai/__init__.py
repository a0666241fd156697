"""The parts of `OpenAIServer`: what vLLM, SGLang, llama.cpp's server and plain gateways do with the same routes.

A request goes one way: `front` (routes, keys, faults) → `bodies` over `fields`, with `constraints`, `grammars` and
`lengths`, makes one of `asks` → `answering` over `generating` or `scores` → `shapes`. What needs no model is told by
`facts`; `options` holds the settings and `refusals` words the errors. Nothing outside `langchain_stormtrooper.testing`
imports from here.
"""
