"""`python -m rag_ingestion`, the same as `rag-ingest`."""

from rag_ingestion.cli import main

if __name__ == "__main__":
    main()
