"""The served page: generate, watch, point and ask. gradio is imported only where it is used."""
