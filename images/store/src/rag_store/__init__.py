"""The vector store interface with pgvector, Qdrant and Milvus behind it. Used by ingestion and retrieval."""
