from .ablated import Ablated, ablated

__all__ = ["Ablated", "ablated"]
