"""Which embedding a name in a prompt means while some bundles are active; knows no webui.

Status: careful, see tests/unit/test_token_table.py.
"""
