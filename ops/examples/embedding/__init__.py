"""A product that shows answers of its own, with Burnish's feedback element beside them (ops/docs/embedding.md)."""
