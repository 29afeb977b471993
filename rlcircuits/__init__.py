"""What RL post-training did to a language model's internal circuits.

The public names are those of ``__init__.pyi``. Each is imported when it is first used: pytest imports this
package at every start (its plugin is an entry point), and torch takes seconds.
"""

import lazy_loader

from rlcircuits import former_paths

former_paths.install()
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
