"""The viewer in a notebook: a frame without a server, or a widget whose selections come back."""
