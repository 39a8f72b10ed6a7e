"""Talking with a model: a chat session, the terminal, and an OpenAI-compatible API."""
