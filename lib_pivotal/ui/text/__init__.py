"""Every text on the tab that is not in the settings' schema, one file per part of the tab.

Texts with braces are templates for ``str.format``. Sentences are never assembled from pieces, because translations are
looked up by the complete English text.

Status: free.
"""
