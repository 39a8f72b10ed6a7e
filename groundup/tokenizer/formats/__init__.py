"""The files of other tools ↔ a byte-level vocabulary.

    huggingface   ``tokenizer.json`` of Hugging Face: read and written
    ranks         rank files of tiktoken, ``tokenizer.model`` of Llama 3: read and written; ``tekken.json``: read
    gpt2          ``vocab.json`` with ``merges.txt``, ``encoder.json`` with ``vocab.bpe``: read and written
    gguf          the tokenizer inside a model file of llama.cpp: read

Each reads bytes and gives a ``Definition``, whatever is wrong with them being a ``DataError`` of one line that
``reading`` completes with the path. Tokenizers of other kinds in the same files come out as what
``SentencePieceTokenizer`` is made of. ``groundup.tokenizer.opening`` chooses the reader.
"""
