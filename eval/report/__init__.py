"""The report of an evaluation: a Markdown table, figures, and one HTML page from a Jinja2 template."""

from eval.report.page import write_report

__all__ = ["write_report"]
