"""The formats of the wire: JSON and XML documents, their schema, codes, amounts."""
