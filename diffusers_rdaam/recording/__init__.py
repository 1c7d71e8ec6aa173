"""Recording the text attention of a denoiser while a pipeline runs."""
