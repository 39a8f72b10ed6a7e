"""A base model → a chat model: supervised fine-tuning, preferences, verifiable rewards.

Three sources of batches for the one training loop.
"""
