"""Reports: Markdown, figures and one self-contained HTML page, made from results' files alone."""

from eval.report.page import TIMINGS, summary_of, write_report

__all__ = ["TIMINGS", "summary_of", "write_report"]
