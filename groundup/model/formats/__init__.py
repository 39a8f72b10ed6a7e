"""Models in the files of other tools: folders of Hugging Face and GGUF, in and out."""
