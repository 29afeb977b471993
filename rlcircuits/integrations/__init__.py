"""Measure a model while another library trains it. Names are imported when they are first used.

The public names are those of ``__init__.pyi``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
