"""The parts of the tab: each creates its components and returns them by name; ``tab.py`` connects them.

Status: free.
"""
