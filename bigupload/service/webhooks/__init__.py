"""Telling the operator's other programs what became of files, by signed requests."""
