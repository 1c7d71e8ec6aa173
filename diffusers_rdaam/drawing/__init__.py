"""Pictures of heat maps and regions: overlays with PIL, figures with matplotlib, HTML."""
