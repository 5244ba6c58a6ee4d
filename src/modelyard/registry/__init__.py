"""Models, versions, aliases and routes in SQL, and the blob store for their files."""
