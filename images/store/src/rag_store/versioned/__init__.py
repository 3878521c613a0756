"""A `VectorStore` on an engine that has collections and aliases, but no transactions.

Each writing of a document has a version: the chunks are written first, then one record (the
document's) makes their version the valid one, then the former version's chunks go. Whatever a
reader finds counts only when its version is the document's. A writer that dies on the way leaves
chunks that no document names; they are removed once older than any writer can still be busy.

A tenant has a registry of small records (generations, the last sync, the lease of its writer), and
for each generation a collection of chunks and one of documents; an alias names the active one.
"""
