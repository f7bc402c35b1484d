"""Settings of a run: one schema drives JSON, the tab, the API and the file's metadata.

Status: frozen, field names are in users' files; add a field with a default, never rename one
without a migration in ``io.py``. Standard library only.
"""
