"""``python -m diffusers_rdaam`` is ``rdaam``."""

from diffusers_rdaam.cli import app

if __name__ == "__main__":
    app()
