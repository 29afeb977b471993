"""Edge attribution: sequences in, one score for every edge of every sequence out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
