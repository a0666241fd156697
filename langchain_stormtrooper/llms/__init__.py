"""LangChain LLMs for models that people host themselves.

`tgi` talks to a Text Generation Inference server, `llamacpp` runs a model in the process; `base` is what they share.
Import the classes from `langchain_stormtrooper`.
"""
