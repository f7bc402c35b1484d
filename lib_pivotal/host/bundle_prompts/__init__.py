"""Makes the embeddings of every bundle work that a prompt names, in the webui of this process.

Status: careful, see tests/contract and tests/e2e: everything here sits inside the webui's own functions.
"""
