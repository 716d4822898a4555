"""Tests of single modules: no network, no sleeping. Every decision of the pure modules is tried here."""
