"""Textual inversion: the trainable token vectors, and encoding captions with them.

Status: careful, must match what a generation does, see tests/e2e.
"""
