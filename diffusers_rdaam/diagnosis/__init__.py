"""A check of recording on a user's own model and device, against attention in double precision."""
