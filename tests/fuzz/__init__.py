"""Fuzzers of everything that parses what others wrote: manifests, stores' responses, a media service's responses.

    python -m tests.fuzz manifest --minutes 10

With atheris (`pip install atheris`) they are guided by coverage, else by mutation of good samples alone; the suite runs
each for a fixed seed.
"""
