"""Files: checked on reading and on writing, whatever their format. Knows no prompt and no model."""
