"""The frozen LLM: loading it, executing any program of its layers exactly, generating, and exporting programs."""

import lazy_loader

# Nothing heavy is imported before it is used; __init__.pyi says what there is.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
