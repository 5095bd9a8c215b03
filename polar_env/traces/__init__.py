"""Traces and verdict matrices: data below training and evaluation, as typed rows that are streamed."""

import lazy_loader

# Nothing heavy is imported before it is used; __init__.pyi says what there is.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
