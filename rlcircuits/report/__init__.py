"""Show comparisons: tables for a terminal, a plot, an HTML page, and JSON."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
