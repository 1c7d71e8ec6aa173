"""Published protocols: prompts, noise, decision and score of each; one file a protocol."""
