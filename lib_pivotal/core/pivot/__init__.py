"""Trainable token vectors and how captions reach the text encoder with them.

Status: careful, must stay what a generation does, see tests/e2e.
"""
