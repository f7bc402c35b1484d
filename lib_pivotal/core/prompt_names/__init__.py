"""Decides which embedding a name in a prompt stands for while bundles are active; independent of any webui.

Status: careful, see tests/unit/test_token_table.py.
"""
