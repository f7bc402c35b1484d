"""Makes the embeddings inside LoRA files work in prompts, in the webui of this process.

Status: careful, see tests/contract and tests/e2e: everything here stands in front of the webui's own functions.
"""
