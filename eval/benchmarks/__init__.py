"""Benchmarks: every rate beside a named reference, in turns in one run, since machines are shared and noisy."""
