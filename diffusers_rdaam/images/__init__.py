"""Attribution of images that exist: their latents, noise levels, solvers, and the run."""
