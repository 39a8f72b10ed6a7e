"""Documents → a base model: next-token prediction on the train split."""
