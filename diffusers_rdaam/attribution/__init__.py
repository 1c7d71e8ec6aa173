"""Results of a recorded run: prompts, heat maps, words of regions, files. No model is needed."""
