"""The viewer: attributions as one HTML page that computes by itself, without a server.

The package knows plain data only (:mod:`diffusers_rdaam.viewer.contents`); an attribution says what
of it a page holds. What is computed in the page is in ``assets/``: plain JavaScript and CSS.
"""

from diffusers_rdaam.viewer.page import viewer_page

__all__ = ["viewer_page"]
