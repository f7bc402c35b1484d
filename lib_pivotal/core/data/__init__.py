"""Images, captions, buckets, latents and the order in which training sees them.

Status: free.
"""
