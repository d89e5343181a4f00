"""The API's formats: JSON and XML documents, their schema, codes and amounts."""
