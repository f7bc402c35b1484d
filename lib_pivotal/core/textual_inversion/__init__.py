"""Textual inversion: the trainable token vectors, and how captions reach the text encoders with them.

Status: careful, must stay what a generation does, see tests/e2e.
"""
