"""The page's panels: what each shows, and which of its events asks what. They alone know gradio."""
