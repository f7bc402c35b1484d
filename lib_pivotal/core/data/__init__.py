"""Images, captions, buckets, latents and the order in which they are seen.

Status: free.
"""
