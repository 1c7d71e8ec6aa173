"""One site: the queries and keys of a call, and where its maps are added."""
