"""Jinja2 templates of the reports: HTML is escaped, Markdown is not."""

from __future__ import annotations

import base64
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from eval.statistics import Estimate

__all__ = ["render"]


def render(template: str, **values: Any) -> str:
    """Fill a template of the folder ``templates``.

    Args:
        template: its file name; the ending decides whether values are escaped.
        **values: what the template names; a missing one is an error.
    """
    return _environment().get_template(template).render(**values)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("eval.report"),
        autoescape=select_autoescape(enabled_extensions=("html",), disabled_extensions=("md",), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": _percent,
        "fraction": _fraction,
        "fixed": _fixed,
        "significant": _significant,
        "data_uri": _data_uri,
    }
    return environment


def _percent(estimate: Estimate | None) -> str:
    """Percent with interval and number of questions; a dash without an estimate."""
    return "-" if estimate is None else f"{estimate.percent()} of {estimate.count}"


def _fraction(estimate: Estimate | None, digits: int = 3) -> str:
    """A fraction with its interval; a dash without an estimate."""
    if estimate is None:
        return "-"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _fixed(value: float, digits: int = 0) -> str:
    """A number with a fixed number of decimals."""
    return f"{value:.{digits}f}"


def _significant(value: float, digits: int = 2) -> str:
    """A number with as many significant digits."""
    return f"{value:.{digits}g}"


def _data_uri(png: bytes) -> str:
    """An image as it stands in a page of one file."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
