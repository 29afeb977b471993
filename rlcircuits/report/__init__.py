"""What is shown of comparisons: a terminal table, a plot, and JSON."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
