"""The tab: its texts, its fields and their wiring; it uses the session and does not depend on a host.

Status: free; element ids are frozen. ``compat.py`` is the only file that distinguishes Gradio 3 and 4.
"""
