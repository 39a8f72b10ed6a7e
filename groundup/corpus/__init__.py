"""Raw text → clean documents.

``sources`` says where a corpus comes from and ``fetch`` brings it; ``reading`` opens a user's own files;
``clean`` and ``dedup`` remove what a model should not learn; ``split`` keeps validation apart; ``build`` is
the pipeline that runs them in order and counts what each step removed.
"""

from groundup.corpus.document import Document, read_documents

__all__ = ["Document", "read_documents"]
