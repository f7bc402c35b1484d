"""The command line: thin over core and the headless host.

Status: free.
"""
