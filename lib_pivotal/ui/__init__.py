"""The tab: words, fields and their wiring; knows the session and no host.

Status: free; element ids are frozen. ``compat.py`` is the only file that knows two Gradios.
"""
