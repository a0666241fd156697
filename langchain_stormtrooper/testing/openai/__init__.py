"""The parts of `OpenAIServer`: what vLLM, SGLang, llama.cpp's server and plain gateways do with the same routes.

`options` holds the settings, `bodies` reads requests, `generating` asks the engine, `shapes` writes answers, `refusals`
words errors, `front` joins them on the wire. Nothing outside `langchain_stormtrooper.testing` imports from here.
"""
