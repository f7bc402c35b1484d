"""Pivotal tuning for Stable Diffusion: embeddings and a LoRA, trained together."""

__version__ = "0.1.0"
