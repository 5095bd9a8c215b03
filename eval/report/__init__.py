"""Reports: Markdown, figures and one self-contained HTML page, made from results' files alone."""

from eval.report.page import summary_of, write_report

__all__ = ["summary_of", "write_report"]
