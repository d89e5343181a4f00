"""The HTTP edge: routes, schemas, problems, authentication, paging, documentation."""
