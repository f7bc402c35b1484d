"""The training run: ``loop.py`` is the map of the program.

Status: free.
"""
