"""What a recorded run tells: prompts, heat maps, words of regions, files. No model is needed."""
