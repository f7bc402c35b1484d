"""The application: the training session, the bundle library and the HTTP API; hosts are known only through a port.

Status: free; ``api.py`` routes are frozen.
"""
