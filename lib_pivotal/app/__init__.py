"""The running application: one session, its runs, presets and HTTP API; knows hosts only as a port.

Status: free; ``api.py`` routes are frozen.
"""
