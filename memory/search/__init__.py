"""Search: terms, BM25, embeddings, and the fusion of rankings; knows neither sessions nor records."""
